//! Signed releases on a device: slots, trials, and the way back.
//!
//! A release is one file with a detached minisign signature, whose trusted comment says what it is
//! ([`Release`]). A device has a store with a track a kind ([`Track`]): two slots, a link to the one that
//! is used, and a state file. [`Track::stage`] takes a release in and verifies it, [`Track::commit`]
//! switches to it, [`Track::begin`] says what to run and counts how often a new one was tried,
//! [`Track::confirm`] and [`Track::roll_back`] end its trial. Whatever is interrupted, and wherever, the
//! next [`Track::begin`] gives the old release or the new one, whole.
//!
//! All of it goes through [`Files`], so that a simulated file system can stop it anywhere.

mod error;
mod files;
mod memory;
mod release;
mod signature;
mod stage;
mod state;
mod track;
mod watching;
mod wire;

#[cfg(test)]
mod tests;

pub use error::UpdateError;
pub use files::{Files, RealFiles};
pub use release::{Kind, MAX_NUMBER, Release};
pub use signature::{Key, MAX_SIGNATURE_BYTES, Signature, Verifier};
pub use stage::{Install, Installed, Staged};
pub use state::{Last, Outcome, Slot, SlotState, Standing, Trial};
pub use track::{Begun, MOST_TRIES, Status, Track};
pub use watching::Watching;
pub use wire::{HEADER_BYTES, Header};
