//! Runs layers of EfficientNet-Lite0 in windows that a counter of instructions can see;
//! `benches/counts/count.sh` counts. `counted [WHAT]`:
//!
//! | WHAT | layers |
//! |---|---|
//! | `8`, `7` | every int8 layer shape by itself; input codes of so many bits |
//! | `fused` | each int8 block as one thread runs it: pair where there is a kernel, projection with residual |
//! | `f32`, `f16` | every layer shape in floats, residuals in the projections |
//! | `frame` | no layer: a frame of 1280x720 YUYV to 224x224 RGB, 13 taps (bicubic) |
//!
//! One line a window: name, how often the network has the layer, kernel. The first window is
//! empty: its count is what a window itself costs.
//!
//! A window lies between two harmless system calls, `sched_get_priority_max(MARK)`, which a plugin
//! of qemu sees; it is also a call of `counted_window`, which valgrind's `--toggle-collect` sees.
#![allow(clippy::print_stdout, missing_docs)]

use std::hint::black_box;

use half::f16;
use kinglet_kernels::catalogue::{
    Block, Layer, SEVEN_BITS, efficientnet_lite0, efficientnet_lite0_adding,
    efficientnet_lite0_blocks,
};
use kinglet_kernels::float::Element;
use kinglet_kernels::resample::{Packing, ROWS, Resample, Taps, Weights};
use kinglet_kernels::yuv::{Coefficients, YuvToRgb};
use kinglet_kernels::{InputCodes, Isa};

/// No scheduling policy has this number, so the call fails and changes nothing.
const MARK: i32 = 0x5150_0000;

unsafe extern "C" {
    fn sched_get_priority_max(policy: i32) -> i32;
}

fn mark() {
    // SAFETY: the function takes any number and touches no memory but `errno`.
    black_box(unsafe { sched_get_priority_max(black_box(MARK)) });
}

#[unsafe(no_mangle)]
#[inline(never)]
fn counted_window(run: Option<&mut dyn FnMut()>) {
    mark();
    if let Some(run) = run {
        run();
    }
    mark();
}

fn main() {
    let isa = Isa::select().expect("KINGLET_ISA names an instruction set of this CPU");
    println!("empty 1 {}", isa.name());
    counted_window(None);
    match std::env::args().nth(1).as_deref() {
        None | Some("8") => codes(isa, InputCodes::any(128)),
        Some("7") => codes(isa, SEVEN_BITS),
        Some("fused") => fused(isa),
        Some("f32") => floats::<f32>(isa),
        Some("f16") => floats::<f16>(isa),
        Some("frame") => frame(isa),
        Some(other) => panic!("8, 7, fused, f32, f16 or frame, not {other}"),
    }
}

/// Counts the second run of a layer: the first one allocates.
fn count<T>(name: &str, times: usize, mut layer: Layer<T>) {
    layer.run();
    println!("{name} {times} {}", layer.kernel());
    counted_window(Some(&mut || layer.run()));
    black_box(layer.output());
}

fn codes(isa: Isa, codes: InputCodes) {
    for entry in efficientnet_lite0() {
        let layer = Layer::new(isa, &entry, codes).expect("it is available");
        count(&entry.name, entry.count, layer);
    }
}

fn floats<T: Element>(isa: Isa) {
    for entry in efficientnet_lite0_adding() {
        let layer = Layer::<T>::float(isa, &entry).expect("it is available");
        count(&entry.name, entry.count, layer);
    }
}

fn fused(isa: Isa) {
    let mut layers: Vec<(String, usize, Layer)> = Vec::new();
    let mut add = |name: String, layer| match layers.iter_mut().find(|(seen, ..)| *seen == name) {
        Some((_, times, _)) => *times += 1,
        None => layers.push((name, 1, layer)),
    };
    let codes = InputCodes::any(128);
    for block in efficientnet_lite0_blocks() {
        let Block { expand, depthwise: d, project, adds } = &block;
        let size = format!("{}x{}", d.out_h, d.out_w);
        let pair = Layer::pair(isa, &block, codes).expect("it is available");
        let blocked = pair.is_some();
        if let Some(pair) = pair {
            let kind = format!("pair{}s{}", d.kernel_h, d.stride_h);
            add(format!("{kind}_{size}_{}_{}", expand.in_c, d.out_c), pair);
        }
        let projection = Layer::projection(isa, &block, blocked, codes).expect("it is available");
        let channels = format!("{}_{}", project.in_c, project.out_c);
        let marks =
            [(blocked, "_blocked"), (*adds, "_adds")].map(|(is, m)| if is { m } else { "" });
        add(format!("project_{size}_{channels}{}", marks.concat()), projection);
    }
    for (name, times, layer) in layers {
        count(&name, times, layer);
    }
}

/// A frame as the engine's preprocessor takes it, but for the tensor's table.
fn frame(isa: Isa) {
    const SIDE: usize = 224;
    const ROW: usize = 2 * 720;
    const STRIDE: usize = 2 * 1280;
    const LEFT: usize = 2 * 280;
    let passes = Resample::new(isa).expect("it is available");
    // Nobody looks at the picture: what counts is how many weights there are.
    let axis = |samples: u32, taps: usize| {
        let start = |i: usize| (i as u32 * samples / SIDE as u32).min(samples - taps as u32);
        let starts: Vec<u32> = (0..SIDE).map(start).collect();
        let (counts, weights) = ([taps as u32; SIDE], vec![(1 << 22) / taps as i32; SIDE * taps]);
        let mut laid_out = Weights::default();
        let taps = Taps { starts: &starts, counts: &counts, weights: &weights, taps };
        passes.lay_out(&taps, 0, &mut laid_out);
        laid_out
    };
    let (luma, chroma) = (axis(720, 13), axis(360, 7));
    let coefficients = Coefficients {
        black: 16,
        luma: 76_309,
        red: 104_597,
        green_u: -25_675,
        green_v: -53_279,
        blue: 132_201,
    };
    let color = YuvToRgb::new(isa, coefficients).expect("it is available");
    let plane: Vec<u8> = (0..720 * STRIDE).map(|i| (i * 7 % 251) as u8).collect();
    let (mut strip, mut block) = (vec![0; ROW * ROWS], Vec::new());
    let mut channels = [(); 3].map(|()| vec![[0; ROWS]; SIDE]);
    let mut turned = vec![[0; ROWS]; 3 * SIDE];
    let mut rgb = vec![0; SIDE * SIDE * 3];
    let mut step = |what: usize, y: usize| {
        let rgb = &mut rgb[y * SIDE * 3..(y + ROWS) * SIDE * 3];
        let [a, b, c] = &mut channels;
        match what {
            0 => {
                let from = (&plane[LEFT..], STRIDE);
                passes.vertical_rows(from, &luma, y..y + ROWS, (&mut strip, ROW), ROW);
            }
            1 => {
                let (to, axes) = (&mut [a.as_mut_slice(), b, c], [&luma, &chroma]);
                passes.channels(&strip, ROW, Packing::Yuyv, &axes, &mut block, to);
            }
            2 => color.turned(a, b, c, &mut turned),
            _ => passes.turn_back(&turned, rgb),
        }
    };
    for (what, name) in ["vertical", "channels", "color", "back"].into_iter().enumerate() {
        step(what, 0);
        println!("frame_{name} {} {}", SIDE / ROWS, passes.kernel());
        counted_window(Some(&mut || step(what, SIDE / 2)));
    }
    black_box(&rgb);
}
