//! One board, as `kinglet update` on it is called.

use serde::{Deserialize, Deserializer, de};

use super::{Kind, PushError, Status};
use crate::ssh::{Answer, Host, Ssh};

/// A board and where things are on it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Where to connect to.
    #[serde(deserialize_with = "host")]
    pub host: Host,
    /// The device's program: a name on its path, or a path.
    #[serde(default)]
    pub program: Option<String>,
    /// The folder of releases, where it is not the usual one.
    #[serde(default)]
    pub store: Option<String>,
    /// Whether the program is run with `sudo -n`.
    #[serde(default)]
    pub sudo: Option<bool>,
}

fn host<'de, D: Deserializer<'de>>(from: D) -> Result<Host, D::Error> {
    String::deserialize(from)?.parse().map_err(de::Error::custom)
}

/// What is asked of a board beyond what is usual; each is the board's own where it is not said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wishes {
    /// Take an older release too.
    pub allow_downgrade: bool,
    /// Length of the trial, seconds.
    pub trial_s: Option<u32>,
    /// How many times as slow as before the new one may be.
    pub max_slowdown: Option<f64>,
    /// Least share of frames on which old and new agree, in [0, 1].
    pub min_agreement: Option<f64>,
    /// The public key's file on the board.
    pub public_key: Option<String>,
    /// The model on the board that it came with: what a new one is compared with while the store has none,
    /// and what a new program is tested by.
    pub model: Option<String>,
}

/// What a shell says of a program that is not there.
const NOT_FOUND: i32 = 127;

impl Device {
    /// A board with everything in its usual place.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Self { host, program: None, store: None, sudo: None }
    }

    fn program(&self) -> &str {
        self.program.as_deref().unwrap_or("kinglet")
    }

    /// The words of `kinglet update …` on the board.
    pub(super) fn words(&self, after: &[&str]) -> Vec<String> {
        let mut words = Vec::new();
        if self.sudo == Some(true) {
            words.extend(["sudo", "-n"]);
        }
        words.extend([self.program(), "update"]);
        words.extend(after);
        if let Some(store) = &self.store {
            words.extend(["--store", store]);
        }
        words.into_iter().map(str::to_owned).collect()
    }

    /// The words that take a release.
    pub(super) fn install(&self, kind: Kind, wishes: &Wishes) -> Vec<String> {
        let mut words = self.words(&["install", "--kind", kind.name()]);
        if wishes.allow_downgrade {
            words.push("--allow-downgrade".into());
        }
        let values = [
            ("--trial", wishes.trial_s.map(|v| v.to_string())),
            ("--max-slowdown", wishes.max_slowdown.map(|v| v.to_string())),
            ("--min-agreement", wishes.min_agreement.map(|v| v.to_string())),
            ("--public-key", wishes.public_key.clone()),
            ("--model", wishes.model.clone()),
        ];
        for (flag, value) in values {
            words.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
        }
        words
    }

    /// What runs there.
    ///
    /// # Errors
    /// [`PushError`].
    pub fn status(&self, ssh: &Ssh) -> Result<Status, PushError> {
        let words = self.words(&["status", "--json"]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answer = ssh.try_ask(&self.host, &words, b"")?;
        if answer.code != 0 {
            return Err(self.refused(answer));
        }
        serde_json::from_str(answer.stdout.trim()).map_err(|error| PushError::Answer {
            host: self.host.to_string(),
            why: format!("status: {error}"),
        })
    }

    /// The error of a command that failed there.
    pub(super) fn refused(&self, answer: Answer) -> PushError {
        let host = self.host.to_string();
        if answer.code == NOT_FOUND {
            return PushError::NoProgram { host, program: self.program().to_owned() };
        }
        let last = answer.stderr.lines().last().unwrap_or_default();
        let last = last.strip_prefix("error: ").unwrap_or(last);
        let said = if last.is_empty() { "it does not say why" } else { last };
        PushError::Refused { host, code: answer.code, said: said.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_device() {
        let mut device = Device::new("pi".parse().unwrap());
        assert_eq!(device.words(&["status"]), ["kinglet", "update", "status"]);
        device.sudo = Some(true);
        device.program = Some("/usr/local/bin/kinglet".into());
        device.store = Some("/tmp/a store".into());
        let wishes = Wishes {
            allow_downgrade: true,
            trial_s: Some(60),
            max_slowdown: Some(1.5),
            min_agreement: Some(0.9),
            public_key: Some("/k".into()),
            model: Some("/m.onnx".into()),
        };
        let expected = "sudo -n /usr/local/bin/kinglet update install --kind app --store|/tmp/a store|\
            --allow-downgrade --trial 60 --max-slowdown 1.5 --min-agreement 0.9 --public-key /k --model /m.onnx";
        assert_eq!(device.install(Kind::App, &wishes).join(" "), expected.replace('|', " "));
    }
}
