//! `[drift]`: how pictures are compared with the model's reference, and which are kept.

use std::path::PathBuf;
use std::time::Duration;

use kinglet_engine::Session;
use kinglet_engine::drift::WINDOWS;
use serde::Deserialize;

use super::bus::Bus;
use super::config::{Names, Snapshots as Kept};
use super::snapshots::Snapshots;
use crate::decide::Drift;
use crate::exit::Usage;

/// `[drift]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Samples in a window; 0: nothing is compared.
    window: u32,
    /// A sample so often.
    every_ms: u64,
    /// Pictures that the model is unsure of, to be labelled.
    folder: Option<PathBuf>,
    max_mib: u64,
    free_mib: u64,
    /// One of them so often at most.
    keep_every_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: 256,
            every_ms: 10_000,
            folder: None,
            max_mib: 256,
            free_mib: 256,
            keep_every_ms: 60_000,
        }
    }
}

impl Settings {
    /// With a window that there are thresholds for.
    pub(super) fn checked(&self) -> Result<Self, Usage> {
        if self.window != 0 && !WINDOWS.contains(&self.window) {
            let sizes = WINDOWS.map(|size| size.to_string()).join(", ");
            return Err(Usage(format!("drift: window {}: one of {sizes}, or 0", self.window)));
        }
        Ok(self.clone())
    }

    /// What compares; `None`: it is not wanted, or the model has no reference.
    pub(super) fn compare(&self, session: &Session) -> Option<Drift> {
        let reference = session.metadata().drift.clone();
        if reference.is_none() && self.folder.is_some() {
            let how = "kinglet-tools reference adds one";
            tracing::warn!(
                "drift: the model has no reference, so nothing is compared or kept; {how}"
            );
        }
        Drift::new(reference?, self.window, Duration::from_millis(self.every_ms))
    }

    /// What keeps pictures that the model is unsure of, if that is wanted.
    pub(super) fn keep(&self, areas: usize, bus: &Bus) -> std::io::Result<Option<Snapshots>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let kept = Kept {
            folder: folder.clone(),
            class: Names::Several(Vec::new()),
            max_mib: self.max_mib,
            free_mib: self.free_mib,
            every_ms: Some(self.keep_every_ms),
        };
        Snapshots::start(&kept, Vec::new(), areas, bus.clone()).map(Some)
    }
}
