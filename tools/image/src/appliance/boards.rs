//! What an appliance needs for each board: `targets/appliance/boards.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::CardError;

const BOARDS: &str = include_str!("../../../../targets/appliance/boards.toml");

/// Modules before and after the root is there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Common {
    initramfs: Vec<String>,
    root: Vec<String>,
}

/// One board.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Name for people.
    pub title: String,
    /// Modules that find the card.
    pub initramfs: Vec<String>,
    /// Modules for everything else.
    pub root: Vec<String>,
    /// The serial console, as the kernel's command line names it.
    pub console: String,
    /// Device trees that the firmware chooses from.
    #[serde(default)]
    pub trees: Vec<String>,
    /// Whether Raspberry Pi's firmware starts it.
    #[serde(default = "yes")]
    pub firmware: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    common: Common,
    board: BTreeMap<String, Board>,
}

impl Board {
    /// A board by name, with what all boards need.
    ///
    /// # Errors
    /// [`CardError::Value`] for a board that Debian's kernel does not run, naming those that it does.
    pub fn find(name: &str) -> Result<Self, CardError> {
        let file: File = toml::from_str(BOARDS)
            .map_err(|e| CardError::value("targets/appliance/boards.toml", e.to_string()))?;
        let names: Vec<&str> = file.board.keys().map(String::as_str).collect();
        let Some(board) = file.board.get(name) else {
            return Err(CardError::value(
                format!("board {name}"),
                format!(
                    "there is no appliance for it (there is for {}): Debian's kernel does not run on others; \
                     customise Raspberry Pi OS with --base",
                    names.join(", ")
                ),
            ));
        };
        let mut board = board.clone();
        board.initramfs.splice(0..0, file.common.initramfs);
        board.root.splice(0..0, file.common.root);
        Ok(board)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_is_described_and_others_are_told_what_to_do() {
        for name in ["virt", "pi3", "pi4", "pi-zero2w"] {
            let board = Board::find(name).unwrap();
            assert!(board.initramfs.contains(&"squashfs".to_owned()));
            assert_eq!(board.firmware, name != "virt");
            assert_eq!(board.trees.is_empty(), name == "virt");
        }
        assert!(Board::find("pi5").unwrap_err().to_string().contains("--base"));
    }
}
