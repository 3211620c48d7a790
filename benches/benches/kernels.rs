//! Every layer shape of EfficientNet-Lite0 on every instruction set of this CPU: one group an
//! operation, one benchmark a shape and instruction set, throughput in multiply-accumulates
//! (elements for addition and pooling). `cargo bench -p kinglet-benches --bench kernels`.
#![allow(missing_docs)]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use kinglet_kernels::add::{Add, AddParams};
use kinglet_kernels::catalogue::{Entry, Op, efficientnet_lite0};
use kinglet_kernels::conv::Conv;
use kinglet_kernels::depthwise::Depthwise;
use kinglet_kernels::linear::{Linear, LinearOutput};
use kinglet_kernels::pool::GlobalAveragePool;
use kinglet_kernels::quantize::{Dequantize, Quantize};
use kinglet_kernels::{InputCodes, Isa, KernelError, Requantize, Scratch};

/// Reproducible bytes; their values do not change the time.
fn bytes(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn weights(n: usize) -> Vec<i16> {
    bytes(n).into_iter().map(|b| i16::from(b).clamp(1, 255) - 128).collect()
}

fn requantize(channels: usize) -> Requantize {
    Requantize {
        multiplier: vec![0.001; channels],
        bias: vec![100; channels],
        zero_point: 3,
        min: 3,
        max: 250,
    }
}

/// Runs one layer on one instruction set.
fn layer(
    group: &mut BenchmarkGroup<'_, WallTime>,
    entry: &Entry,
    isa: Isa,
) -> Result<(), KernelError> {
    let g = entry.geometry;
    let mut scratch = Scratch::new();
    let input = bytes(g.input_len());
    let mut output = vec![0; g.output_len()];
    group.throughput(Throughput::Elements(entry.macs()));
    let mut bench = |kernel: &str, run: &mut dyn FnMut()| {
        group.bench_function(format!("{}/{kernel}", entry.name), |b| b.iter(&mut *run));
    };
    match entry.op {
        Op::Conv => {
            let weights = weights(g.out_c * g.kernel_h * g.kernel_w * g.in_c);
            let conv = Conv::new(isa, g, &weights, InputCodes::any(128), requantize(g.out_c))?;
            let pixels = conv.pixels();
            bench(conv.kernel(), &mut || conv.run(&input, 0..pixels, &mut output, &mut scratch));
        }
        Op::Depthwise => {
            let weights = weights(g.out_c * g.kernel_h * g.kernel_w);
            let conv = Depthwise::new(isa, g, &weights, InputCodes::any(128), requantize(g.out_c))?;
            let rows = conv.rows();
            bench(conv.kernel(), &mut || conv.run(&input, 0..rows, &mut output, &mut scratch));
        }
        Op::Linear => {
            let out = LinearOutput::Quantized(requantize(g.out_c));
            let weights = weights(g.in_c * g.out_c);
            let linear = Linear::new(isa, g.in_c, g.out_c, &weights, InputCodes::any(128), out)?;
            bench(linear.kernel(), &mut || linear.run_u8(&input, &mut output, &mut scratch));
        }
        Op::Add => {
            let params = AddParams {
                a_zero_point: 3,
                b_zero_point: 5,
                a_multiplier: 0.7,
                b_multiplier: 0.9,
                zero_point: 100,
                min: 0,
                max: 255,
            };
            let add = Add::new(isa, params)?;
            bench(add.kernel(), &mut || add.run(&input, &input, &mut output));
        }
        Op::Pool => {
            let pixels = g.in_h * g.in_w;
            let pool = GlobalAveragePool::new(isa, pixels, g.in_c, 3, 0.02, 3, 0, 255)?;
            let output = &mut output[..g.in_c];
            bench(pool.kernel(), &mut || pool.run(&input, output, &mut scratch));
        }
    }
    Ok(())
}

/// The image's way in, and the classifier's way out.
fn borders(group: &mut BenchmarkGroup<'_, WallTime>, isa: Isa) -> Result<(), KernelError> {
    let image = vec![0.5f32; 3 * 224 * 224];
    let mut quantized = vec![0; image.len()];
    let quantize = Quantize::new(isa, 3, 224 * 224, 0.0078, 128)?;
    group.throughput(Throughput::Elements(image.len() as u64));
    group.bench_function(format!("quantize_224x224_3/{}", quantize.kernel()), |b| {
        b.iter(|| quantize.run(&image, &mut quantized));
    });
    let (scores, mut floats) = (bytes(1000), vec![0.0; 1000]);
    let dequantize = Dequantize::new(isa, 1000, 1, 0.1, 128)?;
    group.throughput(Throughput::Elements(1000));
    group.bench_function(format!("dequantize_1000/{}", dequantize.kernel()), |b| {
        b.iter(|| dequantize.run(&scores, &mut floats));
    });
    Ok(())
}

fn kernels(c: &mut Criterion) {
    let entries = efficientnet_lite0();
    let groups = [
        ("pointwise", Op::Conv, true),
        ("conv", Op::Conv, false),
        ("depthwise", Op::Depthwise, false),
        ("linear", Op::Linear, true),
        ("add", Op::Add, true),
        ("pool", Op::Pool, true),
    ];
    for (name, op, pointwise) in groups {
        let mut group = c.benchmark_group(name);
        for entry in &entries {
            if entry.op == op && entry.geometry.is_pointwise() == pointwise {
                for isa in Isa::available() {
                    layer(&mut group, entry, isa).expect("the catalogue is valid");
                }
            }
        }
        group.finish();
    }
    let mut group = c.benchmark_group("quantize");
    for isa in Isa::available() {
        borders(&mut group, isa).expect("the parameters are valid");
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_millis(800));
    targets = kernels
}
criterion_main!(benches);
