//! How a board was before and after a measurement, and what that says of it.

use serde::{Deserialize, Serialize};

/// From this temperature on boards slow down, thousandths of a degree Celsius.
pub const HOT_MC: i64 = 80_000;

/// What `kinglet bench` reads of the board; what a machine does not show is missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// What the machine calls itself.
    pub model: Option<String>,
    /// Cores.
    pub cores: u32,
    /// Memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Clock governor.
    pub governor: Option<String>,
    /// Clock, kHz.
    pub clock_khz: Option<u64>,
    /// Highest clock, kHz.
    pub max_clock_khz: Option<u64>,
    /// Temperature, thousandths of a degree Celsius.
    pub temperature_mc: Option<i64>,
    /// The firmware's flags, as one word; the same facts since boot are 16 bits higher.
    pub throttling: Option<u32>,
}

/// Bit of the firmware's word, and its meaning. Source: `vcgencmd get_throttled`.
const FLAGS: [(u32, &str); 4] = [
    (0, "under-voltage"),
    (1, "the clock was capped"),
    (2, "throttled"),
    (3, "the soft temperature limit was active"),
];

impl Health {
    /// Why figures between `self` and `after` do not count: the board was slowed down.
    #[must_use]
    pub fn invalid(&self, after: &Self) -> Vec<String> {
        let (before, after) = (self.throttling.unwrap_or(0), after.throttling.unwrap_or(0));
        let set = |word: u32, bit: u32| word >> bit & 1 == 1;
        let during = |bit: u32| {
            // What was so at one of its ends, or was so for the first time since boot in between.
            set(before, bit) || set(after, bit) || (set(after, bit + 16) && !set(before, bit + 16))
        };
        FLAGS.iter().filter(|(bit, _)| during(*bit)).map(|(_, text)| (*text).to_owned()).collect()
    }

    /// What may have changed figures between `self` and `after`, without making them worthless.
    #[must_use]
    pub fn notes(&self, after: &Self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(governor) = self.governor.as_deref().filter(|g| *g != "performance") {
            notes.push(format!("the clock governor is '{governor}'"));
        }
        if let Some(hot) = after.temperature_mc.filter(|t| *t >= HOT_MC) {
            notes.push(format!("{:.1} °C at the end", hot as f64 / 1e3));
        }
        if let (Some(clock), Some(most)) = (after.clock_khz, after.max_clock_khz)
            && clock < most / 100 * 95
        {
            notes.push(format!("the clock was {} of {} MHz at the end", clock / 1000, most / 1000));
        }
        notes
    }

    /// Temperature, clock and flags in a few words; empty where nothing is known.
    #[must_use]
    pub fn line(&self) -> String {
        let temperature = self.temperature_mc.map(|t| format!("{:.1} °C", t as f64 / 1e3));
        let clock = self.clock_khz.map(|c| format!("{} MHz", c / 1000));
        let flags = self.throttling.map(|t| format!("{t:#x}"));
        [temperature, clock, flags].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(word: u32) -> Health {
        Health { throttling: Some(word), ..Health::default() }
    }

    #[test]
    fn slowed_down_before_after_or_in_between_does_not_count() {
        assert!(flags(0).invalid(&flags(0)).is_empty());
        // Something of long ago does not matter.
        assert!(flags(0x50000).invalid(&flags(0x50000)).is_empty());
        assert_eq!(flags(0).invalid(&flags(0x4)), ["throttled"]);
        assert_eq!(flags(0x1).invalid(&flags(0)), ["under-voltage"]);
        assert_eq!(flags(0).invalid(&flags(0x80000)), ["the soft temperature limit was active"]);
        assert!(Health::default().invalid(&Health::default()).is_empty());
    }

    #[test]
    fn heat_clock_and_governor_are_noted() {
        let before = Health { governor: Some("ondemand".into()), ..Health::default() };
        let after = Health {
            temperature_mc: Some(81_500),
            clock_khz: Some(600_000),
            max_clock_khz: Some(1_500_000),
            throttling: Some(0x50000),
            ..Health::default()
        };
        let notes = before.notes(&after).join("; ");
        assert!(notes.contains("ondemand") && notes.contains("81.5 °C"), "{notes}");
        assert!(notes.contains("600 of 1500 MHz"), "{notes}");
        assert_eq!(after.line(), "81.5 °C, 600 MHz, 0x50000");
        assert_eq!(Health::default().line(), "");
    }
}
