//! What is remembered of a track, in one small file that is replaced as a whole.
//!
//! Which slot is used is not in it: that is the link `current`, so that switching is one rename. The file
//! says what each slot holds. Its last line is a hash of the rest: a file that was damaged is noticed, and
//! not believed.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Largest state file, bytes.
pub(crate) const MAX_STATE_BYTES: u64 = 16 << 10;
/// Before the hash in the last line.
const CHECK: &str = "# sha256 ";
/// Characters of a reason.
const LONGEST_WHY: usize = 300;

/// One of the two places for a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The folder `a`.
    A,
    /// The folder `b`.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The slot of a folder.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.name() == name)
    }
}

/// How far a release is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// New: it is counted how often it was begun.
    Trial,
    /// It has passed its trial.
    Good,
    /// It was rolled back and is never begun again.
    Failed,
}

/// What is asked of a release on trial beyond what the configuration says; what is not said here is left to
/// that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trial {
    /// How long it lasts, s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The new model's time at most, as a multiple of the old one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_slowdown: Option<f64>,
    /// The share of pictures in which both models see the same at least, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_agreement: Option<f64>,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotState {
    /// The release's number.
    pub release: u64,
    /// Its name.
    pub name: String,
    /// Hash of the file, 64 hexadecimal digits.
    pub sha256: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// How far it is trusted.
    pub state: Standing,
    /// How often it was begun while it was on trial.
    pub tries: u32,
    /// What its trial asks for.
    #[serde(default)]
    pub trial: Trial,
}

/// What was done last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// A release was put in and is on trial.
    #[serde(rename = "installed")]
    Installed,
    /// It passed.
    #[serde(rename = "confirmed")]
    Confirmed,
    /// It did not.
    #[serde(rename = "rolled back")]
    RolledBack,
}

/// The last thing that was done, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    /// What.
    pub outcome: Outcome,
    /// With which release.
    pub release: u64,
    /// Why, in words.
    pub why: String,
}

impl Last {
    /// With a reason that fits a line.
    pub(crate) fn new(outcome: Outcome, release: u64, why: &str) -> Self {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        Self { outcome, release, why: why.chars().map(plain).take(LONGEST_WHY).collect() }
    }
}

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// The highest number that was ever confirmed; 0: none.
    pub(crate) highest: u64,
    /// The hash of that release.
    #[serde(default)]
    pub(crate) highest_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) a: Option<SlotState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) b: Option<SlotState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<Last>,
}

impl State {
    pub(crate) fn slot(&self, slot: Slot) -> Option<&SlotState> {
        match slot {
            Slot::A => self.a.as_ref(),
            Slot::B => self.b.as_ref(),
        }
    }

    pub(crate) fn slot_mut(&mut self, slot: Slot) -> &mut Option<SlotState> {
        match slot {
            Slot::A => &mut self.a,
            Slot::B => &mut self.b,
        }
    }

    /// As it is written.
    pub(crate) fn text(&self) -> Result<String, String> {
        let mut text = toml::to_string(self).map_err(|error| error.to_string())?;
        let hash = hex(&Sha256::digest(text.as_bytes()));
        let _ = writeln!(text, "{CHECK}{hash}");
        Ok(text)
    }

    /// As it was written, and not otherwise.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let cut = text.rfind(CHECK).ok_or("it has no hash")?;
        let (body, check) = text.split_at(cut);
        if check != format!("{CHECK}{}\n", hex(&Sha256::digest(body.as_bytes()))) {
            return Err("its hash is another".into());
        }
        toml::from_str(body).map_err(|error| error.message().to_owned())
    }
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let slot = SlotState {
            release: 12,
            name: "x".into(),
            sha256: "0".repeat(64),
            bytes: 5,
            state: Standing::Trial,
            tries: 1,
            trial: Trial { seconds: Some(60.0), ..Trial::default() },
        };
        let last = Some(Last::new(Outcome::RolledBack, 11, "line\nbreak"));
        State { highest: 11, highest_sha256: "1".repeat(64), a: None, b: Some(slot), last }
    }

    #[test]
    fn it_is_read_as_it_is_written() {
        for state in [State::default(), state()] {
            assert_eq!(State::parse(&state.text().unwrap()).unwrap(), state);
        }
        assert_eq!(state().last.unwrap().why, "line break");
    }

    #[test]
    fn no_flipped_bit_and_no_cut_is_believed() {
        let text = state().text().unwrap().into_bytes();
        for at in 0..text.len() * 8 {
            let mut bytes = text.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            let believed = String::from_utf8(bytes).ok().and_then(|t| State::parse(&t).ok());
            assert_eq!(believed, None, "bit {at}");
        }
        for cut in 0..text.len() {
            assert!(State::parse(std::str::from_utf8(&text[..cut]).unwrap()).is_err());
        }
    }
}
