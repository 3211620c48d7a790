//! An expansion or stem and its depthwise convolution, without the image between them: a strip of
//! its rows is made, and made anew, in the cache.

use std::ops::Range;

use crate::float::{Conv, Depthwise, Element, check_length};
use crate::{KernelError, Scratch};

/// Bytes of a strip, unless one row of the depthwise convolution reads more.
const STRIP_BYTES: usize = 128 << 10;

/// A dense convolution and the depthwise one that reads it.
pub struct Pair<T: Element> {
    expand: Conv<T>,
    depthwise: Depthwise<T>,
    /// Rows of a strip.
    rows: usize,
}

/// The rows of the image between the layers that were made last.
pub(super) struct Strip<'a, T> {
    values: &'a mut [T],
    rows: Range<usize>,
    /// Output rows end here: what only later ones read is not made.
    end: usize,
}

impl<'a, T> Strip<'a, T> {
    /// Nothing yet, of what the output rows up to `end` read.
    pub(super) fn new(values: &'a mut [T], end: usize) -> Strip<'a, T> {
        Strip { values, rows: 0..0, end }
    }
}

impl<T: Element> Pair<T> {
    /// Puts the two layers together.
    ///
    /// # Errors
    /// [`KernelError::Length`] if the second does not read what the first writes.
    pub fn new(expand: Conv<T>, depthwise: Depthwise<T>) -> Result<Pair<T>, KernelError> {
        let (front, back) = (expand.geometry(), depthwise.geometry());
        check_length("expanded rows", front.out_h, back.in_h)?;
        check_length("expanded columns", front.out_w, back.in_w)?;
        check_length("expanded channels", front.out_c, back.in_c)?;
        let row = back.in_w * back.in_c * size_of::<T>();
        let window = (back.kernel_h - 1) * back.dilation_h + 1;
        let rows = (STRIP_BYTES / row).max(window + back.stride_h).min(back.in_h);
        Ok(Pair { expand, depthwise, rows })
    }

    /// The first layer.
    pub fn expand(&self) -> &Conv<T> {
        &self.expand
    }

    /// The second layer.
    pub fn depthwise(&self) -> &Depthwise<T> {
        &self.depthwise
    }

    /// Values of a strip.
    pub(super) fn strip_len(&self) -> usize {
        let g = self.depthwise.geometry();
        self.rows * g.in_w * g.in_c
    }

    /// Computes output rows `rows`, one after the other.
    pub(super) fn run(
        &self,
        input: &[T],
        rows: Range<usize>,
        output: &mut [T],
        strip: &mut Strip<'_, T>,
        scratch: &mut Scratch,
    ) {
        let g = self.depthwise.geometry();
        let row = g.in_w * g.in_c;
        for (y, out) in rows.zip(output.chunks_exact_mut(g.out_w * g.out_c)) {
            let read = g.input_rows(y..y + 1);
            if read.end > strip.rows.end {
                self.refill(input, read.start, strip, scratch);
            }
            let there = &strip.values[..strip.rows.len() * row];
            self.depthwise.run_within(there, strip.rows.start, y..y + 1, out);
        }
    }

    /// Makes the rows from `start` on, as many as there is room for; keeps those that are there.
    fn refill(&self, input: &[T], start: usize, strip: &mut Strip<'_, T>, scratch: &mut Scratch) {
        let g = self.depthwise.geometry();
        let row = g.in_w * g.in_c;
        let kept = if strip.rows.contains(&start) { start..strip.rows.end } else { start..start };
        if !kept.is_empty() {
            let from = (start - strip.rows.start) * row;
            strip.values.copy_within(from..from + kept.len() * row, 0);
        }
        let last = g.input_rows(0..strip.end).end;
        let made = kept.end..(start + self.rows).min(last);
        let pixels = made.start * g.in_w..made.end * g.in_w;
        let to = &mut strip.values[kept.len() * row..][..made.len() * row];
        self.expand.run(input, None, pixels, to, scratch);
        strip.rows = start..made.end;
    }
}
