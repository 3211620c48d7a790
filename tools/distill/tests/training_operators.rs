//! Our own operators give what burn's give, and their gradients are gradients.

#![allow(clippy::unwrap_used)]

use burn::tensor::{Device, Tensor, TensorData};
use kinglet_compress::splitmix::SplitMix64;
use kinglet_distill::fake;
use kinglet_distill::ops::{self, Depthwise, Grid, plain};
use kinglet_distill::student::values;

fn device() -> Device {
    Device::flex().autodiff()
}

/// Random values; other ones for each `seed`.
fn random<const D: usize>(seed: u64, sizes: [usize; D]) -> Tensor<D> {
    let mut random = SplitMix64::new(seed);
    let values: Vec<f32> = (0..sizes.iter().product()).map(|_| random.centred(1.0)).collect();
    Tensor::from_data(TensorData::new(values, sizes), &device()).require_grad()
}

fn close(what: &str, a: Vec<f32>, b: Vec<f32>) {
    assert_eq!(a.len(), b.len(), "{what}");
    let largest = b.iter().fold(1e-3_f32, |m, v| m.max(v.abs()));
    let error = a.iter().zip(&b).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(error <= 2e-5 * largest, "{what}: {error} of {largest}");
}

#[test]
fn depthwise_equals_burns_and_so_do_its_gradients() {
    // (side, channels, kernel, stride, before): SAME padding of odd and even sides, and more
    // channels than a vector holds, with and without a rest.
    for (side, channels, kernel, stride, before) in [
        (9, 16, 3, 1, 1),
        (8, 40, 3, 2, 0),
        (7, 24, 5, 1, 2),
        (8, 8, 5, 2, 1),
        (9, 33, 5, 2, 2),
        (1, 8, 5, 1, 2),
    ] {
        let outputs = usize::div_ceil(side, stride);
        let shape = Depthwise {
            batch: 3,
            height: side,
            width: side,
            channels,
            kernel,
            stride,
            before,
            out_height: outputs,
            out_width: outputs,
        };
        let x = random(1, [3, side, side, channels]);
        let weights = random(2, [kernel * kernel, channels]);
        let factors = random(3, [3, outputs, outputs, channels]).inner();
        let run = |of: fn(Tensor<4>, Tensor<2>, Depthwise) -> Tensor<4>| {
            let y = of(x.clone(), weights.clone(), shape);
            let result = values(y.clone());
            let mut grads = (y * factors.clone()).sum().backward();
            let of_x = values(x.grad_remove(&mut grads).unwrap());
            [result, of_x, values(weights.grad_remove(&mut grads).unwrap())]
        };
        let (own, burns) = (run(ops::depthwise), run(plain::depthwise));
        for ((own, burns), what) in own.into_iter().zip(burns).zip(["y", "dx", "dw"]) {
            close(&format!("{shape:?} {what}"), own, burns);
        }
    }
}

#[test]
fn batch_norm_equals_burns_and_so_do_its_gradients() {
    for (rows, channels, bounds) in
        [(700, 24, [0.0, 6.0]), (5, 8, [f32::NEG_INFINITY, f32::INFINITY]), (256, 17, [-0.5, 0.5])]
    {
        let x = (random(1, [rows, channels]).inner() * 2.0 + 3.0).autodiff().require_grad();
        let (scale, shift) = (random(2, [channels]), random(3, [channels]));
        let factors = random(4, [rows, channels]).inner();
        let run = |own: bool| {
            let y = if own {
                let statistics = ops::statistics(&x);
                ops::normalise(x.clone(), scale.clone(), shift.clone(), &statistics, bounds)
            } else {
                plain::normalise(x.clone(), scale.clone(), shift.clone(), bounds)
            };
            let result = values(y.clone());
            let mut grads = (y * factors.clone()).sum().backward();
            let mut of = |t: &Tensor<1>| values(t.grad_remove(&mut grads).unwrap());
            let (of_scale, of_shift) = (of(&scale), of(&shift));
            [result, values(x.grad_remove(&mut grads).unwrap()), of_scale, of_shift]
        };
        for ((own, burns), what) in
            run(true).into_iter().zip(run(false)).zip(["y", "dx", "ds", "db"])
        {
            close(&format!("{rows}x{channels} {what}"), own, burns);
        }
        close("statistics", values(ops::statistics(&x)), values(plain::statistics(x.inner())));
    }
}

#[test]
fn statistics_keep_their_digits_far_from_zero() {
    let x = random(1, [1000, 8]).inner() * 0.01 + 1000.0;
    let found = values(ops::statistics(&x.autodiff()));
    assert!(found[..8].iter().all(|m| (m - 1000.0).abs() < 0.01), "{found:?}");
    assert!(found[8..].iter().all(|v| (v - 1e-4).abs() < 2e-5), "{found:?}");
}

#[test]
fn fake_quantization_rounds_and_passes_gradients_within_the_range() {
    let x = Tensor::<1>::from_floats([-2.0, 0.3, 0.305, 7.0], &device()).require_grad();
    let mut ranges = fake::Ranges::default();
    ranges.of.insert("x".into(), [0.0, 6.0]);
    ranges.fixed = true;
    let y = ranges.quantize(x.clone(), "x");
    let step = 6.0 / 255.0;
    let wanted = [0.0, 13.0 * step, 13.0 * step, 6.0];
    close("codes", values(y.clone()), wanted.to_vec());
    let mut grads = y.sum().backward();
    assert_eq!(values(x.grad_remove(&mut grads).unwrap()), [0.0, 1.0, 1.0, 0.0]);

    let w = Tensor::<2>::from_floats([[1.27, 0.004], [0.0149, -0.002]], &device()).require_grad();
    let y = fake::weights(w.clone());
    close("weights", values(y.clone()), vec![1.27, 0.004, 0.01, -64.0 * 0.004 / 127.0]);
    let mut grads = y.sum().backward();
    assert_eq!(values(w.grad_remove(&mut grads).unwrap()), [1.0; 4]);
}

#[test]
fn grids_equal_burns_and_so_do_their_gradients() {
    let x = random(1, [7, 33, 5]);
    let grid = Grid { low: -0.5, high: 1.5, step: 2.0 / 255.0 };
    let run = |of: fn(Tensor<3>, Grid) -> Tensor<3>| {
        let y = of(x.clone(), grid);
        let mut grads = (y.clone() * y.clone().detach()).sum().backward();
        [values(y), values(x.grad_remove(&mut grads).unwrap())]
    };
    for (own, burns) in run(ops::on_grid).into_iter().zip(run(plain::on_grid)) {
        close("grid", own, burns);
    }
    assert_eq!(ops::range(&x), plain::range(x.inner()));
}
