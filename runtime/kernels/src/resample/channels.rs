//! The horizontal pass of an image whose channels lie between each other, as a camera sends them.

use super::{Body, Layout, ROWS, Resample, Taps, Turned};

/// Bytes of a row are a multiple of this for [`Resample::channels`].
pub const ROW_STEP: usize = 16;

/// How the channels of an image lie in its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// One channel.
    Planar,
    /// Two in turn, as NV12's chroma.
    Pairs,
    /// Luma, blue, luma, red: each chroma sample for two of luma.
    Yuyv,
}

impl Packing {
    /// How many channels there are.
    pub fn channels(self) -> usize {
        match self {
            Packing::Planar => 1,
            Packing::Pairs => 2,
            Packing::Yuyv => 3,
        }
    }

    /// Byte of the first sample of a channel, and bytes from one to the next.
    fn place(self, channel: usize) -> (usize, usize) {
        match (self, channel) {
            (Packing::Planar, _) => (0, 1),
            (Packing::Pairs, channel) => (channel, 2),
            (Packing::Yuyv, 0) => (0, 2),
            (Packing::Yuyv, channel) => (2 * channel - 1, 4),
        }
    }

    /// How many samples of a channel lie in so many bytes.
    fn samples(self, channel: usize, bytes: usize) -> usize {
        bytes / self.place(channel).1
    }
}

/// The weights of a horizontal pass, as an instruction set wants them.
#[derive(Clone, Debug, Default)]
pub struct Horizontal {
    starts: Vec<u32>,
    counts: Vec<u32>,
    weights: Vec<i32>,
    taps: usize,
    /// The samples that are read, from the first in a row on.
    end: usize,
    #[cfg(target_arch = "x86_64")]
    quads: super::quads::Quads,
}

impl Horizontal {
    /// Where weights are kept as they are.
    fn taps(&self) -> Taps<'_> {
        let Self { starts, counts, weights, taps, .. } = self;
        Taps { starts, counts, weights, taps: *taps }
    }
}

impl Resample {
    /// Lays out the weights of an axis whose pixel 0 is preceded by `lead` samples in each row.
    ///
    /// # Panics
    /// If the weights are fewer than `taps` for each output.
    pub fn lay_out(&self, taps: &Taps<'_>, lead: u32, to: &mut Horizontal) {
        to.starts.clear();
        to.starts.extend(taps.starts.iter().map(|start| start + lead));
        to.counts.clear();
        to.counts.extend_from_slice(taps.counts);
        to.weights.clear();
        to.weights.extend_from_slice(&taps.weights[..taps.starts.len() * taps.taps]);
        to.taps = taps.taps;
        to.end = to.starts.iter().zip(&to.counts).map(|(s, c)| (s + c) as usize).max().unwrap_or(0);
        #[cfg(target_arch = "x86_64")]
        {
            let Horizontal { starts, counts, weights, taps, quads, .. } = to;
            let taps = Taps { starts, counts, weights, taps: *taps };
            quads.set(matches!(self.body, Body::Vnni(..)).then_some(taps));
        }
    }

    /// The horizontal pass of every channel of up to [`ROWS`] rows, one every `stride` bytes; of fewer
    /// the last is repeated. `to` receives each channel's outputs. `block` is working memory.
    ///
    /// # Panics
    /// If `rows` is not 1..=[`ROWS`] rows of `stride` bytes, `stride` is no multiple of [`ROW_STEP`],
    /// `axes` and `to` are not one a channel, or an output reads beyond the row or is not in `to`.
    pub fn channels(
        &self,
        rows: &[u8],
        stride: usize,
        packing: Packing,
        axes: &[&Horizontal],
        block: &mut Vec<Turned>,
        to: &mut [&mut [Turned]],
    ) {
        assert!(stride > 0 && stride.is_multiple_of(ROW_STEP), "rows of {stride} bytes");
        let count = rows.len() / stride;
        assert!((1..=ROWS).contains(&count) && count * stride == rows.len(), "{count} rows");
        assert_eq!([axes.len(), to.len()], [packing.channels(); 2], "channels");
        for (channel, (axis, to)) in axes.iter().zip(&*to).enumerate() {
            assert!(axis.end <= packing.samples(channel, stride), "an output reads beyond the row");
            assert_eq!(axis.starts.len(), to.len(), "outputs");
        }
        block.resize(stride, [0; ROWS]);
        #[cfg(target_arch = "x86_64")]
        if let Body::Vnni(token, _) = self.body
            && axes.iter().all(|axis| axis.quads.is_set())
        {
            return super::quads::channels(token, rows, stride, packing, axes, block, to);
        }
        self.turn(rows, stride, count, block);
        for (channel, (axis, to)) in axes.iter().zip(to).enumerate() {
            let (first, step) = packing.place(channel);
            let layout = Layout { first, step, channels: 1 };
            self.horizontal(block, layout, &axis.taps(), to);
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Horizontal {
    pub(super) fn quads(&self) -> &super::quads::Quads {
        &self.quads
    }
}
