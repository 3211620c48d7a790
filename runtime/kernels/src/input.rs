//! What a layer may assume of the activations it reads.

/// The codes of a layer's input: their zero point, and the range in which the caller promises all
/// of them to lie.
///
/// A narrow range lets some kernels add more products before they widen. Codes outside it give
/// unspecified results, though never undefined behaviour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InputCodes {
    /// The code that stands for 0, and what reading outside the image yields. It counts as part
    /// of the range even if it lies outside `min..=max`.
    pub zero_point: u8,
    /// Smallest code.
    pub min: u8,
    /// Largest code.
    pub max: u8,
}

impl InputCodes {
    /// Any code may occur.
    pub const fn any(zero_point: u8) -> InputCodes {
        InputCodes { zero_point, min: 0, max: 255 }
    }

    /// The same with the zero point inside the range.
    pub(crate) fn including_zero_point(self) -> InputCodes {
        InputCodes {
            zero_point: self.zero_point,
            min: self.min.min(self.zero_point),
            max: self.max.max(self.zero_point),
        }
    }

    /// The code that kernels on signed bytes subtract: both ends of the range then fit.
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
    pub(crate) fn middle(self) -> u8 {
        self.min.midpoint(self.max) + (self.max - self.min) % 2
    }

    /// The largest magnitude of a code less the middle.
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
    pub(crate) fn largest(self) -> i32 {
        i32::from((self.middle() - self.min).max(self.max - self.middle()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_less_its_middle_fits_a_signed_byte() {
        for min in 0..=255 {
            for max in min..=255 {
                let codes = InputCodes { zero_point: min, min, max };
                let middle = i32::from(codes.middle());
                let (low, high) = (i32::from(min) - middle, i32::from(max) - middle);
                assert!(low >= -128 && high <= 127, "{min}..={max}");
                assert_eq!(codes.largest(), high.max(-low), "{min}..={max}");
            }
        }
        assert_eq!((InputCodes::any(0).middle(), InputCodes::any(0).largest()), (128, 128));
        let seven = InputCodes { zero_point: 3, min: 0, max: 127 };
        assert_eq!((seven.middle(), seven.largest()), (64, 64));
    }

    #[test]
    fn the_zero_point_is_part_of_the_range() {
        let codes = InputCodes { zero_point: 9, min: 10, max: 20 };
        assert_eq!(codes.including_zero_point(), InputCodes { min: 9, ..codes });
        let codes = InputCodes { zero_point: 200, ..codes };
        assert_eq!(codes.including_zero_point(), InputCodes { max: 200, ..codes });
    }
}
