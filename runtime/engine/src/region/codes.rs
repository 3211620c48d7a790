//! Weight codes as the model stores them, one byte a weight, until a kernel is packed from them.
//!
//! They are never widened as a whole: a network's weights are most of its memory, so each layer's
//! bytes move from the file's tensor into the step and are freed when the layer's kernel is ready.

/// Constant int8 or uint8 weights, and what is subtracted from them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Codes {
    /// Where the bytes are.
    pub stored: Stored,
    /// The bytes are `i8`, not `u8`.
    pub signed: bool,
    /// Zero point of each output channel, or of all.
    pub zero_points: Vec<i16>,
    /// The tensor's axes as (before, output channels, behind).
    pub shape: [usize; 3],
    /// Output channels whose codes count as 0.
    pub silent: Vec<usize>,
}

/// Where the bytes of weights are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stored {
    /// Still in the graph's initializer of this name.
    Initializer(String),
    /// Here.
    Here(Vec<u8>),
}

impl Default for Stored {
    fn default() -> Self {
        Self::Here(Vec::new())
    }
}

impl Codes {
    /// Number of weights.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    fn zero_point(&self, channel: usize) -> i16 {
        match *self.zero_points {
            [one] => one,
            _ => self.zero_points[channel],
        }
    }

    /// For each output channel the sum of |code - zero point|. `bytes` are all weights as stored.
    pub(crate) fn magnitudes(&self, bytes: &[u8]) -> Vec<u64> {
        let [_, channels, behind] = self.shape;
        let mut sums = vec![0; channels];
        for block in bytes.chunks_exact(channels * behind) {
            for (channel, part) in block.chunks_exact(behind).enumerate() {
                let zero = i32::from(self.zero_point(channel));
                sums[channel] += if self.signed {
                    magnitude(part, |b| i32::from(b as i8) - zero)
                } else {
                    magnitude(part, |b| i32::from(b) - zero)
                };
            }
        }
        sums
    }

    /// Codes minus their zero point, `[output channel][axes before][axes behind]`; nothing where
    /// the bytes are not here.
    pub(crate) fn widened(&self) -> Vec<i16> {
        let [before, channels, behind] = self.shape;
        let Stored::Here(bytes) = &self.stored else { return Vec::new() };
        if bytes.len() != self.len() {
            return Vec::new();
        }
        let mut codes = Vec::with_capacity(bytes.len());
        for channel in 0..channels {
            let zero = self.zero_point(channel);
            for block in 0..before {
                let part = &bytes[(block * channels + channel) * behind..][..behind];
                if self.silent.contains(&channel) {
                    codes.resize(codes.len() + behind, 0);
                } else if self.signed {
                    codes.extend(part.iter().map(|&b| i16::from(b as i8) - zero));
                } else {
                    codes.extend(part.iter().map(|&b| i16::from(b) - zero));
                }
            }
        }
        codes
    }
}

fn magnitude(part: &[u8], code: impl Fn(u8) -> i32) -> u64 {
    // 2^16 times 255 fits 32 bits, which vectors add faster than 64.
    let sum = |piece: &[u8]| piece.iter().map(|&b| code(b).unsigned_abs()).sum::<u32>();
    part.chunks(1 << 16).map(|piece| u64::from(sum(piece))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_come_first_less_their_zero_points() {
        let codes = Codes {
            stored: Stored::Here(vec![1, 2, 3, 4, 255, 6]),
            signed: true,
            zero_points: vec![0, 2],
            shape: [3, 2, 1],
            silent: Vec::new(),
        };
        assert_eq!(codes.widened(), [1, 3, -1, 0, 2, 4]);
        assert_eq!(codes.magnitudes(&[1, 2, 3, 4, 255, 6]), [5, 6]);
        let unsigned = Codes { signed: false, shape: [1, 2, 3], ..codes.clone() };
        assert_eq!(unsigned.widened(), [1, 2, 3, 2, 253, 4]);
        assert_eq!(unsigned.magnitudes(&[1, 2, 3, 4, 255, 6]), [6, 259]);
        let silent = Codes { silent: vec![1], ..unsigned };
        assert_eq!(silent.widened(), [1, 2, 3, 0, 0, 0]);
    }

    #[test]
    fn sums_do_not_overflow() {
        let codes = Codes { zero_points: vec![0], shape: [1, 1, 1 << 25], ..Codes::default() };
        assert_eq!(codes.magnitudes(&vec![255; 1 << 25]), [255 << 25]);
    }
}
