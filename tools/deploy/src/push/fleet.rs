//! The list of boards, `hosts.toml`.

use std::path::Path;

use serde::Deserialize;

use super::{Device, PushError};

/// Most boards of a list.
const MOST: usize = 10_000;

/// Boards, and what all of them have in common.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// The device's program, where a board does not say another.
    #[serde(default)]
    pub program: Option<String>,
    /// The folder of releases, where a board does not say another.
    #[serde(default)]
    pub store: Option<String>,
    /// Whether the program is run with `sudo -n`, where a board does not say so.
    #[serde(default)]
    pub sudo: Option<bool>,
    /// The boards, in the order in which they have their turn.
    #[serde(default, rename = "board")]
    pub boards: Vec<Device>,
}

impl Fleet {
    /// Reads and checks a list; each board has then what all have in common.
    ///
    /// # Errors
    /// [`PushError::Read`] and [`PushError::Fleet`].
    pub fn read(path: &Path) -> Result<Self, PushError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| PushError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|why| PushError::Fleet { path: path.to_owned(), why })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut fleet: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        if fleet.boards.is_empty() || fleet.boards.len() > MOST {
            return Err(format!("has {} boards ([[board]]), not 1 to {MOST}", fleet.boards.len()));
        }
        for board in &mut fleet.boards {
            board.program = board.program.take().or_else(|| fleet.program.clone());
            board.store = board.store.take().or_else(|| fleet.store.clone());
            board.sudo = board.sudo.or(fleet.sudo);
        }
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = fleet.boards.iter().find(|b| !seen.insert((&b.host, &b.store))) {
            return Err(format!("has the board {} twice", twice.host));
        }
        Ok(fleet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_have_what_all_have_in_common_unless_they_say_otherwise() {
        let text = "sudo = true\nprogram = 'k'\n[[board]]\nhost = 'pi@a'\n[[board]]\nhost = 'b'\nsudo = false\nstore = '/s'\n";
        let fleet = Fleet::parse(text).unwrap();
        assert_eq!(fleet.boards[0].sudo, Some(true));
        assert_eq!(fleet.boards[1].sudo, Some(false));
        assert_eq!(fleet.boards[1].program.as_deref(), Some("k"));
    }

    #[test]
    fn a_wrong_list_says_what_is_wrong() {
        for (text, said) in [
            ("", "0 boards"),
            ("[[board]]\nhost = '-oProxyCommand=x'\n", "begins with '-'"),
            ("[[board]]\nhost = 'a'\n[[board]]\nhost = 'a'\n", "twice"),
            ("[[board]]\nhost = 'a'\nport = 1\n", "port"),
            ("[[board]]\nstore = '/x'\n", "host"),
            ("hosts = ['a']\n", "hosts"),
        ] {
            let error = Fleet::parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
