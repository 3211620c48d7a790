//! The blocks of MobileNet and EfficientNet as one operation: what an inverted residual (Sandler et
//! al., 2018), an MBConv (Tan and Le, 2019) and a fused MBConv (Tan and Le, 2021) have in common is a
//! layer that makes many channels and a pointwise one, the projection, that makes few of them.
//!
//! | first | then | is |
//! |---|---|---|
//! | [`First::Pair`] | projection | an inverted residual; a network's stem and its first block |
//! | [`First::Pair`] | squeeze-and-excitation, projection | an MBConv |
//! | [`First::Depthwise`] | the same | a block without expansion, or one whose pair has no kernel |
//! | [`First::Conv`] | projection | a fused MBConv |
//! | [`First::Conv`], [`First::Depthwise`] | a table alone | a layer and its activation |
//!
//! Where the many channels are few enough, and nothing needs all pixels first, work goes depth first:
//! some rows are computed, and projected while they lie in the cache; the image between is never
//! stored. Otherwise all of it is computed first (channel by channel, see [`crate::expand_depthwise`]),
//! and the projection reads it by bands of pixels, which the factors of a squeeze-and-excitation
//! multiply just before.
//!
//! All is made of the kernels of the single layers; the result is theirs, bit for bit.

use std::ops::Range;

use crate::conv::{BLOCK_CHANNELS, Conv, ConvOptions, Form};
use crate::depthwise::Depthwise;
use crate::expand_depthwise::{ExpandDepthwise, Part};
use crate::lookup::Lookup;
use crate::requantize::check_len;
use crate::squeeze_excite::{ImageLayout, SqueezeExcite, SqueezeParts};
use crate::workers::Division;
use crate::{ConvGeometry, Isa, KernelError, Residual, Scratch, Workers};

/// Most bytes between the first layer and the projection, depth first: they stay in the cache.
const BAND_BYTES: usize = 32 << 10;
/// Bytes of a band that factors have multiplied: it stays in the cache.
const GATED_BYTES: usize = 64 << 10;
/// Pixels of such a band are a multiple of this: whole tiles of every width.
const GATED_PIXELS: usize = 24;

/// The layer that makes the many channels.
#[expect(clippy::large_enum_variant, reason = "some dozens, made once and never moved again")]
pub enum First {
    /// An expansion, or a stem, and a depthwise convolution, with their tables.
    Pair(ExpandDepthwise),
    /// A depthwise convolution, and any function of its codes.
    Depthwise(Depthwise, Option<Lookup>),
    /// A dense convolution, and any function of its codes.
    Conv(Conv, Option<Lookup>),
}

/// The projection; fields as the arguments of [`Conv::with_options`]. It reads NHWC pixels or blocks
/// of channels as it has to.
pub struct Projection<'a> {
    /// The layer.
    pub part: Part<'a>,
    /// A second input, of the output's shape, is added before rounding.
    pub residual: Option<Residual>,
    /// Which way it is computed.
    pub form: Form,
}

/// A block, packed for one instruction set and a number of threads.
pub struct MbConv {
    first: First,
    squeeze: Option<SqueezeExcite>,
    project: Option<Conv>,
    order: Order,
    /// Rows, columns and channels of the result.
    out: [usize; 3],
    /// Of what the first layer writes.
    between: ImageLayout,
}

/// In which order a block is computed.
enum Order {
    /// Some rows at a time.
    DepthFirst {
        /// Rows of a band, where the first layer does not say it.
        rows: usize,
        /// What the threads share: rows of the output, and where their results lie.
        units: Vec<Range<usize>>,
        division: Division,
    },
    /// The first layer as a whole; then the projection, `band` pixels at a time.
    Whole { band: usize },
}

impl First {
    /// Rows, columns and channels that it writes.
    fn shape(&self) -> [usize; 3] {
        let g = match self {
            First::Pair(pair) => pair.depthwise(),
            First::Depthwise(kernel, _) => kernel.geometry(),
            First::Conv(kernel, _) => kernel.geometry(),
        };
        [g.out_h, g.out_w, g.out_c]
    }

    fn layout(&self) -> ImageLayout {
        let [h, w, c] = self.shape();
        match self {
            First::Pair(_) => ImageLayout::blocked(h * w, c),
            _ => ImageLayout::nhwc(h * w, c),
        }
    }

    /// The kernel's name.
    fn kernel(&self) -> &'static str {
        match self {
            First::Pair(pair) => pair.kernel(),
            First::Depthwise(kernel, _) => kernel.kernel(),
            First::Conv(kernel, _) => kernel.kernel(),
        }
    }

    /// Whether rows can be projected as soon as they are there, and are better so.
    fn goes_depth_first(&self) -> bool {
        let [_, w, c] = self.shape();
        match self {
            // One block of channels is all of them, and lies as NHWC does.
            First::Pair(pair) => pair.has_bands() && c == BLOCK_CHANNELS,
            // Each band of a depthwise convolution copies some rows again.
            First::Depthwise(..) => 8 * w * c <= BAND_BYTES,
            First::Conv(..) => true,
        }
    }

    /// Rows `rows` of a layer that is no pair, NHWC.
    fn run_rows(&self, input: &[u8], rows: Range<usize>, out: &mut [u8], scratch: &mut Scratch) {
        let table = match self {
            First::Pair(_) => unreachable!("pairs run by units"),
            First::Depthwise(kernel, table) => {
                kernel.run(input, rows, out, scratch);
                table
            }
            First::Conv(kernel, table) => {
                let w = kernel.geometry().out_w;
                kernel.run(input, rows.start * w..rows.end * w, out, scratch);
                table
            }
        };
        if let Some(table) = table {
            table.run_in_place(out);
        }
    }
}

impl MbConv {
    /// Puts a block together. `threads` is how many its work should suit.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`; another variant if a layer is wrong in
    /// itself or does not read what the one before writes, or there is a squeeze-and-excitation but
    /// no projection.
    pub fn new(
        isa: Isa,
        threads: usize,
        first: First,
        squeeze: Option<SqueezeParts>,
        project: Option<Projection<'_>>,
    ) -> Result<MbConv, KernelError> {
        let [h, w, c] = first.shape();
        let between = first.layout();
        let squeeze = squeeze.map(|parts| SqueezeExcite::new(isa, between, parts)).transpose()?;
        if project.is_none() && (squeeze.is_some() || matches!(first, First::Pair(_))) {
            let why = "a block without projection is one layer and its activation";
            return Err(KernelError::Geometry(why.into()));
        }
        let out_c = project.as_ref().map_or(c, |project| project.part.geometry.out_c);
        let order = if squeeze.is_none() && (project.is_none() || first.goes_depth_first()) {
            Order::depth_first(&first, out_c, threads)
        } else {
            let tiles = GATED_BYTES / between.whole_channels() / GATED_PIXELS * GATED_PIXELS;
            // With nothing to multiply, the projection itself knows best.
            let band = squeeze.as_ref().map(|_| tiles.max(GATED_PIXELS).min(between.pixels));
            Order::Whole { band: band.unwrap_or(between.pixels) }
        };
        let project = project.map(|Projection { part, residual, form }| {
            let g = part.geometry;
            check_len("projected pixels", between.pixels, g.in_h * g.in_w)?;
            check_len("projected channels", c, g.in_c)?;
            if !g.is_pointwise() {
                let why = "a projection is pointwise";
                return Err(KernelError::Geometry(format!("{why}: {g:?}")));
            }
            let (pixels, blocked_input) = match (&order, &first) {
                (Order::DepthFirst { rows, .. }, _) => (rows * w, false),
                (Order::Whole { band }, First::Pair(_)) => (*band, true),
                (Order::Whole { band }, _) => (*band, false),
            };
            let g = ConvGeometry::pointwise(1, pixels, g.in_c, g.out_c);
            let options = ConvOptions { residual, blocked_input, form };
            Conv::with_options(isa, g, part.weights, part.input, part.output, options)
        });
        Ok(MbConv {
            squeeze,
            project: project.transpose()?,
            order,
            out: [h, w, out_c],
            between,
            first,
        })
    }

    /// The names of the kernels of the first layer and of the projection.
    pub fn kernels(&self) -> (&'static str, Option<&'static str>) {
        (self.first.kernel(), self.project.as_ref().map(Conv::kernel))
    }

    /// Whether there is a residual.
    pub fn adds(&self) -> bool {
        self.project.as_ref().is_some_and(Conv::adds)
    }

    /// Bytes of the output, NHWC.
    pub fn output_len(&self) -> usize {
        self.out.iter().product()
    }

    /// Bytes of what lies between, if it has to be stored.
    pub fn between_len(&self) -> usize {
        match self.order {
            Order::DepthFirst { .. } => 0,
            Order::Whole { .. } => {
                self.between.len() + self.squeeze.as_ref().map_or(0, SqueezeExcite::gates_len)
            }
        }
    }

    /// Computes the whole block: `input` is the image that the first layer reads, `residual` and
    /// `output` are `[pixels][channels]`, `between` is [`MbConv::between_len`] bytes.
    ///
    /// # Panics
    /// If a slice has another length, there is a residual and should not be, or the reverse, or there
    /// are fewer scratches than threads.
    pub fn run(
        &self,
        workers: &Workers,
        input: &[u8],
        residual: Option<&[u8]>,
        between: &mut [u8],
        output: &mut [u8],
        scratches: &mut [Scratch],
    ) {
        assert_eq!(between.len(), self.between_len(), "length of what lies between");
        assert_eq!(output.len(), self.output_len(), "output length");
        assert_eq!(residual.is_some(), self.adds(), "residual");
        match &self.order {
            Order::DepthFirst { units, division, .. } => {
                workers.split_by(output, division, scratches, move |unit, part, scratch| {
                    self.run_unit(input, residual, (unit, units[unit].clone()), part, scratch);
                });
            }
            Order::Whole { band } => {
                let (image, gates) = between.split_at_mut(self.between.len());
                self.run_first(workers, input, image, scratches);
                if let Some(squeeze) = &self.squeeze {
                    squeeze.gates(image, gates, &mut scratches[0]);
                }
                let (image, gates, pixels) = (&*image, &*gates, self.between.pixels);
                workers.share(pixels, output, scratches, move |range, part, scratch| {
                    self.run_projection(image, gates, residual, (range, *band), part, scratch);
                });
            }
        }
    }

    /// The first layer, whole.
    fn run_first(
        &self,
        workers: &Workers,
        input: &[u8],
        image: &mut [u8],
        scratches: &mut [Scratch],
    ) {
        match &self.first {
            First::Pair(pair) => {
                workers.split_by(image, pair.division(), scratches, move |unit, part, scratch| {
                    pair.run(input, unit, part, scratch);
                });
            }
            first => {
                let [h, ..] = first.shape();
                workers.share(h, image, scratches, move |rows, part, scratch| {
                    first.run_rows(input, rows, part, scratch);
                });
            }
        }
    }

    /// Some pixels of the projection from the whole image.
    fn run_projection(
        &self,
        image: &[u8],
        gates: &[u8],
        residual: Option<&[u8]>,
        (range, band): (Range<usize>, usize),
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let (Some(project), c) = (&self.project, self.out[2]) else { return };
        let Some(squeeze) = &self.squeeze else {
            let residual = residual.map(|all| &all[range.start * c..range.end * c]);
            return project.run_adding(image, residual, range, output, scratch);
        };
        let ([gated], inner) = scratch.pieces_and_inner([band * self.between.whole_channels()]);
        for (start, output) in range.step_by(band).zip(output.chunks_mut(band * c)) {
            let pixels = start..start + output.len() / c;
            let residual = residual.map(|all| &all[pixels.start * c..pixels.end * c]);
            squeeze.multiply(image, gates, pixels, band, gated);
            project.run_adding(gated, residual, 0..output.len() / c, output, inner);
        }
    }

    /// A unit of rows, depth first.
    fn run_unit(
        &self,
        input: &[u8],
        residual: Option<&[u8]>,
        (unit, rows): (usize, Range<usize>),
        output: &mut [u8],
        scratch: &mut Scratch,
    ) {
        let [_, w, c] = self.out;
        let at = |row: usize| row * w * c;
        let residual_of =
            |rows: &Range<usize>| residual.map(|all| &all[at(rows.start)..at(rows.end)]);
        let Order::DepthFirst { rows: step, .. } = self.order else { return };
        let Some(project) = &self.project else {
            for (first, out) in rows.step_by(step).zip(output.chunks_mut(at(step))) {
                let count = out.len() / at(1);
                self.first.run_rows(input, first..first + count, out, scratch);
            }
            return;
        };
        if let First::Pair(pair) = &self.first {
            return pair.run_by_bands(input, unit, scratch, |band, inner| {
                let out =
                    &mut output[at(band.rows.start - rows.start)..at(band.rows.end - rows.start)];
                project.run_pixels(band.codes, residual_of(&band.rows), out, inner);
            });
        }
        let ([band], inner) = scratch.pieces_and_inner([step * w * self.between.channels]);
        for (first, out) in rows.step_by(step).zip(output.chunks_mut(at(step))) {
            let rows = first..first + out.len() / at(1);
            let band = &mut band[..rows.len() * w * self.between.channels];
            self.first.run_rows(input, rows.clone(), band, inner);
            project.run_pixels(band, residual_of(&rows), out, inner);
        }
    }
}

impl Order {
    fn depth_first(first: &First, out_c: usize, threads: usize) -> Order {
        let [h, w, c] = first.shape();
        let rows = match first {
            First::Pair(_) => 2,
            _ => (BAND_BYTES / (w * c)).clamp(1, h),
        };
        let units: Vec<Range<usize>> = match first {
            First::Pair(pair) => (0..pair.units()).map(|unit| pair.unit_rows(unit)).collect(),
            _ => {
                let share = Workers::share_of(h, h * w * out_c, threads).next_multiple_of(2).min(h);
                (0..h).step_by(share).map(|row| row..(row + share).min(h)).collect()
            }
        };
        let row = w * out_c;
        let place = |rows: &Range<usize>| rows.start * row..rows.end * row;
        let division = Division::new(units.iter().map(place).collect());
        Order::DepthFirst { rows, units, division }
    }
}
