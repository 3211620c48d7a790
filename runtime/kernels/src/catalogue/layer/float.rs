//! Layers of floats.

use super::{Body, Buffer, Entry, Layer, Op, bytes};
use crate::float::{Activation, Add, Conv, Depthwise, Element, GlobalAveragePool, Linear};
use crate::{Isa, KernelError, Scratch};

const RELU6: Activation = Activation::Clamp { min: 0.0, max: 6.0 };

impl<T: Element> Layer<T> {
    /// The layer `entry` describes, on one instruction set, with small weights and an input of -1
    /// to 1. Expansions, the stem, the head and depthwise layers end with ReLU6.
    ///
    /// # Errors
    /// [`KernelError::Unavailable`] if this CPU lacks `isa`.
    pub fn float(isa: Isa, entry: &Entry) -> Result<Layer<T>, KernelError> {
        let g = entry.geometry;
        let mut bytes = bytes();
        let mut random = || f32::from(bytes()) / 127.5 - 1.0;
        let depth = g.taps() * if entry.op == Op::Depthwise { 1 } else { g.in_c };
        let weights: Vec<f32> = match entry.op {
            Op::Add | Op::Pool => Vec::new(),
            _ => (0..g.out_c * depth).map(|_| random() / depth as f32).collect(),
        };
        let (bias, none) = (vec![0.1; g.out_c], Activation::None);
        let adds = entry.adds;
        let (kernel, body): (_, Body<T>) = match entry.op {
            Op::Conv => {
                let activation = if g.out_c > g.in_c { RELU6 } else { none };
                let conv = Conv::<T>::new(isa, g, &weights, &bias, activation)?;
                let (kernel, pixels) = (conv.kernel(), conv.pixels());
                let run = move |[i, residual]: [&[T]; 2], o: &mut [T], scratch: &mut Scratch| {
                    conv.run(i, adds.then_some(residual), 0..pixels, o, scratch);
                };
                (kernel, Box::new(run))
            }
            Op::Depthwise => {
                let conv = Depthwise::<T>::new(isa, g, &weights, &bias, RELU6)?;
                (conv.kernel(), Box::new(move |[i, _], o, _| conv.run(i, 0..conv.rows(), o)))
            }
            Op::Linear => {
                let linear = Linear::<T>::new(isa, g.in_c, g.out_c, &weights, &bias, none)?;
                (linear.kernel(), Box::new(move |[i, _], o, _| linear.run(i, 0..g.out_c, o)))
            }
            Op::Add => {
                let add = Add::<T>::new(isa, none)?;
                (add.kernel(), Box::new(move |[i, _], o, _| add.run(i, i, o)))
            }
            Op::Pool => {
                let pool = GlobalAveragePool::<T>::new(isa, g.in_h * g.in_w, g.in_c)?;
                (pool.kernel(), Box::new(move |[i, _], o, scratch| pool.run(i, o, scratch)))
            }
        };
        let outputs = if entry.op == Op::Pool { g.in_c } else { g.output_len() };
        Ok(Layer {
            kernel,
            body,
            input: Buffer::new(g.input_len(), || T::from_f32(random())),
            residual: Buffer::new(if adds { outputs } else { 0 }, || T::from_f32(0.5)),
            output: Buffer::new(outputs, T::default),
            scratch: Scratch::new(),
        })
    }
}
