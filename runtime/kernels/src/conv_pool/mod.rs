//! A pointwise convolution whose result only its global mean leaves: the head of a classifier. Some
//! channels at a time are computed for all pixels, looked up if a table follows, and averaged while they
//! lie in the first-level cache; the image between is never stored.
//!
//! The result is that of [`crate::conv::Conv`], [`crate::lookup::Lookup`] and
//! [`crate::pool::GlobalAveragePool`] one after the other, bit for bit.

use crate::conv::Conv;
use crate::expand_depthwise::Part;
use crate::lookup::Lookup;
use crate::pool::{GlobalAveragePool, PoolParams};
use crate::requantize::check_len;
use crate::{ConvGeometry, Isa, KernelError, Requantize, Scratch, Workers};

/// Channels computed together are a multiple of this: whole panels of every instruction set.
const PANEL: usize = 64;
/// Most channels computed together.
const MAX_CHANNELS: usize = 192;
/// Pieces of work a thread where possible.
const PIECES: usize = 5;

/// How many of `channels` are computed together on this many threads.
pub(crate) fn slice_width(channels: usize, threads: usize) -> usize {
    let width = channels / (PIECES * threads.max(1));
    width.next_multiple_of(PANEL).clamp(PANEL, MAX_CHANNELS)
}

/// A pointwise convolution and the mean of its result.
pub struct ConvPool {
    slices: Vec<Slice>,
    table: Option<Lookup>,
    channels: usize,
    /// Channels of a slice; the last one may have fewer.
    width: usize,
}

/// Some channels of both.
struct Slice {
    conv: Conv,
    pool: GlobalAveragePool,
}

impl ConvPool {
    /// Packs the two layers; the table of `conv` lies between them. `threads` is how many the work
    /// should suit.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`; another variant if a layer is wrong in
    /// itself, or the first is not pointwise.
    pub fn new(
        isa: Isa,
        threads: usize,
        conv: Part<'_>,
        pool: PoolParams,
    ) -> Result<ConvPool, KernelError> {
        let g = conv.geometry;
        if !g.is_pointwise() {
            let why = "only a pointwise layer is averaged channel by channel";
            return Err(KernelError::Geometry(format!("{why}: {g:?}")));
        }
        // Whatever is wrong with the layer as a whole is found in one of its slices, lengths excepted.
        check_len("weights", g.out_c * g.in_c, conv.weights.len())?;
        conv.output.check(g.out_c)?;
        let width = slice_width(g.out_c, threads);
        let slice = |first: usize| {
            let count = width.min(g.out_c - first);
            let channels = first..first + count;
            let output = Requantize {
                multiplier: conv.output.multiplier[channels.clone()].to_vec(),
                bias: conv.output.bias[channels].to_vec(),
                ..conv.output.clone()
            };
            let weights = &conv.weights[first * g.in_c..][..count * g.in_c];
            let geometry = ConvGeometry { out_c: count, ..g };
            let pixels = g.out_h * g.out_w;
            Ok(Slice {
                conv: Conv::new(isa, geometry, weights, conv.input, output)?,
                pool: GlobalAveragePool::new(isa, pixels, count, pool)?,
            })
        };
        Ok(ConvPool {
            slices: (0..g.out_c).step_by(width).map(slice).collect::<Result<_, KernelError>>()?,
            table: conv.table.map(|table| Lookup::new(isa, *table)).transpose()?,
            channels: g.out_c,
            width,
        })
    }

    /// The names of the two kernels.
    pub fn kernels(&self) -> (&'static str, &'static str) {
        (self.slices[0].conv.kernel(), self.slices[0].pool.kernel())
    }

    /// Computes the mean of each channel: `input` is the whole image, `output` one value a channel.
    ///
    /// # Panics
    /// If a slice has another length, or there are fewer scratches than threads.
    pub fn run(
        &self,
        workers: &Workers,
        input: &[u8],
        output: &mut [u8],
        scratches: &mut [Scratch],
    ) {
        assert_eq!(output.len(), self.channels, "output length");
        workers.split(output, self.width, scratches, |at, means, scratch| {
            let Slice { conv, pool } = &self.slices[at];
            let ([image], inner) = scratch.pieces_and_inner([conv.geometry().output_len()]);
            conv.run(input, 0..conv.pixels(), image, inner);
            if let Some(table) = &self.table {
                table.run_in_place(image);
            }
            pool.run(image, means, inner);
        });
    }
}
