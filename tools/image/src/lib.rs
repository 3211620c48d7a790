//! Cards for boards: images that boot into classification, and writing them.
//!
//! [`unpack`] reads images as they are downloaded, [`flash`] writes them to cards, [`base`] puts Kinglet into an image of
//! Raspberry Pi OS, [`appliance`] makes a small system of
//! Debian's packages. What they are made of is in [`mbr`], [`fat`], [`tree`], [`deb`].

pub mod appliance;
pub mod base;
pub mod deb;
mod error;
pub mod fat;
pub mod flash;
mod input;
pub mod mbr;
pub mod tree;
pub mod unpack;

pub use error::CardError;

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `1234567890` as `1.2 GB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB"] {
        if value < 999.5 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} GB")
}
