//! Where the values of pixels lie in memory, for the ARM kernels that pack them.

use super::BLOCK_CHANNELS;

/// Pixels of an image, or of blocks of channels.
#[derive(Clone, Copy)]
pub(crate) struct Pixels<'a> {
    values: &'a [u8],
    /// Values of each pixel.
    depth: usize,
    /// Bytes from one pixel to the next.
    step: usize,
    /// Bytes from [`BLOCK_CHANNELS`] values of a pixel to the next ones.
    block: usize,
}

impl<'a> Pixels<'a> {
    /// `[pixel][depth]`
    pub(crate) fn image(values: &'a [u8], depth: usize) -> Pixels<'a> {
        Pixels { values, depth, step: depth, block: BLOCK_CHANNELS }
    }

    /// `[block][pixel][BLOCK_CHANNELS]`
    pub(super) fn blocks(values: &'a [u8], depth: usize) -> Pixels<'a> {
        let block = values.len() / depth.div_ceil(BLOCK_CHANNELS);
        Pixels { values, depth, step: BLOCK_CHANNELS, block }
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    pub(super) fn block(&self) -> usize {
        self.block
    }

    /// Whether there is a pixel `p`, and so all before it.
    pub(super) fn has(&self, p: usize) -> bool {
        let last = self.depth - 1;
        let last = last / BLOCK_CHANNELS * self.block + last % BLOCK_CHANNELS;
        p * self.step + last < self.values.len()
    }

    /// Where pixel `p` begins: value `k` of its depth is readable
    /// `k / BLOCK_CHANNELS * block + k % BLOCK_CHANNELS` bytes on if there [is](Pixels::has) one.
    pub(super) fn address(&self, p: usize) -> *const u8 {
        self.values.as_ptr().wrapping_add(p * self.step)
    }

    /// [`Pixels::address`] of a pixel that exists.
    ///
    /// # Panics
    /// If there is no such pixel.
    pub(super) fn pixel(&self, p: usize) -> *const u8 {
        assert!(self.has(p));
        self.address(p)
    }

    /// Pixel `p`'s values side by side.
    ///
    /// # Panics
    /// If there is no such pixel, or `to` is not as long as its depth.
    pub(super) fn copy(&self, p: usize, to: &mut [u8]) {
        assert_eq!(to.len(), self.depth);
        for (b, to) in to.chunks_mut(BLOCK_CHANNELS).enumerate() {
            to.copy_from_slice(&self.values[p * self.step + b * self.block..][..to.len()]);
        }
    }
}
