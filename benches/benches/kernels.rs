//! Every layer shape of EfficientNet-Lite0 on every instruction set of this CPU, in int8 and f32:
//! one group an operation, one benchmark a shape and kernel, throughput in multiply-accumulates
//! and as a share of the core's peak (elements for addition, pooling and the borders).
//! `cargo bench -p kinglet-benches --bench kernels`.
#![allow(missing_docs)]

mod roofed;

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use kinglet_kernels::catalogue::{
    Entry, Layer, Op, efficientnet_lite0, efficientnet_lite0_adding, efficientnet_lite0_blocks,
};
use kinglet_kernels::quantize::{Dequantize, Quantize};
use kinglet_kernels::{InputCodes, Isa, KernelError};
use roofed::Roofed;

/// Reproducible bytes; their values do not change the time.
fn bytes(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Times one layer; not where another instruction set has the same kernel.
fn layer<T>(
    group: &mut BenchmarkGroup<'_, Roofed>,
    name: &str,
    macs: u64,
    mut layer: Layer<T>,
    seen: &mut Vec<&'static str>,
) {
    let kernel = layer.kernel();
    if seen.contains(&kernel) {
        return;
    }
    seen.push(kernel);
    let multiplies = !kernel.starts_with("add") && !kernel.contains("pool");
    group.throughput(match multiplies {
        true => roofed::macs([(kernel, macs)], 1),
        false => roofed::values(macs),
    });
    group.bench_function(format!("{name}/{kernel}"), |b| b.iter(|| layer.run()));
}

/// One entry on every instruction set, in codes and in floats.
fn entry(group: &mut BenchmarkGroup<'_, Roofed>, entry: &Entry) -> Result<(), KernelError> {
    let mut seen = Vec::new();
    for isa in Isa::available() {
        if !entry.adds {
            let codes = Layer::new(isa, entry, InputCodes::any(128))?;
            layer(group, &entry.name, entry.macs(), codes, &mut seen);
        }
        if entry.op != Op::Add {
            let floats = Layer::<f32>::float(isa, entry)?;
            layer(group, &entry.name, entry.macs(), floats, &mut seen);
        }
    }
    Ok(())
}

/// Fused pairs of int8 blocks, and projections with their residuals that read them.
fn fused(c: &mut Criterion<Roofed>) -> Result<(), KernelError> {
    let (mut group, codes) = (c.benchmark_group("fused"), InputCodes::any(128));
    let mut blocks = efficientnet_lite0_blocks();
    blocks.dedup();
    for block in blocks {
        let (d, p) = (&block.depthwise, &block.project);
        let mut seen = Vec::new();
        for isa in Isa::available() {
            let Some(pair) = Layer::pair(isa, &block, codes)? else { continue };
            let kind = format!("pair{}s{}", d.kernel_h, d.stride_h);
            let name = format!("{kind}_{}x{}_{}_{}", d.out_h, d.out_w, block.expand.in_c, d.out_c);
            let macs = block.expand.macs() + d.macs_depthwise();
            layer(&mut group, &name, macs, pair, &mut seen);
            let adds = if block.adds { "_adds" } else { "" };
            let name = format!("project_{}x{}_{}_{}{adds}", p.out_h, p.out_w, p.in_c, p.out_c);
            let project = Layer::projection(isa, &block, true, codes)?;
            layer(&mut group, &name, p.macs(), project, &mut seen);
        }
    }
    group.finish();
    Ok(())
}

/// The image's way in, and the classifier's way out; once where two sets have the same kernel.
fn borders(group: &mut BenchmarkGroup<'_, Roofed>) -> Result<(), KernelError> {
    let image = vec![0.5f32; 3 * 224 * 224];
    let mut quantized = vec![0; image.len()];
    let (scores, mut floats) = (bytes(1000), vec![0.0; 1000]);
    let mut seen = Vec::new();
    for isa in Isa::available() {
        let quantize = Quantize::new(isa, 3, 224 * 224, 0.0078, 128)?;
        let dequantize = Dequantize::new(isa, 1000, 1, 0.1, 128)?;
        let (to, from) = (quantize.kernel(), dequantize.kernel());
        if !seen.contains(&to) {
            group.throughput(roofed::values(image.len() as u64));
            group.bench_function(format!("quantize_224x224_3/{to}"), |b| {
                b.iter(|| quantize.run(&image, &mut quantized));
            });
        }
        if !seen.contains(&from) {
            group.throughput(roofed::values(1000));
            group.bench_function(format!("dequantize_1000/{from}"), |b| {
                b.iter(|| dequantize.run(&scores, &mut floats));
            });
        }
        seen.extend([to, from]);
    }
    Ok(())
}

fn kernels(c: &mut Criterion<Roofed>) {
    let adding = efficientnet_lite0_adding().into_iter().filter(|entry| entry.adds);
    let entries: Vec<_> = efficientnet_lite0().into_iter().chain(adding).collect();
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
        for one in &entries {
            if one.op == op && one.geometry.is_pointwise() == pointwise {
                entry(&mut group, one).expect("the catalogue is valid");
            }
        }
        group.finish();
    }
    fused(c).expect("the catalogue is valid");
    let mut group = c.benchmark_group("quantize");
    borders(&mut group).expect("the parameters are valid");
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(Roofed)
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_millis(800));
    targets = kernels
}
criterion_main!(benches);
