//! Criterion's throughput line in GMAC/s and as a share of what the core can do at most.

use std::sync::{Mutex, OnceLock, PoisonError};

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use kinglet_benches::measure::{self, Rate};
use kinglet_kernels::peak;

/// What the elements of the running benchmark's throughput are.
#[derive(Clone, Copy)]
enum Elements {
    /// Values that are read.
    Values,
    /// Multiply-accumulates, and the most that are possible, GMAC/s; `None` where some of them
    /// are done in a way whose peak is not measured.
    Macs(Option<f64>),
}

static ELEMENTS: Mutex<Elements> = Mutex::new(Elements::Values);

fn set(elements: Elements) {
    *ELEMENTS.lock().unwrap_or_else(PoisonError::into_inner) = elements;
}

/// The throughput of a benchmark that reads so many values and hardly multiplies.
#[allow(dead_code, reason = "not every program has such benchmarks")]
pub(crate) fn values(n: u64) -> Throughput {
    set(Elements::Values);
    Throughput::Elements(n)
}

/// The throughput of a benchmark that runs these layers on `threads` cores: for each its kernel and
/// multiply-accumulates. Set it just before the benchmark runs.
///
/// The peak is that of the layers' own arithmetic ([`peak::bound_of`]), measured on this core a
/// moment ago: all multiply-accumulates over the time that they would take at their peaks, times
/// the threads.
pub(crate) fn macs<'a>(
    layers: impl IntoIterator<Item = (&'a str, u64)>,
    threads: usize,
) -> Throughput {
    static PEAKS: OnceLock<Vec<Rate>> = OnceLock::new();
    let peaks = PEAKS.get_or_init(measure::arithmetic);
    let (mut all, mut at_peak) = (0, Some(0.0));
    for (kernel, macs) in layers.into_iter().filter(|&(_, macs)| macs > 0) {
        let name = peak::bound_of(kernel);
        let rate = name.and_then(|name| peaks.iter().find(|peak| peak.name == name));
        all += macs;
        at_peak = at_peak.zip(rate).map(|(time, rate)| time + macs as f64 / rate.gmac_per_s);
    }
    set(Elements::Macs(at_peak.map(|time| threads as f64 * all as f64 / time)));
    Throughput::Elements(all)
}

/// Time, with throughput as above.
pub(crate) struct Roofed;

impl Measurement for Roofed {
    type Intermediate = <WallTime as Measurement>::Intermediate;
    type Value = <WallTime as Measurement>::Value;

    fn start(&self) -> Self::Intermediate {
        WallTime.start()
    }

    fn end(&self, start: Self::Intermediate) -> Self::Value {
        WallTime.end(start)
    }

    fn add(&self, a: &Self::Value, b: &Self::Value) -> Self::Value {
        WallTime.add(a, b)
    }

    fn zero(&self) -> Self::Value {
        WallTime.zero()
    }

    fn to_f64(&self, value: &Self::Value) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Roofed {
    fn format_throughput(&self, throughput: &Throughput, nanoseconds: f64) -> String {
        let &Throughput::Elements(n) = throughput else {
            return WallTime.formatter().format_throughput(throughput, nanoseconds);
        };
        let rate = n as f64 / nanoseconds;
        match *ELEMENTS.lock().unwrap_or_else(PoisonError::into_inner) {
            Elements::Values => format!("{rate:.2} Gelem/s"),
            Elements::Macs(None) => format!("{rate:.2} GMAC/s"),
            Elements::Macs(Some(peak)) => {
                format!("{rate:.2} GMAC/s ({:.0} % of peak)", 100.0 * rate / peak)
            }
        }
    }

    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(
        &self,
        typical: f64,
        all: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        WallTime.formatter().scale_throughputs(typical, all, values)
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}
