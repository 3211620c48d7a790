//! Kernels of float steps, in f32 or f16, and running them.

use half::f16;
use half::slice::HalfBitsSliceExt;
use kinglet_kernels::float::LINEAR_GROUP;
use kinglet_kernels::float::{self, Activation};
use kinglet_kernels::{ConvGeometry, Isa, Scratch, Workers, quantize};

use std::borrow::Cow;

use super::{Built, layout, transpose};
use crate::region::float::FloatKind;
use crate::region::plan::Kernel;
use crate::region::shape::{self, Shape};
use crate::region::step::ConvShape;

/// A type that float steps compute in.
pub(in crate::region) trait Float: float::Element {
    /// The elements in a part of the arena (which is aligned), or none in no bytes.
    fn read(bytes: &[u8]) -> &[Self];
    /// The same, to write.
    fn write(bytes: &mut [u8]) -> &mut [Self];
    /// A kernel of this type.
    fn wrap(kernel: FloatKernel<Self>) -> Kernel
    where
        Self: Sized;
}

impl Float for f32 {
    fn read(bytes: &[u8]) -> &[Self] {
        if bytes.is_empty() { &[] } else { bytemuck::cast_slice(bytes) }
    }
    fn write(bytes: &mut [u8]) -> &mut [Self] {
        bytemuck::cast_slice_mut(bytes)
    }
    fn wrap(kernel: FloatKernel<Self>) -> Kernel {
        Kernel::F32(kernel)
    }
}

impl Float for f16 {
    fn read(bytes: &[u8]) -> &[Self] {
        if bytes.is_empty() {
            &[]
        } else {
            bytemuck::cast_slice::<u8, u16>(bytes).reinterpret_cast()
        }
    }
    fn write(bytes: &mut [u8]) -> &mut [Self] {
        bytemuck::cast_slice_mut::<u8, u16>(bytes).reinterpret_cast_mut()
    }
    fn wrap(kernel: FloatKernel<Self>) -> Kernel {
        Kernel::F16(kernel)
    }
}

/// The kernel of a float step, for one image.
pub(in crate::region) enum FloatKernel<T: float::Element> {
    FromOutside(float::ToNhwc<T>),
    ToOutside(float::ToNchw<T>),
    FromCodes(quantize::Dequantize),
    ToCodes(quantize::Quantize),
    /// A convolution that may have a residual, and its output channels.
    Conv(float::Conv<T>, usize),
    Depthwise(float::Depthwise<T>),
    Linear(float::Linear<T>),
    /// A fully connected layer whose result is f32 outside.
    LinearF32(float::Linear<T>),
    Add(float::Add<T>),
    Mul(float::Mul<T>),
    MulChannels(float::Mul<T>),
    Pool(float::GlobalAveragePool<T>),
    Activate(float::Activate<T>),
    Copy,
    MbConv(Box<float::mbconv::MbConv<T>>),
    ConvPool(float::ConvPool<T>),
}

/// Builds the kernel of a float step for inputs of these shapes (NHWC). `values` are its weights.
pub(super) fn kernel<T: Float>(
    kind: &FloatKind,
    values: &[f32],
    inputs: &[&Shape],
    isa: Isa,
) -> Result<Built, String> {
    let text = |e: kinglet_kernels::KernelError| e.to_string();
    let first = inputs[0];
    let (channels, pixels) = layout(first);
    let plain = |kernel: FloatKernel<T>, name: &str| Built {
        kernel: T::wrap(kernel),
        name: name.into(),
        macs: 0,
        parameters: 0,
    };
    Ok(match kind {
        FloatKind::FromOutside => {
            let k = float::ToNhwc::new(isa, channels, pixels).map_err(text)?;
            let name = k.kernel();
            plain(FloatKernel::FromOutside(k), name)
        }
        FloatKind::ToOutside => {
            let k = float::ToNchw::new(isa, channels, pixels).map_err(text)?;
            let name = k.kernel();
            plain(FloatKernel::ToOutside(k), name)
        }
        FloatKind::FromCodes(_) | FloatKind::ToCodes(_) if size_of::<T>() != size_of::<f32>() => {
            return Err("codes become f32 only".into());
        }
        // Both sides are NHWC: nothing is transposed, as if each element were a channel.
        FloatKind::FromCodes(q) => {
            let k = quantize::Dequantize::new(isa, channels * pixels, 1, q.scale, q.zero_point);
            let k = k.map_err(text)?;
            let name = k.kernel();
            plain(FloatKernel::FromCodes(k), name)
        }
        FloatKind::ToCodes(q) => {
            let k = quantize::Quantize::new(isa, channels * pixels, 1, q.scale, q.zero_point);
            let k = k.map_err(text)?;
            let name = k.kernel();
            plain(FloatKernel::ToCodes(k), name)
        }
        FloatKind::Conv { shape, weights, activation, residual } => {
            conv::<T>(shape, (values, &weights.bias), *activation, *residual, first, isa)?
        }
        FloatKind::Linear { in_features, weights, activation, outside } => {
            let wrap = if *outside { FloatKernel::LinearF32 } else { FloatKernel::Linear };
            linear::<T>(*in_features, (values, &weights.bias), *activation, isa, wrap)?
        }
        FloatKind::Add(activation) => {
            let k = float::Add::new(isa, *activation).map_err(text)?;
            let name = k.kernel();
            plain(FloatKernel::Add(k), name)
        }
        FloatKind::Mul => {
            let k = float::Mul::new(isa).map_err(text)?;
            let name = k.kernel();
            let whole = inputs[0] == inputs[1];
            plain(if whole { FloatKernel::Mul(k) } else { FloatKernel::MulChannels(k) }, name)
        }
        FloatKind::GlobalAveragePool { .. } => {
            let k = float::GlobalAveragePool::new(isa, pixels, channels).map_err(text)?;
            let name = k.kernel();
            plain(FloatKernel::Pool(k), name)
        }
        FloatKind::Activate(activation) => {
            let k = float::Activate::new(isa, *activation).map_err(text)?;
            let name = k.kernel();
            plain(FloatKernel::Activate(k), name)
        }
        FloatKind::View { .. } => plain(FloatKernel::Copy, "copy"),
    })
}

fn linear<T: Float>(
    in_features: usize,
    (values, bias): (&[f32], &[f32]),
    activation: Activation,
    isa: Isa,
    wrap: fn(float::Linear<T>) -> FloatKernel<T>,
) -> Result<Built, String> {
    let k = float::Linear::new(isa, in_features, bias.len(), values, bias, activation);
    let k = k.map_err(|e| e.to_string())?;
    Ok(Built {
        name: k.kernel().into(),
        macs: (in_features * bias.len()) as u64,
        parameters: parameters::<T>(values, bias),
        kernel: T::wrap(wrap(k)),
    })
}

fn conv<T: Float>(
    shape: &ConvShape,
    (values, bias): (&[f32], &[f32]),
    activation: Activation,
    residual: bool,
    input: &Shape,
    isa: Isa,
) -> Result<Built, String> {
    let [_, h, w, c] = shape::map(input)?;
    let geometry = shape::conv_geometry(shape, [h, w, c])?;
    let text = |e: kinglet_kernels::KernelError| e.to_string();
    let (kernel, name) = if shape.groups > 1 {
        let values = ordered(shape, values);
        let k = float::Depthwise::new(isa, geometry, &values, bias, activation).map_err(text)?;
        let name = k.kernel();
        (FloatKernel::Depthwise(k), name)
    } else if geometry.is_pointwise() && h * w == 1 && !residual {
        // The gates of squeeze-and-excite: a matrix times one vector.
        return linear::<T>(c, (values, bias), activation, isa, FloatKernel::Linear);
    } else {
        let values = ordered(shape, values);
        let k = float::Conv::new(isa, geometry, &values, bias, activation).map_err(text)?;
        let name = k.kernel();
        (FloatKernel::Conv(k, shape.out_c), name)
    };
    Ok(Built {
        kernel: T::wrap(kernel),
        name: name.into(),
        macs: macs(shape, &geometry),
        parameters: parameters::<T>(values, bias),
    })
}

/// Weights as kernels take them: `[out][tap][in]`, or `[tap][channel]`.
pub(super) fn ordered<'a>(shape: &ConvShape, values: &'a [f32]) -> Cow<'a, [f32]> {
    let taps = shape.kernel[0] * shape.kernel[1];
    let mut moved = Vec::new();
    if shape.groups > 1 {
        transpose(values, shape.out_c, taps, &mut moved);
    } else if taps > 1 {
        moved.reserve_exact(values.len());
        for filter in values.chunks_exact(shape.group_c * taps) {
            transpose(filter, shape.group_c, taps, &mut moved);
        }
    } else {
        return Cow::Borrowed(values);
    }
    Cow::Owned(moved)
}

pub(super) fn macs(shape: &ConvShape, geometry: &ConvGeometry) -> u64 {
    let taps = shape.kernel[0] * shape.kernel[1];
    let pixels = (geometry.out_h * geometry.out_w) as u64;
    pixels * (shape.out_c * shape.group_c * taps) as u64
}

pub(super) fn parameters<T>(values: &[f32], bias: &[f32]) -> u64 {
    (size_of_val(values) / size_of::<f32>() * size_of::<T>() + size_of_val(bias)) as u64
}

impl<T: Float> FloatKernel<T> {
    /// Bytes that it needs between its parts.
    pub(in crate::region) fn between_len(&self) -> usize {
        match self {
            Self::MbConv(k) => k.between_len() * size_of::<T>(),
            _ => 0,
        }
    }

    /// Runs one image: the bytes of up to two inputs, of what lies between, and of the output.
    pub(in crate::region) fn run(
        &self,
        workers: &Workers,
        scratches: &mut [Scratch],
        [a, b]: [&[u8]; 2],
        between: &mut [u8],
        out: &mut [u8],
    ) {
        match self {
            Self::FromOutside(k) => k.run(bytemuck::cast_slice(a), T::write(out)),
            Self::ToOutside(k) => k.run(T::read(a), bytemuck::cast_slice_mut(out)),
            Self::FromCodes(k) => k.run(a, bytemuck::cast_slice_mut(out)),
            Self::ToCodes(k) => k.run(bytemuck::cast_slice(a), out),
            Self::Conv(k, out_c) => {
                let (a, b) = (T::read(a), T::read(b));
                workers.share(k.pixels(), T::write(out), scratches, |range, part, scratch| {
                    let pixels = range.start * out_c..range.end * out_c;
                    let residual = (!b.is_empty()).then(|| &b[pixels]);
                    k.run(a, residual, range, part, scratch);
                });
            }
            Self::Depthwise(k) => {
                let a = T::read(a);
                workers.share(k.rows(), T::write(out), scratches, |range, part, _| {
                    k.run(a, range, part);
                });
            }
            Self::Linear(k) => {
                let (a, out, bytes) = (T::read(a), T::write(out), k.weight_bytes());
                workers.share_weights(LINEAR_GROUP, bytes, out, scratches, |range, part, _| {
                    k.run(a, range, part);
                });
            }
            Self::LinearF32(k) => {
                let (a, out) = (T::read(a), bytemuck::cast_slice_mut::<u8, f32>(out));
                let bytes = k.weight_bytes();
                workers.share_weights(LINEAR_GROUP, bytes, out, scratches, |range, part, _| {
                    k.run_f32(a, range, part);
                });
            }
            Self::Add(k) => k.run(T::read(a), T::read(b), T::write(out)),
            Self::Mul(k) => k.run(T::read(a), T::read(b), T::write(out)),
            Self::MulChannels(k) => k.run_channels(T::read(a), T::read(b), T::write(out)),
            Self::Pool(k) => k.run(T::read(a), T::write(out), &mut scratches[0]),
            Self::Activate(k) => k.run(T::read(a), T::write(out)),
            Self::Copy => out.copy_from_slice(a),
            Self::MbConv(k) => {
                let (a, added) = (T::read(a), k.adds().then(|| T::read(b)));
                k.run(workers, a, added, T::write(between), T::write(out), scratches);
            }
            Self::ConvPool(k) => k.run(workers, T::read(a), T::write(out), scratches),
        }
    }
}
