//! The shape of a two-dimensional convolution, and the checks that make indexing safe.

use crate::KernelError;

/// Sizes above this are refused: every element count then fits an `i32` and an `isize`.
const MAX_ELEMENTS: usize = i32::MAX as usize;

/// Shape of a dense or depthwise convolution of one NHWC image.
///
/// Output pixel (`y`, `x`) and tap (`i`, `j`) read input pixel
/// (`y*stride_h + i*dilation_h - pad_top`, `x*stride_w + j*dilation_w - pad_left`); outside the
/// image the input's zero point is read. Padding at the bottom and at the right is whatever
/// `out_h` and `out_w` imply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConvGeometry {
    /// Input rows.
    pub in_h: usize,
    /// Input columns.
    pub in_w: usize,
    /// Input channels.
    pub in_c: usize,
    /// Output rows.
    pub out_h: usize,
    /// Output columns.
    pub out_w: usize,
    /// Output channels.
    pub out_c: usize,
    /// Filter rows.
    pub kernel_h: usize,
    /// Filter columns.
    pub kernel_w: usize,
    /// Input rows from one output row to the next.
    pub stride_h: usize,
    /// Input columns from one output column to the next.
    pub stride_w: usize,
    /// Input rows from one tap to the next.
    pub dilation_h: usize,
    /// Input columns from one tap to the next.
    pub dilation_w: usize,
    /// Rows of padding above the image.
    pub pad_top: usize,
    /// Columns of padding left of the image.
    pub pad_left: usize,
}

impl ConvGeometry {
    /// A convolution with filters of one pixel, stride 1 and no padding, on `h` x `w` pixels.
    pub fn pointwise(h: usize, w: usize, in_c: usize, out_c: usize) -> ConvGeometry {
        ConvGeometry {
            in_h: h,
            in_w: w,
            in_c,
            out_h: h,
            out_w: w,
            out_c,
            kernel_h: 1,
            kernel_w: 1,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 0,
            pad_left: 0,
        }
    }

    /// Whether output pixel `p` reads exactly input pixel `p`: a matrix product.
    pub fn is_pointwise(&self) -> bool {
        self.kernel_h == 1
            && self.kernel_w == 1
            && self.stride_h == 1
            && self.stride_w == 1
            && self.pad_top == 0
            && self.pad_left == 0
            && self.in_h == self.out_h
            && self.in_w == self.out_w
    }

    /// Multiply-accumulates of a dense convolution of this shape (padding counted as computed).
    pub fn macs(&self) -> u64 {
        self.macs_depthwise() * self.in_c as u64
    }

    /// Multiply-accumulates of a depthwise convolution of this shape (padding counted as
    /// computed).
    pub fn macs_depthwise(&self) -> u64 {
        self.out_h as u64
            * self.out_w as u64
            * self.out_c as u64
            * self.kernel_h as u64
            * self.kernel_w as u64
    }

    /// Elements of one input image.
    pub fn input_len(&self) -> usize {
        self.in_h * self.in_w * self.in_c
    }

    /// Elements of one output image.
    pub fn output_len(&self) -> usize {
        self.out_h * self.out_w * self.out_c
    }

    /// Taps of one filter plane.
    pub(crate) fn taps(&self) -> usize {
        self.kernel_h * self.kernel_w
    }

    /// Input row read by output row `y` and tap row `i`, or `None` in the padding.
    #[inline]
    pub(crate) fn input_row(&self, y: usize, i: usize) -> Option<usize> {
        (y * self.stride_h + i * self.dilation_h)
            .checked_sub(self.pad_top)
            .filter(|&row| row < self.in_h)
    }

    /// Input rows from the first to the last that some output rows read.
    pub(crate) fn input_rows(&self, rows: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let Some(last) = rows.clone().last() else { return 0..0 };
        let start = (rows.start * self.stride_h).saturating_sub(self.pad_top);
        let end = last * self.stride_h + (self.kernel_h - 1) * self.dilation_h + 1;
        let end = end.saturating_sub(self.pad_top).min(self.in_h);
        start.min(end)..end
    }

    /// Input column read by output column `x` and tap column `j`, or `None` in the padding.
    #[inline]
    pub(crate) fn input_col(&self, x: usize, j: usize) -> Option<usize> {
        (x * self.stride_w + j * self.dilation_w)
            .checked_sub(self.pad_left)
            .filter(|&col| col < self.in_w)
    }

    /// Output columns whose windows lie within the image's columns.
    pub(crate) fn inner_columns(&self) -> std::ops::Range<usize> {
        let first = self.pad_left.div_ceil(self.stride_w).min(self.out_w);
        let reach = (self.kernel_w - 1) * self.dilation_w + 1;
        let end = (self.in_w + self.pad_left)
            .checked_sub(reach)
            .map_or(0, |last| last / self.stride_w + 1)
            .min(self.out_w);
        first..end.max(first)
    }

    /// Checks what every kernel relies on: no zero size, no overflow, no window wholly in the
    /// padding at the image's edges.
    ///
    /// # Errors
    /// [`KernelError::Geometry`] saying which of these does not hold.
    pub fn check(&self) -> Result<(), KernelError> {
        let refuse = |why: &str| Err(KernelError::Geometry(format!("{why}: {self:?}")));
        let sizes = [
            self.in_h,
            self.in_w,
            self.in_c,
            self.out_h,
            self.out_w,
            self.out_c,
            self.kernel_h,
            self.kernel_w,
            self.stride_h,
            self.stride_w,
            self.dilation_h,
            self.dilation_w,
        ];
        if sizes.contains(&0) {
            return refuse("a size is zero");
        }
        let product = |factors: &[usize]| {
            factors
                .iter()
                .try_fold(1usize, |all, &f| all.checked_mul(f))
                .filter(|&all| all <= MAX_ELEMENTS)
        };
        if product(&[self.in_h, self.in_w, self.in_c]).is_none()
            || product(&[self.out_h, self.out_w, self.out_c]).is_none()
            || product(&[self.kernel_h, self.kernel_w, self.in_c, self.out_c]).is_none()
        {
            return refuse("a tensor has more than 2147483647 elements");
        }
        let axes = [
            (self.in_h, self.out_h, self.kernel_h, self.stride_h, self.dilation_h, self.pad_top),
            (self.in_w, self.out_w, self.kernel_w, self.stride_w, self.dilation_w, self.pad_left),
        ];
        for (input, output, kernel, stride, dilation, pad) in axes {
            let reach = product(&[kernel - 1, dilation]);
            let last = product(&[output - 1, stride]);
            let (Some(reach), Some(last)) = (reach, last) else {
                return refuse("a window reaches beyond 2147483647");
            };
            if pad > reach {
                return refuse("the padding before the image is as large as the filter");
            }
            if last >= input + pad {
                return refuse("the last window lies wholly in the padding after the image");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> ConvGeometry {
        ConvGeometry {
            kernel_h: 3,
            kernel_w: 3,
            pad_top: 1,
            pad_left: 1,
            ..ConvGeometry::pointwise(8, 9, 4, 5)
        }
    }

    #[test]
    fn sound_shapes_pass() {
        assert_eq!(good().check(), Ok(()));
        assert_eq!(ConvGeometry::pointwise(1, 1, 1, 1).check(), Ok(()));
        assert_eq!(good().macs(), 8 * 9 * 4 * 5 * 9);
    }

    #[test]
    fn contradictions_are_refused() {
        let bad = [
            ConvGeometry { in_c: 0, ..good() },
            ConvGeometry { stride_w: 0, ..good() },
            ConvGeometry { dilation_h: 0, ..good() },
            ConvGeometry { pad_top: 3, ..good() },
            ConvGeometry { out_h: 10, ..good() },
            ConvGeometry { stride_w: 2, ..good() },
            ConvGeometry { in_h: usize::MAX, ..good() },
            ConvGeometry { in_h: 1 << 31, in_w: 1 << 31, in_c: 4, ..good() },
            ConvGeometry { dilation_h: usize::MAX, ..good() },
            ConvGeometry { out_c: 1 << 30, ..good() },
        ];
        for geometry in bad {
            assert!(
                matches!(geometry.check(), Err(KernelError::Geometry(_))),
                "{geometry:?} must be refused"
            );
        }
    }
}
