//! Least times, peaks of arithmetic and of reading.

use std::time::{Duration, Instant};

use kinglet_kernels::peak::{self, Loop};
use serde::Serialize;

use crate::machine;

/// The least time of one call, in seconds: calls go on until both `runs` of them and `time` are
/// over. The first call does not count.
pub fn least(runs: usize, time: Duration, mut call: impl FnMut()) -> f64 {
    call();
    let (start, mut best, mut done) = (Instant::now(), f64::INFINITY, 0);
    while done < runs || start.elapsed() < time {
        let one = Instant::now();
        call();
        best = best.min(one.elapsed().as_secs_f64());
        done += 1;
    }
    best
}

/// A rate of arithmetic.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// Of the loop, as [`Loop::name`].
    pub name: &'static str,
    /// Of one core.
    pub gmac_per_s: f64,
}

/// The peak of every loop this CPU can run.
pub fn arithmetic() -> Vec<Rate> {
    Loop::available().iter().map(rate).collect()
}

fn rate(one: &Loop) -> Rate {
    // Parts of a millisecond: long beside the clock, short beside a time slice.
    const ROUNDS: u32 = 20_000;
    let macs = one.run(ROUNDS);
    let seconds = least(50, Duration::from_millis(100), || {
        one.run(ROUNDS);
    });
    Rate { name: one.name(), gmac_per_s: macs as f64 / seconds / 1e9 }
}

/// How fast one core reads a buffer, again and again.
#[derive(Clone, Debug, Serialize)]
pub struct Reading {
    /// `L1`, `L2`, `L3` or `memory`.
    pub level: String,
    /// Of the buffer.
    pub bytes: usize,
    /// Of one core.
    pub gb_per_s: f64,
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Reading speed of a buffer of half of each cache, and of one four times the last.
pub fn reading() -> Vec<Reading> {
    let caches = machine::data_caches();
    let last = caches.last().copied().unwrap_or(8 << 20);
    let of_cache = |(i, size): (usize, &usize)| (format!("L{}", i + 1), size / 2);
    let mut sizes: Vec<_> = caches.iter().enumerate().map(of_cache).collect();
    sizes.push(("memory".to_owned(), (4 * last).clamp(32 << 20, 256 << 20)));
    let measure = |(level, bytes): (String, usize)| {
        let bytes = bytes - bytes % peak::READ_BLOCK;
        // On a cache line's boundary: the widest loads would otherwise touch two lines each.
        let padded = vec![1u8; bytes + LINE];
        let buffer = &padded[padded.as_ptr().align_offset(LINE)..][..bytes];
        let times = (1 << 18) / bytes + 1;
        let seconds = least(5, Duration::from_millis(100), || {
            for _ in 0..times {
                peak::read(buffer);
            }
        });
        Reading { level, bytes, gb_per_s: (bytes * times) as f64 / seconds / 1e9 }
    };
    sizes.into_iter().map(measure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_at_least_so_many_runs_and_a_first_that_does_not_count() {
        let mut calls = 0;
        let seconds = least(3, Duration::ZERO, || {
            calls += 1;
            std::thread::sleep(Duration::from_millis(if calls == 3 { 1 } else { 30 }));
        });
        assert_eq!(calls, 4);
        assert!((0.001..0.030).contains(&seconds), "{seconds}");
    }
}
