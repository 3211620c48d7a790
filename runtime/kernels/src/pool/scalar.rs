//! Sums over pixels: the specification. Clear, never tuned.

/// `sums[c]` becomes the sum of channel `c` over all pixels of `input` (`[pixels][channels]`).
pub(super) fn run(input: &[u8], sums: &mut [i32]) {
    sums.fill(0);
    for pixel in input.chunks_exact(sums.len()) {
        for (sum, &x) in sums.iter_mut().zip(pixel) {
            *sum += i32::from(x);
        }
    }
}
