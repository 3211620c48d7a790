//! How often the model runs: at a fixed rate, or as fast as the temperature allows.
//!
//! The firmware of a Raspberry Pi slows its clock in steps when it is hot, which makes every
//! inference slow. The governor makes a pause between inferences instead, before that happens: the
//! pause grows while the processor is hot, and shrinks when it is cool again.

use std::time::Duration;

/// What the processor says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Heat {
    /// Temperature, °C, where it is known.
    pub(crate) celsius: Option<f64>,
    /// Whether the firmware slows the clock already.
    pub(crate) throttled: bool,
}

/// Longest pause between two inferences that heat causes.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often the pause changes.
const STEP: Duration = Duration::from_secs(1);
/// So many degrees below the limit the pause shrinks again; between, it stays.
const MARGIN: f64 = 4.0;

/// Says when the next inference may begin.
#[derive(Debug)]
pub(crate) struct Governor {
    /// Least time from one start to the next.
    interval: Duration,
    /// Temperature from which it slows down, °C.
    limit: Option<f64>,
    pause: Duration,
    stepped: Option<Duration>,
}

impl Governor {
    /// At most `fps` inferences a second, all that come if `None`; slower from `limit` °C on.
    pub(crate) fn new(fps: Option<f64>, limit: Option<f64>) -> Self {
        let interval = fps.map_or(Duration::ZERO, |fps| Duration::from_secs_f64(1.0 / fps));
        Self { interval, limit, pause: Duration::ZERO, stepped: None }
    }

    /// When the next inference may begin, after one that ran from `started` to `ended`.
    pub(crate) fn next(&mut self, started: Duration, ended: Duration, heat: Heat) -> Duration {
        if self.limit.is_some() && self.stepped.is_none_or(|last| ended >= last + STEP) {
            self.stepped = Some(ended);
            self.step(ended.saturating_sub(started), heat);
        }
        (started + self.interval).max(ended + self.pause)
    }

    /// The pause that heat causes at present.
    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    fn step(&mut self, work: Duration, heat: Heat) {
        let limit = self.limit.unwrap_or(f64::INFINITY);
        let celsius = heat.celsius.unwrap_or(f64::NEG_INFINITY);
        if heat.throttled || celsius >= limit {
            // The first step takes a fifth of the load away.
            self.pause = (self.pause * 3 / 2).max(work / 4).clamp(STEP / 500, LONGEST_PAUSE);
        } else if celsius < limit - MARGIN {
            self.pause = self.pause * 4 / 5;
            if self.pause < work / 20 {
                self.pause = Duration::ZERO;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Duration = Duration::from_millis(40);

    /// A board as a first-order system: it goes towards 35 °C idle and `full` °C under full load,
    /// with a time constant of a minute. Gives the hottest and the last temperature, and the last
    /// share of time that is work.
    fn simulate(full: f64, limit: Option<f64>) -> (f64, f64, f64) {
        let mut governor = Governor::new(None, limit);
        let (mut now, mut celsius, mut hottest, mut load) = (Duration::ZERO, 35.0, 0.0f64, 1.0);
        while now < Duration::from_secs(3600) {
            let heat = Heat { celsius: Some(celsius), throttled: celsius >= 80.0 };
            let next = governor.next(now, now + WORK, heat);
            let taken = (next - now).max(WORK).as_secs_f64();
            load = WORK.as_secs_f64() / taken;
            celsius += (35.0 + (full - 35.0) * load - celsius) * (1.0 - (-taken / 60.0).exp());
            hottest = hottest.max(celsius);
            now += Duration::from_secs_f64(taken);
        }
        (hottest, celsius, load)
    }

    #[test]
    fn a_hot_board_stays_below_the_firmwares_limit_and_keeps_working() {
        assert!(simulate(95.0, None).0 > 90.0, "the simulated board would be too hot");
        for full in [82.0, 95.0, 120.0] {
            let (hottest, last, load) = simulate(full, Some(75.0));
            assert!(hottest < 80.0, "{full}: {hottest}");
            // Not slower than the heat demands: the load that would hold 66 degrees.
            assert!(load > (66.0 - 35.0) / (full - 35.0), "{full}: {last} at {load}");
        }
    }

    #[test]
    fn a_cool_board_is_not_slowed() {
        let (_, _, load) = simulate(65.0, Some(75.0));
        assert_eq!(load, 1.0);
        let mut blind = Governor::new(None, Some(75.0));
        let end = Duration::from_secs(1);
        assert_eq!(blind.next(Duration::ZERO, end, Heat::default()), end);
    }

    #[test]
    fn a_fixed_rate_counts_from_start_to_start() {
        let mut governor = Governor::new(Some(5.0), None);
        let next =
            governor.next(Duration::from_secs(1), Duration::from_secs(1) + WORK, Heat::default());
        assert_eq!(next, Duration::from_millis(1200));
    }
}
