//! Writes an image to a card, and nothing but a card.
//!
//! [`devices`] says which disks there are and why one is refused; [`mod@write`] opens the one that was chosen, looks
//! whether it still is that one, writes and reads back.

pub mod checksum;
pub mod devices;
pub mod write;

pub use devices::{Disk, Host, Identity, Refusal};
pub use write::{FlashError, Progress, Stage, Target};
