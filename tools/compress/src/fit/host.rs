//! This machine's own rates, from measured networks, and how far predictions are off.

use std::path::PathBuf;
use std::time::Duration;

use cpu_time::ThreadTime;
use kinglet_deploy::{Rates, Speed};
use kinglet_engine::{ModelError, Options, Session};

use super::cost::{self, moved};
use super::{Precision, Variant};
use crate::arch::Arch;
use crate::import::{ImportError, ImportOptions, import_random};
use crate::quantize::{Calibrator, Cures, QuantizeError, QuantizeOptions, quantize};
use crate::timing;

/// Runs of a network, at least; the least time counts.
const RUNS: usize = 20;
/// Time of the runs of a network, at least.
const TIME: Duration = Duration::from_millis(500);
/// Steps of the search for rates.
const STEPS: usize = 20_000;
/// Least time of a unit of each kind of work, and of a layer, milliseconds: what takes less does not
/// show in the time of a network.
const LEAST: [f64; 6] = [1.0, 1.0, 1.0, 1.0, 1.0, 0.0];

/// Why a measurement failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// A network could not be built.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A network could not be quantized.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// A network did not run.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A variant and its measured latency on one thread.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// The variant.
    pub variant: Variant,
    /// Milliseconds, the least of many.
    pub ms: f64,
}

/// A measured latency beside the predicted one.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// What was measured.
    pub measured: Measured,
    /// Predicted milliseconds.
    pub predicted_ms: f64,
}

impl Check {
    /// How far the prediction is off, as a share of what was measured.
    #[must_use]
    pub fn error(&self) -> f64 {
        (self.predicted_ms - self.measured.ms) / self.measured.ms
    }
}

fn list(rows: &[(&str, u32)], width: f64) -> Vec<Variant> {
    let both = |&(name, side): &(&str, u32)| {
        let arch = Arch::find(name)?;
        let of = |precision| Variant { arch, width, depth: 1.0, side, precision };
        Some([Precision::Int8, Precision::F32].map(of))
    };
    rows.iter().filter_map(both).flatten().collect()
}

/// The networks that rates are found from.
#[must_use]
pub fn fit_variants() -> Vec<Variant> {
    let mut all = list(
        &[
            ("efficientnet-lite0", 224),
            ("efficientnet-lite0", 128),
            ("efficientnet-lite1", 192),
            ("efficientnet-b0", 224),
            ("efficientnet-b0", 128),
            ("efficientnetv2-b0", 192),
            ("efficientnetv2-b0", 128),
        ],
        1.0,
    );
    all.extend(list(&[("efficientnet-lite0", 192)], 0.5));
    all
}

/// The networks that predictions are compared with: none of those of [`fit_variants`].
#[must_use]
pub fn check_variants() -> Vec<Variant> {
    let mut all = list(
        &[
            ("efficientnet-lite0", 160),
            ("efficientnet-lite1", 240),
            ("efficientnet-lite2", 224),
            ("efficientnet-lite3", 192),
            ("efficientnet-b0", 192),
            ("efficientnet-b1", 160),
            ("efficientnetv2-b0", 224),
            ("efficientnetv2-b1", 160),
        ],
        1.0,
    );
    all.extend(list(&[("efficientnet-lite0", 224), ("efficientnet-b0", 192)], 0.5));
    all
}

/// Builds a variant with random weights, int8 calibrated on `pictures`, and measures it on one
/// thread.
///
/// # Errors
/// [`FitError`] when it cannot be built or run.
pub fn measure(variant: Variant, pictures: &[PathBuf]) -> Result<Measured, FitError> {
    let options = ImportOptions {
        resolution: Some(variant.side),
        scale: Some([variant.width, variant.depth]),
        ..Default::default()
    };
    let float = import_random(variant.arch, 1, &options)?;
    let file = match variant.precision {
        Precision::Int8 => {
            // What the codes are does not matter here: the quick ways.
            let options = QuantizeOptions {
                calibrator: Some(Calibrator::MinMax),
                search_weights: false,
                cures: Cures::Only(Vec::new()),
                ..Default::default()
            };
            quantize(&float, "", pictures, &options, &|_| ())?.file
        }
        Precision::F16 | Precision::F32 => float,
    };
    let mut session = Session::new(file, &Options { self_test: false, ..Options::default() })?;
    let ms = timing::least_ms(&mut session, RUNS, TIME)?;
    Ok(Measured { variant, ms })
}

/// Rates with which predictions are nearest to what was measured, in relative squared error.
///
/// Only what measured networks do is known: f16 is left out.
#[must_use]
pub fn calibrate(measured: &[Measured]) -> Speed {
    let of = |precision| {
        let own = measured.iter().filter(|m| m.variant.precision == precision);
        own.copied().collect::<Vec<_>>()
    };
    let mut speed = Speed {
        source: "measured on this machine".into(),
        bandwidth_gb_s: bandwidth(),
        cache_kib: cache_kib(),
        layer_overhead_us: 0.0,
        thread_efficiency: 0.8,
        int8: Rates {
            pointwise: 1.0,
            depthwise: 1.0,
            dense: 1.0,
            activation: 1.0,
            elementwise: 1.0,
        },
        f16: None,
        f32: Rates {
            pointwise: 1.0,
            depthwise: 1.0,
            dense: 1.0,
            activation: 1.0,
            elementwise: 1.0,
        },
    };
    let (int8, overhead_int8) = rates(&of(Precision::Int8), &speed);
    let (f32, overhead_f32) = rates(&of(Precision::F32), &speed);
    (speed.int8, speed.f32) = (int8, f32);
    speed.layer_overhead_us = 0.5 * (overhead_int8 + overhead_f32);
    speed
}

/// Rates of one type, and the overhead of a layer in microseconds.
fn rates(measured: &[Measured], speed: &Speed) -> (Rates, f64) {
    // Time in milliseconds of a unit (10^9, or a layer) of each kind.
    let mut times = [20.0, 20.0, 20.0, 20.0, 20.0, 0.0];
    // Which layers wait for memory depends on the rates: a few rounds settle it.
    for _ in 0..5 {
        let rows: Vec<([f64; 6], f64)> = measured.iter().map(|m| row(m, &times, speed)).collect();
        solve(&rows, &mut times);
    }
    let rate = |kind: usize| 1e3 / times[kind];
    let rates = Rates {
        pointwise: rate(0),
        depthwise: rate(1),
        dense: rate(2),
        activation: rate(3),
        elementwise: rate(4),
    };
    (rates, 1e3 * times[5])
}

/// Work of each kind in layers that wait for arithmetic, and number of layers, and what is left of
/// the measured time for them; both as shares of the measured time.
fn row(measured: &Measured, times: &[f64; 6], speed: &Speed) -> ([f64; 6], f64) {
    let Variant { side, precision, .. } = measured.variant;
    let work = cost::work(&measured.variant.network(), side as usize, precision);
    let all_weights: f64 = work.iter().map(|w| w.weights).sum();
    let (mut row, mut left) = ([0.0; 6], measured.ms);
    for layer in &work {
        let kind = layer.kind as usize;
        let amount = layer.amount / 1e9;
        let moving = moved(layer, all_weights, speed) / (speed.bandwidth_gb_s * 1e6);
        if moving > amount * times[kind] {
            left -= moving;
        } else {
            row[kind] += amount;
        }
        row[5] += 1.0;
    }
    (row.map(|v| v / measured.ms), left / measured.ms)
}

/// Least squares with values of at least [`LEAST`], one unknown after the other.
fn solve(rows: &[([f64; 6], f64)], times: &mut [f64; 6]) {
    for _ in 0..STEPS {
        for at in 0..times.len() {
            let square: f64 = rows.iter().map(|(r, _)| r[at] * r[at]).sum();
            if square <= 0.0 {
                continue;
            }
            let error = |(row, target): &([f64; 6], f64)| {
                let sum: f64 = row.iter().zip(&*times).map(|(r, t)| r * t).sum();
                row[at] * (target - sum)
            };
            let step = rows.iter().map(error).sum::<f64>() / square;
            times[at] = (times[at] + step).max(LEAST[at]);
        }
    }
}

/// How fast this machine reads memory, GB/s.
fn bandwidth() -> f64 {
    let buffer = vec![1_u64; 16 << 20];
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = ThreadTime::now();
        let sum = buffer.chunks_exact(8).fold([0_u64; 8], |mut sums, chunk| {
            sums.iter_mut().zip(chunk).for_each(|(s, v)| *s = s.wrapping_add(*v));
            sums
        });
        std::hint::black_box(sum);
        best = f64::min(best, start.elapsed().as_secs_f64());
    }
    8.0 * buffer.len() as f64 / best / 1e9
}

/// Size of the last cache, KiB; 8 MiB where the system does not say it.
fn cache_kib() -> u32 {
    let size = |level: u32| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{level}/size");
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().strip_suffix('K')?.parse::<u32>().ok()
    };
    (2..=4).filter_map(size).max().unwrap_or(8 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times made up from rates give the rates back, at least as far as predictions go.
    #[test]
    fn rates_are_found_from_times_made_with_them() {
        let truth = Rates {
            pointwise: 150.0,
            depthwise: 30.0,
            dense: 80.0,
            activation: 2.0,
            elementwise: 4.0,
        };
        let speed = Speed {
            source: String::new(),
            bandwidth_gb_s: 10.0,
            cache_kib: 32 << 10,
            layer_overhead_us: 3.0,
            thread_efficiency: 0.8,
            int8: truth,
            f16: None,
            f32: truth,
        };
        let time = |variant: Variant| {
            let work = cost::work(&variant.network(), variant.side as usize, variant.precision);
            Measured { variant, ms: cost::latency_ms(&work, &speed, &truth, 1) }
        };
        let own = |v: &Variant| v.precision == Precision::Int8;
        let measured: Vec<_> = fit_variants().into_iter().filter(own).map(time).collect();
        let (found, overhead) = rates(&measured, &speed);
        let found = Speed { int8: found, layer_overhead_us: overhead, ..speed.clone() };
        for variant in check_variants().into_iter().filter(own) {
            let work = cost::work(&variant.network(), variant.side as usize, variant.precision);
            let predicted_ms = cost::latency_ms(&work, &found, &found.int8, 1);
            let check = Check { measured: time(variant), predicted_ms };
            assert!(check.error().abs() < 0.02, "{variant}: {check:?}");
        }
    }

    #[test]
    fn what_is_checked_was_not_fitted() {
        let fitted: Vec<String> = fit_variants().iter().map(ToString::to_string).collect();
        let checked = check_variants();
        assert!(checked.len() >= 12);
        assert!(checked.iter().all(|v| !fitted.contains(&v.to_string())));
    }
}
