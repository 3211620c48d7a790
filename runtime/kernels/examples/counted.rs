//! Runs every layer shape of EfficientNet-Lite0 in a window that a counter of instructions can
//! see; `benches/counts/count.sh` counts. `counted [BITS]`: bits of the input's codes, 8 or 7.
//! One line a window: name, how often the network has the layer, kernel. The first window is
//! empty: its count is what a window itself costs.
//!
//! A window lies between two harmless system calls, `sched_get_priority_max(MARK)`, which a plugin
//! of qemu sees; it is also a call of `counted_window`, which valgrind's `--toggle-collect` sees.
#![allow(clippy::print_stdout, missing_docs)]

use std::hint::black_box;

use kinglet_kernels::catalogue::{Layer, SEVEN_BITS, efficientnet_lite0};
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
extern "C" fn counted_window(layer: Option<&mut Layer>) {
    mark();
    if let Some(layer) = layer {
        layer.run();
    }
    mark();
}

fn main() {
    let isa = Isa::select().expect("KINGLET_ISA names an instruction set of this CPU");
    let codes = match std::env::args().nth(1).as_deref() {
        None | Some("8") => InputCodes::any(128),
        Some("7") => SEVEN_BITS,
        Some(other) => panic!("bits are 8 or 7, not {other}"),
    };
    println!("empty 1 {}", isa.name());
    counted_window(None);
    for entry in efficientnet_lite0() {
        let mut layer = Layer::new(isa, &entry, codes).expect("it is available");
        layer.run();
        println!("{} {} {}", entry.name, entry.count, layer.kernel());
        counted_window(Some(&mut layer));
        black_box(layer.output());
    }
}
