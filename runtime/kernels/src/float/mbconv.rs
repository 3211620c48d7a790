//! The blocks of MobileNet and EfficientNet as one operation; see [`crate::mbconv`], whose float
//! counterpart this is.
//!
//! Depth first: some rows are expanded (`pair.rs`), the depthwise or dense convolution makes rows of
//! them, and these are projected while they lie in the cache. With a squeeze-and-excitation that
//! convolution comes first as a whole, and bands of its pixels are multiplied just before the
//! projection reads them. All is made of the kernels of the single layers; the result is theirs, bit
//! for bit.

mod pair;

pub use pair::Pair;

use std::ops::Range;

use pair::Strip;

use super::{Conv, Depthwise, Element, GlobalAveragePool, Linear, Mul, check_length};
use crate::{ConvGeometry, Isa, KernelError, Scratch, Workers};

/// Most bytes between the first layer and the projection: they stay in the cache.
const BAND_BYTES: usize = 64 << 10;
/// Fewest pixels of a band: whole tiles of every width.
const MIN_PIXELS: usize = 24;

/// The layer that makes the many channels.
pub enum First<T: Element> {
    /// A depthwise convolution.
    Depthwise(Depthwise<T>),
    /// A dense convolution.
    Conv(Conv<T>),
    /// An expansion or stem, and the depthwise convolution of it.
    Pair(Pair<T>),
}

impl<T: Element> First<T> {
    fn geometry(&self) -> &ConvGeometry {
        match self {
            First::Depthwise(kernel) => kernel.geometry(),
            First::Conv(kernel) => kernel.geometry(),
            First::Pair(kernel) => kernel.depthwise().geometry(),
        }
    }

    /// Values that [`First::run`] keeps from some rows for the next ones.
    fn kept_len(&self) -> usize {
        match self {
            First::Pair(kernel) => kernel.strip_len(),
            First::Depthwise(_) | First::Conv(_) => 0,
        }
    }

    /// Computes `rows`, of which `strip` may hold what the rows before have read.
    fn run(
        &self,
        input: &[T],
        rows: Range<usize>,
        out: &mut [T],
        strip: &mut Strip<'_, T>,
        scratch: &mut Scratch,
    ) {
        match self {
            First::Depthwise(kernel) => kernel.run(input, rows, out),
            First::Conv(kernel) => {
                let w = kernel.geometry().out_w;
                kernel.run(input, None, rows.start * w..rows.end * w, out, scratch);
            }
            First::Pair(kernel) => kernel.run(input, rows, out, strip, scratch),
        }
    }
}

/// A squeeze-and-excitation: means of all channels, two small layers, and the product.
pub struct Squeeze<T: Element> {
    pool: GlobalAveragePool<T>,
    reduce: Linear<T>,
    excite: Linear<T>,
    product: Mul<T>,
}

impl<T: Element> Squeeze<T> {
    /// Puts the layers together, for images of `pixels` pixels.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`; another variant if a layer does not read
    /// what the one before writes.
    pub fn new(
        isa: Isa,
        pixels: usize,
        reduce: Linear<T>,
        excite: Linear<T>,
    ) -> Result<Squeeze<T>, KernelError> {
        check_length("reduced channels", reduce.out_features(), excite.in_features())?;
        check_length("factors", reduce.in_features(), excite.out_features())?;
        let pool = GlobalAveragePool::new(isa, pixels, reduce.in_features())?;
        Ok(Squeeze { pool, reduce, excite, product: Mul::new(isa)? })
    }

    /// Makes the factors of an image.
    fn gates(&self, image: &[T], gates: &mut [T], scratch: &mut Scratch) {
        let (channels, few) = (self.reduce.in_features(), self.reduce.out_features());
        let (both, inner) = scratch.floats_and_inner(channels + few);
        let (means, reduced) = both.split_at_mut(channels);
        self.pool.run(image, means, inner);
        self.reduce.run(means, 0..few, reduced);
        self.excite.run(reduced, 0..channels, gates);
    }
}

/// A block, packed for one instruction set and a number of threads.
pub struct MbConv<T: Element> {
    first: First<T>,
    squeeze: Option<Squeeze<T>>,
    /// Of one band of pixels.
    project: Conv<T>,
    adds: bool,
    /// Pixels of a band; whole rows of a block without squeeze-and-excitation.
    band: usize,
}

/// The projection; fields as the arguments of [`Conv::new`].
pub struct Projection<'a> {
    /// Shape; pointwise.
    pub geometry: ConvGeometry,
    /// `[out_c][in_c]`
    pub weights: &'a [f32],
    /// `[out_c]`
    pub bias: &'a [f32],
    /// Applied to the result.
    pub activation: super::Activation,
    /// A second input, of the output's shape, is added after the activation.
    pub adds: bool,
}

impl<T: Element> MbConv<T> {
    /// Puts a block together.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`; another variant if a layer is wrong in
    /// itself or does not read what the one before writes.
    pub fn new(
        isa: Isa,
        first: First<T>,
        squeeze: Option<Squeeze<T>>,
        project: Projection<'_>,
    ) -> Result<MbConv<T>, KernelError> {
        let (g, p) = (*first.geometry(), project.geometry);
        if !p.is_pointwise() {
            return Err(KernelError::Geometry(format!("a projection is pointwise: {p:?}")));
        }
        check_length("projected pixels", g.out_h * g.out_w, p.in_h * p.in_w)?;
        check_length("projected channels", g.out_c, p.in_c)?;
        if let Some(squeeze) = &squeeze {
            check_length("squeezed channels", g.out_c, squeeze.reduce.in_features())?;
        }
        let pixel = g.out_c * size_of::<T>();
        let band = match squeeze {
            Some(_) => (BAND_BYTES / pixel).max(MIN_PIXELS).min(g.out_h * g.out_w),
            None => (BAND_BYTES / (pixel * g.out_w)).clamp(1, g.out_h) * g.out_w,
        };
        let geometry = ConvGeometry::pointwise(1, band, p.in_c, p.out_c);
        let Projection { weights, bias, activation, adds, .. } = project;
        let project = Conv::new(isa, geometry, weights, bias, activation)?;
        Ok(MbConv { first, squeeze, project, adds, band })
    }

    /// The names of the kernels, in the order in which they run.
    pub fn kernels(&self) -> impl Iterator<Item = &'static str> {
        let (before, first) = match &self.first {
            First::Depthwise(kernel) => (None, kernel.kernel()),
            First::Conv(kernel) => (None, kernel.kernel()),
            First::Pair(kernel) => (Some(kernel.expand().kernel()), kernel.depthwise().kernel()),
        };
        before.into_iter().chain([first, self.project.kernel()])
    }

    /// Whether there is a residual.
    pub fn adds(&self) -> bool {
        self.adds
    }

    /// Values of what lies between, if it has to be stored.
    pub fn between_len(&self) -> usize {
        let g = self.first.geometry();
        self.squeeze.as_ref().map_or(0, |_| (g.out_h * g.out_w + 1) * g.out_c)
    }

    /// Computes the whole block; arguments as [`crate::mbconv::MbConv::run`] takes them.
    ///
    /// # Panics
    /// If a slice has another length, there is a residual and should not be, or the reverse, or there
    /// are fewer scratches than threads.
    pub fn run(
        &self,
        workers: &Workers,
        input: &[T],
        residual: Option<&[T]>,
        between: &mut [T],
        output: &mut [T],
        scratches: &mut [Scratch],
    ) {
        let (g, c) = (*self.first.geometry(), self.project.geometry().out_c);
        assert_eq!(between.len(), self.between_len(), "length of what lies between");
        assert_eq!(output.len(), g.out_h * g.out_w * c, "output length");
        assert_eq!(residual.is_some(), self.adds, "residual");
        let added =
            |pixels: &Range<usize>| residual.map(|all| &all[pixels.start * c..pixels.end * c]);
        let Some(squeeze) = &self.squeeze else {
            return workers.share(g.out_h, output, scratches, |rows, part, scratch| {
                let kept = self.first.kept_len();
                let (both, inner) = scratch.floats_and_inner(self.band * g.out_c + kept);
                let (band, kept) = both.split_at_mut(self.band * g.out_c);
                let mut strip = Strip::new(kept, rows.end);
                let step = self.band / g.out_w;
                for (first, out) in rows.step_by(step).zip(part.chunks_mut(self.band * c)) {
                    let count = out.len() / c;
                    let rows = first..first + count / g.out_w;
                    let pixels = first * g.out_w..first * g.out_w + count;
                    let made = &mut band[..count * g.out_c];
                    self.first.run(input, rows, made, &mut strip, inner);
                    self.project.run(band, added(&pixels), 0..count, out, inner);
                }
            });
        };
        let (image, gates) = between.split_at_mut(g.out_h * g.out_w * g.out_c);
        workers.share(g.out_h, image, scratches, |rows, part, scratch| {
            let (kept, inner) = scratch.floats_and_inner(self.first.kept_len());
            let mut strip = Strip::new(kept, rows.end);
            self.first.run(input, rows, part, &mut strip, inner);
        });
        squeeze.gates(image, gates, &mut scratches[0]);
        let (image, gates) = (&*image, &*gates);
        workers.share(g.out_h * g.out_w, output, scratches, |range, part, scratch| {
            let (band, inner) = scratch.floats_and_inner(self.band * g.out_c);
            for (first, out) in range.step_by(self.band).zip(part.chunks_mut(self.band * c)) {
                let pixels = first..first + out.len() / c;
                let from = &image[pixels.start * g.out_c..pixels.end * g.out_c];
                squeeze.product.run_channels(from, gates, &mut band[..from.len()]);
                self.project.run(band, added(&pixels), 0..pixels.len(), out, inner);
            }
        });
    }
}
