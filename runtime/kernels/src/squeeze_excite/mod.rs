//! Squeeze-and-excitation (Hu et al., 2018): the mean of each channel goes through two small layers
//! and becomes a factor by which the channel is multiplied.
//!
//! One operation of two phases: [`SqueezeExcite::gates`] makes the factors from the whole image,
//! [`SqueezeExcite::multiply`] applies them to any pixels, for instance to those that a projection is
//! about to read ([`crate::mbconv`]). Each phase is made of the kernels of its parts, so the result is
//! theirs, bit for bit.

use std::ops::Range;

use crate::conv::{BLOCK_CHANNELS, Conv};
use crate::lookup::Lookup;
use crate::mul::{Mul, MulParams};
use crate::pool::{GlobalAveragePool, PoolParams};
use crate::requantize::check_len;
use crate::{Isa, KernelError, Scratch};

/// How an image lies in memory: `[block][pixel][block channels]`; a NHWC image is one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLayout {
    /// Rows times columns.
    pub pixels: usize,
    /// Channels that exist.
    pub channels: usize,
    /// Channels of one block; the last one is filled up.
    block: usize,
}

impl ImageLayout {
    /// `[pixel][channel]`
    pub fn nhwc(pixels: usize, channels: usize) -> ImageLayout {
        ImageLayout { pixels, channels, block: channels }
    }

    /// `[block][pixel][BLOCK_CHANNELS]`
    pub fn blocked(pixels: usize, channels: usize) -> ImageLayout {
        ImageLayout { pixels, channels, block: BLOCK_CHANNELS }
    }

    /// Blocks of channels.
    fn blocks(&self) -> usize {
        self.channels.div_ceil(self.block)
    }

    /// Channels, those that fill up the last block included.
    pub fn whole_channels(&self) -> usize {
        self.blocks() * self.block
    }

    /// Bytes of the image.
    pub fn len(&self) -> usize {
        self.pixels * self.whole_channels()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The layers of a squeeze-and-excitation.
pub struct SqueezeParts {
    /// Mean over all pixels.
    pub pool: PoolParams,
    /// From all channels to few, on one pixel.
    pub reduce: Conv,
    /// What follows it.
    pub activation: Option<Lookup>,
    /// Back to all channels, on one pixel.
    pub excite: Conv,
    /// From its codes to the factors' ones.
    pub gate: Option<Lookup>,
    /// The product; `b` are the factors.
    pub product: MulParams,
}

/// A squeeze-and-excitation on an image of one layout.
pub struct SqueezeExcite {
    image: ImageLayout,
    /// Of one block.
    pool: GlobalAveragePool,
    reduce: Conv,
    activation: Option<Lookup>,
    excite: Conv,
    gate: Option<Lookup>,
    product: Mul,
}

impl SqueezeExcite {
    /// Puts the layers together.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`; another variant if pooling or product
    /// have bad parameters, or a layer does not read what the one before writes.
    pub fn new(
        isa: Isa,
        image: ImageLayout,
        parts: SqueezeParts,
    ) -> Result<SqueezeExcite, KernelError> {
        let SqueezeParts { pool, reduce, activation, excite, gate, product } = parts;
        check_len("squeezed channels", reduce.input_len(), image.channels)?;
        check_len("reduced channels", excite.input_len(), reduce.geometry().output_len())?;
        check_len("factors", excite.geometry().output_len(), image.channels)?;
        Ok(SqueezeExcite {
            image,
            pool: GlobalAveragePool::new(isa, image.pixels, image.block, pool)?,
            reduce,
            activation,
            excite,
            gate,
            product: Mul::new(isa, product)?,
        })
    }

    /// The kernel's name: that of the product, which takes the most time.
    pub fn kernel(&self) -> &'static str {
        self.product.kernel()
    }

    /// The layout of the image.
    pub fn image(&self) -> ImageLayout {
        self.image
    }

    /// Bytes of the factors.
    pub fn gates_len(&self) -> usize {
        self.image.whole_channels()
    }

    /// Makes the factors of an image.
    ///
    /// # Panics
    /// If a slice has another length than [`ImageLayout::len`] and [`Self::gates_len`] say.
    pub fn gates(&self, image: &[u8], gates: &mut [u8], scratch: &mut Scratch) {
        assert_eq!(image.len(), self.image.len(), "image length");
        assert_eq!(gates.len(), self.gates_len(), "factors length");
        let (channels, block) = (self.image.channels, self.image.block);
        let lens = [self.gates_len(), self.reduce.geometry().output_len()];
        let ([means, reduced], inner) = scratch.pieces_and_inner(lens);
        let blocks = image.chunks_exact(self.image.pixels * block);
        for (block, means) in blocks.zip(means.chunks_exact_mut(block)) {
            self.pool.run(block, means, inner);
        }
        self.reduce.run(&means[..channels], 0..1, reduced, inner);
        if let Some(table) = &self.activation {
            table.run_in_place(reduced);
        }
        let (factors, rest) = gates.split_at_mut(channels);
        self.excite.run(reduced, 0..1, factors, inner);
        if let Some(table) = &self.gate {
            table.run_in_place(factors);
        }
        rest.fill(0);
    }

    /// Multiplies the pixels `range` of an image by its factors. In `out`, blocks are `stride` pixels
    /// apart.
    ///
    /// # Panics
    /// If a slice has another length, `range` lies outside the image or is longer than `stride`.
    pub fn multiply(
        &self,
        image: &[u8],
        gates: &[u8],
        range: Range<usize>,
        stride: usize,
        out: &mut [u8],
    ) {
        let ImageLayout { pixels, block, .. } = self.image;
        assert_eq!(image.len(), self.image.len(), "image length");
        assert_eq!(gates.len(), self.gates_len(), "factors length");
        assert_eq!(out.len(), stride * self.image.whole_channels(), "output length");
        assert!(range.len() <= stride);
        if range.is_empty() {
            return;
        }
        let images = image.chunks_exact(pixels * block);
        let outs = out.chunks_exact_mut(stride * block);
        for ((image, out), gates) in images.zip(outs).zip(gates.chunks_exact(block)) {
            let from = &image[range.start * block..range.end * block];
            self.product.run_channels(from, gates, &mut out[..range.len() * block]);
        }
    }
}
