//! The Raspberry Pi firmware's throttling flags.
//!
//! Source: the documentation of `vcgencmd get_throttled`; the kernel shows the same word, in
//! hexadecimal without prefix, as `get_throttled` of the firmware device.

use serde::Serialize;

/// The flags as one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Throttling(pub u32);

/// Bit and meaning; the same fact "since boot" is 16 bits higher.
const FLAGS: [(u32, &str); 4] = [
    (0, "under-voltage (the power supply is too weak)"),
    (1, "the clock is capped"),
    (2, "throttled"),
    (3, "the soft temperature limit is active"),
];

impl Throttling {
    /// Reads the hexadecimal word, with or without `0x`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok().map(Self)
    }

    /// What is true now, in words.
    pub fn now(self) -> impl Iterator<Item = &'static str> {
        FLAGS.into_iter().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, text)| text)
    }

    /// What has been true since boot, in words.
    pub fn since_boot(self) -> impl Iterator<Item = &'static str> {
        Self(self.0 >> 16).now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_now_and_of_the_past_are_apart() {
        let flags = Throttling::parse("0x50001").unwrap();
        assert_eq!(flags.now().count(), 1);
        assert_eq!(flags.since_boot().count(), 2);
        assert_eq!(Throttling::parse("zz"), None);
    }
}
