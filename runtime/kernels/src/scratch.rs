//! Working memory that kernels borrow while they run.

use crate::float::Element;
use crate::memory::{Bytes, Line};

/// A reusable, cache-line aligned buffer. It grows when a kernel needs more and never shrinks:
/// once each kernel of a network ran with it, running allocates nothing.
///
/// One `Scratch` serves any number of kernels one after the other; each thread needs its own.
#[derive(Default)]
pub struct Scratch {
    lines: Vec<Line>,
    /// For kernels that run inside another one.
    inner: Option<Box<Scratch>>,
}

impl Scratch {
    /// An empty buffer.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// Bytes held now.
    pub fn capacity_bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
            + self.inner.as_ref().map_or(0, |inner| inner.capacity_bytes())
    }

    /// Makes it at least as large as another one, so that what ran with that one runs with this one
    /// without allocating.
    pub fn reserve_like(&mut self, other: &Scratch) {
        self.bytes(other.lines.len() * size_of::<Line>());
        if let Some(other) = &other.inner {
            self.inner.get_or_insert_default().reserve_like(other);
        }
    }

    /// `len` bytes with arbitrary (initialised) content, aligned to 64.
    pub(crate) fn bytes(&mut self, len: usize) -> &mut [u8] {
        let lines = len.div_ceil(size_of::<Line>());
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; 64]));
        }
        &mut as_bytes_of(&mut self.lines)[..len]
    }

    /// Pieces of bytes with arbitrary (initialised) content, all aligned to 64.
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
    pub(crate) fn pieces<const N: usize>(&mut self, lens: [usize; N]) -> [&mut [u8]; N] {
        self.pieces_and_inner(lens).0
    }

    /// [`Scratch::pieces`], and working memory for kernels that run meanwhile.
    pub(crate) fn pieces_and_inner<const N: usize>(
        &mut self,
        lens: [usize; N],
    ) -> ([&mut [u8]; N], &mut Scratch) {
        let whole = |len: usize| len.next_multiple_of(size_of::<Line>());
        self.bytes(lens.map(whole).iter().sum());
        let mut all = as_bytes_of(&mut self.lines);
        let pieces = lens.map(|len| {
            let (piece, rest) = std::mem::take(&mut all).split_at_mut(whole(len));
            all = rest;
            &mut piece[..len]
        });
        (pieces, self.inner.get_or_insert_default())
    }

    /// `len` values of 16 bits with arbitrary (initialised) content, aligned to 64.
    pub(crate) fn i16s(&mut self, len: usize) -> &mut [i16] {
        self.bytes_and_i16s(0, len).1
    }

    /// `bytes` bytes and `len` values of 16 bits, both with arbitrary (initialised) content, both
    /// aligned to 64.
    pub(crate) fn bytes_and_i16s(&mut self, bytes: usize, len: usize) -> (&mut [u8], &mut [i16]) {
        let offset = bytes.next_multiple_of(size_of::<Line>());
        let all = self.bytes(offset + len * size_of::<i16>());
        let (first, second) = all.split_at_mut(offset);
        // SAFETY: the bytes are initialised, aligned to 64, exactly `len` values long, and any
        // bit pattern is a valid i16.
        let values =
            unsafe { std::slice::from_raw_parts_mut(second.as_mut_ptr().cast::<i16>(), len) };
        (&mut first[..bytes], values)
    }

    /// `len` values of 32 bits with arbitrary (initialised) content, aligned to 64.
    pub(crate) fn i32s(&mut self, len: usize) -> &mut [i32] {
        let bytes = self.bytes(len * size_of::<i32>());
        // SAFETY: as in `i16s`.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<i32>(), len) }
    }

    /// `len` floats with arbitrary (initialised) content, aligned to 64.
    pub(crate) fn floats<E: Element>(&mut self, len: usize) -> &mut [E] {
        as_floats_mut(self.bytes(len * size_of::<E>()))
    }

    /// [`Scratch::floats`], and working memory for kernels that run meanwhile.
    pub(crate) fn floats_and_inner<E: Element>(&mut self, len: usize) -> (&mut [E], &mut Scratch) {
        let ([bytes], inner) = self.pieces_and_inner([len * size_of::<E>()]);
        (as_floats_mut(bytes), inner)
    }
}

/// Floats in scratch bytes.
///
/// # Panics
/// If the bytes are not aligned, or not a whole number of values.
fn as_floats_mut<E: Element>(bytes: &mut [u8]) -> &mut [E] {
    // SAFETY: the bytes are initialised; any bit pattern is a valid `f32` and a valid `f16`, and there
    // are no other elements.
    let (head, values, tail) = unsafe { bytes.align_to_mut::<E>() };
    assert!(head.is_empty() && tail.is_empty());
    values
}

/// The bytes of some lines.
fn as_bytes_of(lines: &mut [Line]) -> &mut [u8] {
    let len = size_of_val(lines);
    // SAFETY: `Line` is 64 plain bytes without padding, so the lines are initialised bytes.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<u8>(), len) }
}

/// Packed weights: floats that stay as they are, aligned to 64.
pub(crate) struct PackedFloats<E> {
    bytes: Bytes,
    element: std::marker::PhantomData<E>,
}

impl<E: Element> PackedFloats<E> {
    /// `len` values, written by `fill` over zeros.
    pub(crate) fn new(len: usize, fill: impl FnOnce(&mut [E])) -> PackedFloats<E> {
        let mut bytes = Bytes::zeroed(len * size_of::<E>());
        fill(as_floats_mut(&mut bytes));
        PackedFloats { bytes, element: std::marker::PhantomData }
    }

    /// The values.
    pub(crate) fn values(&self) -> &[E] {
        let len = self.bytes.len() / size_of::<E>();
        // SAFETY: `new` made the bytes for `len` values; they are initialised and aligned, and any bit
        // pattern is a valid value.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast::<E>(), len) }
    }
}

/// Packed weights: 16-bit values that stay as they are, aligned to 64.
#[derive(Default)]
pub(crate) struct Packed16(Bytes);

impl Packed16 {
    /// `len` values, written by `fill` over zeros.
    pub(crate) fn new(len: usize, fill: impl FnOnce(&mut [i16])) -> Packed16 {
        let mut bytes = Bytes::zeroed(len * size_of::<i16>());
        fill(as_i16s_mut(&mut bytes));
        Packed16(bytes)
    }

    /// The values.
    pub(crate) fn values(&self) -> &[i16] {
        let len = self.0.len() / size_of::<i16>();
        // SAFETY: `new` made the bytes for `len` values; they are initialised and aligned, and any bit
        // pattern is a valid i16.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast::<i16>(), len) }
    }
}

/// Packed weights: bytes that stay as they are, aligned to 64.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
#[derive(Default)]
pub(crate) struct Packed8(Bytes);

#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
impl Packed8 {
    /// `len` bytes, written by `fill` over zeros.
    pub(crate) fn new(len: usize, fill: impl FnOnce(&mut [u8])) -> Packed8 {
        let mut bytes = Bytes::zeroed(len);
        fill(&mut bytes);
        Packed8(bytes)
    }

    /// The bytes.
    pub(crate) fn values(&self) -> &[u8] {
        &self.0
    }
}

/// The bytes of 16-bit values.
#[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
pub(crate) fn as_bytes(values: &[i16]) -> &[u8] {
    // SAFETY: any initialised memory can be read as bytes.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

/// The bytes of 16-bit values.
pub(crate) fn as_bytes_mut(values: &mut [i16]) -> &mut [u8] {
    let len = size_of_val(values);
    // SAFETY: any initialised memory can be read as bytes, and any bytes are valid values.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u8>(), len) }
}

/// 16-bit values in scratch bytes.
///
/// # Panics
/// If the bytes are not aligned, or not a whole number of values.
pub(crate) fn as_i16s_mut(bytes: &mut [u8]) -> &mut [i16] {
    // SAFETY: the bytes are initialised, and any bit pattern is a valid i16.
    let (head, values, tail) = unsafe { bytes.align_to_mut::<i16>() };
    assert!(head.is_empty() && tail.is_empty());
    values
}

/// 32-bit values in scratch bytes.
///
/// # Panics
/// If the bytes are not aligned, or not a whole number of values.
pub(crate) fn as_i32s_mut(bytes: &mut [u8]) -> &mut [i32] {
    // SAFETY: the bytes are initialised, and any bit pattern is a valid i32.
    let (head, values, tail) = unsafe { bytes.align_to_mut::<i32>() };
    assert!(head.is_empty() && tail.is_empty());
    values
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch").field("capacity_bytes", &self.capacity_bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_once_and_stays_aligned() {
        let mut scratch = Scratch::new();
        assert_eq!(scratch.capacity_bytes(), 0);
        assert_eq!(scratch.i16s(33).len(), 33);
        assert_eq!(scratch.capacity_bytes(), 128);
        let address = scratch.bytes(1).as_ptr() as usize;
        assert_eq!(address % 64, 0);
        assert_eq!(scratch.i32s(32).len(), 32);
        assert_eq!(scratch.capacity_bytes(), 128, "large enough already");
        let mut other = Scratch::new();
        other.reserve_like(&scratch);
        assert_eq!(other.capacity_bytes(), 128);
    }

    #[test]
    fn pieces_are_apart_and_what_runs_inside_has_its_own() {
        let mut scratch = Scratch::new();
        let ([a, b], inner) = scratch.pieces_and_inner([70, 3]);
        (a[69], b[0]) = (1, 2);
        inner.bytes(65).fill(3);
        assert_eq!((a.len(), b.len(), a[69], b[0]), (70, 3, 1, 2));
        assert_eq!(scratch.capacity_bytes(), 192 + 128);
        let mut other = Scratch::new();
        other.reserve_like(&scratch);
        assert_eq!(other.capacity_bytes(), 192 + 128);
    }
}
