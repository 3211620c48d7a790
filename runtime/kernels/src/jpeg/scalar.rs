//! The specification; the transform is written once for eight values of whatever vector type.

use super::{Block, Spread};

/// Bits after the point of a constant.
const CONST_BITS: u32 = 13;
/// Bits that the first pass keeps after the point.
const PASS1_BITS: u32 = 2;

/// Eight `i32`, one for each column or row of a block. Arithmetic wraps.
pub(super) trait Lanes: Copy {
    fn splat(value: i32) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, by: i32) -> Self;
    fn shift_left<const N: i32>(self) -> Self;
    fn shift_right<const N: i32>(self) -> Self;
}

impl Lanes for [i32; 8] {
    #[inline(always)]
    fn splat(value: i32) -> Self {
        [value; 8]
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i].wrapping_add(other[i]))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i].wrapping_sub(other[i]))
    }
    #[inline(always)]
    fn mul(self, by: i32) -> Self {
        self.map(|value| value.wrapping_mul(by))
    }
    #[inline(always)]
    fn shift_left<const N: i32>(self) -> Self {
        self.map(|value| value << N)
    }
    #[inline(always)]
    fn shift_right<const N: i32>(self) -> Self {
        self.map(|value| value >> N)
    }
}

/// A pass whose results keep `PASS1_BITS` bits after the point.
#[inline(always)]
pub(super) fn first_pass<L: Lanes>(x: [L; 8]) -> [L; 8] {
    pass::<L, { (CONST_BITS - PASS1_BITS) as i32 }>(x)
}

/// A pass that ends with samples, less 128.
#[inline(always)]
pub(super) fn second_pass<L: Lanes>(x: [L; 8]) -> [L; 8] {
    pass::<L, { (CONST_BITS + PASS1_BITS + 3) as i32 }>(x)
}

/// One dimension; the multipliers are the cosine sums of the paper in units of 2^-13.
#[inline(always)]
fn pass<L: Lanes, const SHIFT: i32>(x: [L; 8]) -> [L; 8] {
    // Even part.
    let z1 = x[2].add(x[6]).mul(4433);
    let (t2, t3) = (z1.sub(x[6].mul(15137)), z1.add(x[2].mul(6270)));
    let t0 = x[0].add(x[4]).shift_left::<{ CONST_BITS as i32 }>();
    let t1 = x[0].sub(x[4]).shift_left::<{ CONST_BITS as i32 }>();
    // Half of the last place, for rounding, once in each sum.
    let half = L::splat(1 << (SHIFT - 1));
    let (t0, t1) = (t0.add(half), t1.add(half));
    let even = [t0.add(t3), t1.add(t2), t1.sub(t2), t0.sub(t3)];
    // Odd part.
    let (z1, z2) = (x[7].add(x[1]).mul(-7373), x[5].add(x[3]).mul(-20995));
    let (z3, z4) = (x[7].add(x[3]), x[5].add(x[1]));
    let z5 = z3.add(z4).mul(9633);
    let (z3, z4) = (z3.mul(-16069).add(z5), z4.mul(-3196).add(z5));
    let odd = [
        x[1].mul(12299).add(z1).add(z4),
        x[3].mul(25172).add(z2).add(z3),
        x[5].mul(16819).add(z2).add(z4),
        x[7].mul(2446).add(z1).add(z3),
    ];
    std::array::from_fn(|i| {
        let sum = if i < 4 { even[i].add(odd[i]) } else { even[7 - i].sub(odd[7 - i]) };
        sum.shift_right::<SHIFT>()
    })
}

fn transpose(x: [[i32; 8]; 8]) -> [[i32; 8]; 8] {
    std::array::from_fn(|row| x.map(|column| column[row]))
}

pub(super) fn inverse(block: &Block, to: &mut [u8], stride: usize) {
    let rows = std::array::from_fn(|row| std::array::from_fn(|i| block[row * 8 + i].into()));
    let columns = second_pass(transpose(first_pass(rows)));
    for (row, to) in transpose(columns).into_iter().zip(to.chunks_mut(stride)) {
        to[..8].copy_from_slice(&row.map(|value| value.saturating_add(128).clamp(0, 255) as u8));
    }
}

#[inline(always)]
pub(super) fn sums(near: &[u8], far: &[u8], to: &mut [u16]) {
    for ((to, &near), &far) in to.iter_mut().zip(near).zip(far) {
        *to = 3 * u16::from(near) + u16::from(far);
    }
}

#[inline(always)]
pub(super) fn spread(how: Spread, from: &[u16], to: &mut [u8]) {
    let Spread { round, shift } = how;
    let neighbours = from.iter().zip(&from[1..]).zip(&from[2..]);
    for (((&left, &own), &right), to) in neighbours.zip(to.as_chunks_mut::<2>().0) {
        let three = own.wrapping_mul(3);
        let first = three.wrapping_add(left).wrapping_add(round[0]) >> shift;
        let second = three.wrapping_add(right).wrapping_add(round[1]) >> shift;
        // Both samples as one value is what becomes vector code.
        *to = ((first & 255) | (second << 8)).to_le_bytes();
    }
}
