//! The passes of an image whose channels lie between each other, as a camera sends them: some outputs
//! of the vertical pass at a time, then the horizontal pass of every channel.

use std::ops::Range;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::Body;
use super::{Layout, ROWS, Resample, Taps, Turned, check_rows};

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
        self.places().len()
    }

    /// Byte of the first sample of each channel, bytes from one to the next, and which of the axes it
    /// goes by.
    fn places(self) -> &'static [(Layout, usize)] {
        const fn place(first: usize, step: usize, axis: usize) -> (Layout, usize) {
            (Layout { first, step, channels: 1 }, axis)
        }
        match self {
            Packing::Planar => const { &[place(0, 1, 0)] },
            Packing::Pairs => const { &[place(0, 2, 0), place(1, 2, 0)] },
            Packing::Yuyv => const { &[place(0, 2, 0), place(1, 4, 1), place(3, 4, 1)] },
        }
    }
}

/// The weights of one direction, as an instruction set wants them ([`Resample::lay_out`]).
#[derive(Clone, Debug, Default)]
pub struct Weights {
    starts: Vec<u32>,
    counts: Vec<u32>,
    weights: Vec<i32>,
    taps: usize,
    /// Samples or rows that are read, from the first on.
    end: usize,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub(super) quads: super::quads::Quads,
}

impl Weights {
    /// As they are.
    fn taps(&self) -> Taps<'_> {
        let Self { starts, counts, weights, taps, .. } = self;
        Taps { starts, counts, weights, taps: *taps }
    }
}

impl Resample {
    /// Lays out the weights of an axis whose sample 0 is preceded by `lead` others.
    ///
    /// # Panics
    /// If the weights are fewer than `taps` for each output.
    pub fn lay_out(&self, taps: &Taps<'_>, lead: u32, to: &mut Weights) {
        to.starts.clear();
        to.starts.extend(taps.starts.iter().map(|start| start + lead));
        to.counts.clear();
        to.counts.extend_from_slice(taps.counts);
        to.weights.clear();
        to.weights.extend_from_slice(&taps.weights[..taps.starts.len() * taps.taps]);
        to.taps = taps.taps;
        to.end = to.starts.iter().zip(&to.counts).map(|(s, c)| (s + c) as usize).max().unwrap_or(0);
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        {
            let Weights { starts, counts, weights, taps, end, quads } = to;
            let taps = Taps { starts, counts, weights, taps: *taps };
            #[cfg(target_arch = "x86_64")]
            let (by_quads, signed) = (matches!(self.body, Body::Vnni(..)), false);
            #[cfg(target_arch = "aarch64")]
            let (by_quads, signed) = (matches!(self.body, Body::NeonDot(..)), true);
            quads.set(by_quads.then_some(taps), *end, signed);
        }
    }

    /// The vertical pass of some outputs: `length` samples of each, one row of them every `to_stride` in
    /// `to`, from the rows `from`, one every `stride`.
    ///
    /// # Panics
    /// If there are no such outputs, or `from` or `to` ends before the last sample needed.
    pub fn vertical_rows(
        &self,
        from: (&[u8], usize),
        weights: &Weights,
        outputs: Range<usize>,
        to: (&mut [u8], usize),
        length: usize,
    ) {
        let ((from, stride), (to, to_stride)) = (from, to);
        assert!(outputs.start <= outputs.end && outputs.end <= weights.starts.len(), "{outputs:?}");
        check_rows(from, stride, weights.end, length);
        check_rows(to, to_stride, outputs.len(), length);
        assert!(to_stride >= length, "rows of {length} every {to_stride}");
        #[cfg(target_arch = "x86_64")]
        if let Body::Vnni(token, _) = self.body
            && let Some(band) = weights.quads.band(outputs.clone(), weights.end)
            && super::vnni_rows::vertical(
                token,
                (from, stride),
                &band,
                (&mut *to, to_stride),
                length,
            )
        {
            return;
        }
        #[cfg(target_arch = "aarch64")]
        if let Body::NeonDot(token, _) = self.body
            && let Some(band) = weights.quads.band(outputs.clone(), weights.end)
            && super::neondot::vertical(token, (from, stride), &band, (&mut *to, to_stride), length)
        {
            return;
        }
        let taps = weights.taps();
        for (i, output) in outputs.enumerate() {
            let (start, weights) = taps.of(output);
            let to = &mut to[i * to_stride..][..length];
            self.vertical(&from[start * stride..], stride, weights, to);
        }
    }

    /// The horizontal pass of every channel of up to [`ROWS`] rows, one every `stride` bytes; of fewer
    /// the last is repeated. `axes` are luma's and chroma's for [`Packing::Yuyv`], else one. `to` receives
    /// each channel's outputs. `block` is working memory.
    ///
    /// # Panics
    /// If `rows` is not 1..=[`ROWS`] rows of `stride` bytes, `stride` is no multiple of [`ROW_STEP`], an
    /// axis is missing, `to` is not one a channel, or an output reads beyond the row or is not in `to`.
    pub fn channels(
        &self,
        rows: &[u8],
        stride: usize,
        packing: Packing,
        axes: &[&Weights],
        block: &mut Vec<Turned>,
        to: &mut [&mut [Turned]],
    ) {
        assert!(stride > 0 && stride.is_multiple_of(ROW_STEP), "rows of {stride} bytes");
        let count = rows.len() / stride;
        assert!((1..=ROWS).contains(&count) && count * stride == rows.len(), "{count} rows");
        let places = packing.places();
        assert_eq!(to.len(), places.len(), "channels");
        for (&(Layout { step, .. }, axis), to) in places.iter().zip(&*to) {
            assert!(axes[axis].end <= stride / step, "an output reads beyond the row");
            assert_eq!(axes[axis].starts.len(), to.len(), "outputs");
        }
        block.resize(stride, [0; ROWS]);
        #[cfg(target_arch = "x86_64")]
        if let Body::Vnni(token, _) = self.body
            && axes.iter().all(|axis| axis.quads.is_set())
        {
            return super::vnni_channels::channels(token, rows, stride, packing, axes, block, to);
        }
        #[cfg(target_arch = "aarch64")]
        if let Body::NeonDot(token, _) = self.body
            && axes.iter().all(|axis| axis.quads.is_set())
        {
            return super::neondot::channels(token, rows, stride, packing, axes, block, to);
        }
        self.turn(rows, stride, count, block);
        for (&(layout, axis), to) in places.iter().zip(to) {
            self.horizontal(block, layout, &axes[axis].taps(), to);
        }
    }
}
