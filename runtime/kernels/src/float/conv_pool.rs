//! A pointwise convolution whose result only its global mean leaves, some channels at a time; see
//! [`crate::conv_pool`], whose float counterpart this is.

use super::{Activation, Conv, Element, GlobalAveragePool, check_length};
use crate::conv_pool::slice_width;
use crate::{ConvGeometry, Isa, KernelError, Scratch, Workers};

/// A pointwise convolution and the mean of its result.
pub struct ConvPool<T: Element> {
    slices: Vec<(Conv<T>, GlobalAveragePool<T>)>,
    channels: usize,
    /// Channels of a slice; the last one may have fewer.
    width: usize,
}

impl<T: Element> ConvPool<T> {
    /// Packs the two layers; arguments as [`Conv::new`] takes them. `threads` is how many the work
    /// should suit.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`; another variant if the layer is wrong in
    /// itself, or not pointwise.
    pub fn new(
        isa: Isa,
        threads: usize,
        geometry: ConvGeometry,
        weights: &[f32],
        bias: &[f32],
        activation: Activation,
    ) -> Result<ConvPool<T>, KernelError> {
        let g = geometry;
        if !g.is_pointwise() {
            let why = "only a pointwise layer is averaged channel by channel";
            return Err(KernelError::Geometry(format!("{why}: {g:?}")));
        }
        g.check()?;
        check_length("weights", g.out_c * g.in_c, weights.len())?;
        check_length("bias", g.out_c, bias.len())?;
        let width = slice_width(g.out_c, threads);
        let slice = |first: usize| {
            let channels = first..(first + width).min(g.out_c);
            let geometry = ConvGeometry { out_c: channels.len(), ..g };
            let weights = &weights[channels.start * g.in_c..channels.end * g.in_c];
            let pool = GlobalAveragePool::new(isa, g.out_h * g.out_w, channels.len())?;
            Ok((Conv::new(isa, geometry, weights, &bias[channels], activation)?, pool))
        };
        let slices = (0..g.out_c).step_by(width).map(slice).collect::<Result<_, KernelError>>()?;
        Ok(ConvPool { slices, channels: g.out_c, width })
    }

    /// The names of the two kernels.
    pub fn kernels(&self) -> (&'static str, &'static str) {
        (self.slices[0].0.kernel(), self.slices[0].1.kernel())
    }

    /// Computes the mean of each channel: `input` is the whole image, `output` one value a channel.
    ///
    /// # Panics
    /// If a slice has another length, or there are fewer scratches than threads.
    pub fn run(&self, workers: &Workers, input: &[T], output: &mut [T], scratches: &mut [Scratch]) {
        assert_eq!(output.len(), self.channels, "output length");
        workers.split(output, self.width, scratches, |at, means, scratch| {
            let (conv, pool) = &self.slices[at];
            let (image, inner) = scratch.floats_and_inner(conv.geometry().output_len());
            conv.run(input, None, 0..conv.pixels(), image, inner);
            pool.run(image, means, inner);
        });
    }
}
