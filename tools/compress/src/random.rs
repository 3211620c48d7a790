//! Pseudo-random numbers that are the same on every machine.

/// Source: Steele, Lea and Flood (2014), the generator of Java's `SplittableRandom`.
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform, centred, of the given standard deviation. Only exact operations and one square
    /// root: the same on every machine.
    pub(crate) fn uniform(&mut self, deviation: f64) -> f32 {
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        ((2.0 * unit - 1.0) * 3.0_f64.sqrt() * deviation) as f32
    }
}
