//! Random numbers that are the same on every machine and in every version.

/// A generator of 64 bits of state. Source: Steele, Lea and Flood (2014), that of Java's
/// `SplittableRandom`.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The generator of a place (a picture, a step) under a seed: as good as independent of those of
    /// other places, and it can be made again without the numbers before it.
    #[must_use]
    pub fn at(seed: u64, place: &[u64]) -> Self {
        let mut state = seed;
        for &index in place {
            state = Self(state ^ index.wrapping_mul(0xd129_0d3c_3f6a_8d05)).next_u64();
        }
        Self(state)
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform, centred, of the given standard deviation. Only exact operations and one square
    /// root: the same on every machine.
    pub fn centred(&mut self, deviation: f64) -> f32 {
        ((2.0 * self.unit() - 1.0) * 3.0_f64.sqrt() * deviation) as f32
    }

    /// Uniform in `0..end`, which is over zero.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.unit() * end as f64) as usize).min(end - 1)
    }

    /// Puts a slice in random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
