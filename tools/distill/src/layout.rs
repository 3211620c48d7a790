//! Weights between ONNX's order and that of training.

use kinglet_compress::arch::{Conv, Place};

/// [output, input, kernel, kernel] (or [output, input]) to [kernel, kernel, input, output].
#[must_use]
pub fn to_training(conv: &Conv, onnx: &[f32]) -> Vec<f32> {
    moved(conv, |training, at| (training, at), onnx)
}

/// The way back of [`to_training`].
#[must_use]
pub fn to_onnx(conv: &Conv, training: &[f32]) -> Vec<f32> {
    moved(conv, |training, at| (at, training), training)
}

/// Copies every weight: `places` says from its places in the two orders which is written and which
/// is read.
fn moved(conv: &Conv, places: impl Fn(usize, usize) -> (usize, usize), from: &[f32]) -> Vec<f32> {
    let taps = if conv.place == Place::Classifier { 1 } else { conv.kernel * conv.kernel };
    let mut to = vec![0.0; from.len()];
    for output in 0..conv.output {
        for input in 0..conv.input {
            for tap in 0..taps {
                let onnx = (output * conv.input + input) * taps + tap;
                let training = (tap * conv.input + input) * conv.output + output;
                let (write, read) = places(training, onnx);
                to[write] = from[read];
            }
        }
    }
    to
}
