//! Every layer shape of EfficientNet-Lite0 on every instruction set of this CPU: one group an
//! operation, one benchmark a shape and instruction set, throughput in multiply-accumulates
//! (elements for addition and pooling). `cargo bench -p kinglet-benches --bench kernels`.
#![allow(missing_docs)]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use kinglet_kernels::catalogue::{Entry, Layer, Op, efficientnet_lite0};
use kinglet_kernels::quantize::{Dequantize, Quantize};
use kinglet_kernels::{InputCodes, Isa, KernelError};

/// Reproducible bytes; their values do not change the time.
fn bytes(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Runs one layer on every instruction set; once where two of them have the same kernel.
fn layer(group: &mut BenchmarkGroup<'_, WallTime>, entry: &Entry) -> Result<(), KernelError> {
    let mut seen = Vec::new();
    for isa in Isa::available() {
        let mut layer = Layer::new(isa, entry, InputCodes::any(128))?;
        if seen.contains(&layer.kernel()) {
            continue;
        }
        seen.push(layer.kernel());
        group.throughput(Throughput::Elements(entry.macs()));
        let id = format!("{}/{}", entry.name, layer.kernel());
        group.bench_function(id, |b| b.iter(|| layer.run()));
    }
    Ok(())
}

/// The image's way in, and the classifier's way out; once where two sets have the same kernel.
fn borders(group: &mut BenchmarkGroup<'_, WallTime>) -> Result<(), KernelError> {
    let image = vec![0.5f32; 3 * 224 * 224];
    let mut quantized = vec![0; image.len()];
    let (scores, mut floats) = (bytes(1000), vec![0.0; 1000]);
    let mut seen = Vec::new();
    for isa in Isa::available() {
        let quantize = Quantize::new(isa, 3, 224 * 224, 0.0078, 128)?;
        let dequantize = Dequantize::new(isa, 1000, 1, 0.1, 128)?;
        let (to, from) = (quantize.kernel(), dequantize.kernel());
        if !seen.contains(&to) {
            group.throughput(Throughput::Elements(image.len() as u64));
            group.bench_function(format!("quantize_224x224_3/{to}"), |b| {
                b.iter(|| quantize.run(&image, &mut quantized));
            });
        }
        if !seen.contains(&from) {
            group.throughput(Throughput::Elements(1000));
            group.bench_function(format!("dequantize_1000/{from}"), |b| {
                b.iter(|| dequantize.run(&scores, &mut floats));
            });
        }
        seen.extend([to, from]);
    }
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
                layer(&mut group, entry).expect("the catalogue is valid");
            }
        }
        group.finish();
    }
    let mut group = c.benchmark_group("quantize");
    borders(&mut group).expect("the parameters are valid");
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
