//! The EfficientNet families as data, and their expansion into layers.
//!
//! [`Arch`] is a family member: stages, multipliers and rounding rules as published, see
//! [`tables`]. [`Network`] is the member expanded: every block with its channels. From a network
//! come the weights that a file must hold ([`Network::convolutions`]) and, in
//! [`crate::import`], the ONNX graph. Nothing here knows weights, files or ONNX.

pub mod network;
pub mod tables;

pub use network::{Block, BlockKind, Conv, Network, Part, Place};
pub use tables::{ALL, Arch, Family};

/// Activation function after a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x * sigmoid(x)`, also called SiLU.
    Swish,
}

/// How a convolution with stride pads its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// TensorFlow's `SAME`: as much as the output needs, the odd sample at the end.
    Same,
    /// PyTorch's usual `(kernel - 1) / 2` on each side.
    Symmetric,
}

impl Padding {
    /// Padding before and after along one axis of `size` samples.
    ///
    /// Source: TensorFlow, `tf.nn.convolution`, section on padding.
    #[must_use]
    pub fn amounts(self, size: usize, kernel: usize, stride: usize) -> (usize, usize) {
        match self {
            Self::Same => {
                let outputs = size.div_ceil(stride);
                let total = ((outputs - 1) * stride + kernel).saturating_sub(size);
                (total / 2, total - total / 2)
            }
            Self::Symmetric => ((kernel - 1) / 2, (kernel - 1) / 2),
        }
    }
}

impl std::fmt::Display for Padding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Same => "same",
            Self::Symmetric => "symmetric",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Padding;

    #[test]
    fn padding_is_that_of_the_frameworks() {
        assert_eq!(Padding::Same.amounts(224, 3, 2), (0, 1));
        assert_eq!(Padding::Same.amounts(112, 5, 2), (1, 2));
        assert_eq!(Padding::Same.amounts(15, 5, 2), (2, 2));
        assert_eq!(Padding::Same.amounts(7, 5, 1), (2, 2));
        assert_eq!(Padding::Same.amounts(1, 5, 2), (2, 2));
        assert_eq!(Padding::Symmetric.amounts(224, 3, 2), (1, 1));
        assert_eq!(Padding::Symmetric.amounts(224, 1, 1), (0, 0));
    }
}
