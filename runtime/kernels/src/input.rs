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
}
