//! Work against what others count, and the choice.

use kinglet_deploy::{Rates, Speed};

use super::*;
use crate::import::{ImportOptions, import_random};
use crate::inspect::inspect;

fn speed() -> Speed {
    let rates =
        Rates { pointwise: 20.0, depthwise: 5.0, dense: 10.0, activation: 1.0, elementwise: 1.0 };
    Speed {
        source: String::new(),
        bandwidth_gb_s: 4.0,
        cache_kib: 1024,
        layer_overhead_us: 2.0,
        thread_efficiency: 0.8,
        int8: rates,
        f16: None,
        f32: rates,
    }
}

#[test]
fn work_is_that_of_the_graph() {
    for (name, side, scale) in [
        ("efficientnet-lite0", 224, [1.0, 1.0]),
        ("efficientnet-b1", 160, [1.0, 1.0]),
        ("efficientnetv2-b0", 96, [0.5, 0.5]),
    ] {
        let arch = Arch::find(name).unwrap();
        let options =
            ImportOptions { resolution: Some(side), scale: Some(scale), ..Default::default() };
        let inspection = inspect(&import_random(arch, 1, &options).unwrap()).unwrap();
        let network = arch.scaled(scale[0], scale[1], side).network(1000);
        assert_eq!(macs(&work(&network, side as usize, Precision::F32)), inspection.macs as f64);
    }
}

#[test]
fn more_work_takes_longer_and_more_threads_less() {
    let all = candidates(&variants(&[Precision::Int8, Precision::F16]), &speed(), 1);
    // The board has no f16.
    assert!(all.iter().all(|c| c.variant.precision == Precision::Int8) && all.len() > 100);
    let four = candidates(&variants(&[Precision::Int8]), &speed(), 4);
    assert!(all.iter().zip(&four).all(|(a, b)| b.latency_ms < a.latency_ms));
    let find = |name: &str, side: u32| {
        let own = |c: &&Candidate| {
            c.variant.arch.name == name
                && c.variant.side == side
                && c.variant.width == 1.0
                && c.variant.depth == 1.0
        };
        *all.iter().find(own).unwrap()
    };
    assert!(
        find("efficientnet-lite0", 128).latency_ms < find("efficientnet-lite0", 224).latency_ms
    );
    assert!(find("efficientnet-lite0", 224).accuracy.published);
    assert!(!find("efficientnet-b0", 224).accuracy.published, "int8 was not published");
}

#[test]
fn nothing_beats_the_front() {
    let all = candidates(&variants(&[Precision::Int8, Precision::F32]), &speed(), 4);
    let front = front(&all);
    assert!(front.len() > 10);
    let pairs = front.windows(2).map(|w| (w[0], w[1]));
    for (a, b) in pairs {
        assert!(a.latency_ms <= b.latency_ms && a.accuracy.top1 < b.accuracy.top1);
    }
    for c in &all {
        let beaten =
            |f: &Candidate| f.latency_ms <= c.latency_ms && f.accuracy.top1 >= c.accuracy.top1;
        assert!(front.iter().any(beaten));
    }
    let svg = svg("a board", &all, &front, 10.0).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("a board") && svg.contains("top-1"));
}
