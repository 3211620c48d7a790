//! What an appliance's card for a board holds, for those who make one.

use serde::{Deserialize, Serialize};

/// A card: a FAT partition that the firmware reads first, two root slots, and the data behind them. All of it comes from
/// Debian's packages; names are those that files have there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Size of the boot partition, MiB.
    pub boot_mib: u32,
    /// Least size of each of the two root slots, MiB: what does not fit makes them larger.
    pub root_slot_mib: u32,
    /// The console for the kernel's messages, as its command line names it.
    pub console: String,
    /// Files of Raspberry Pi's firmware; none where something else starts the kernel.
    #[serde(default)]
    pub firmware: Vec<String>,
    /// Device trees that the firmware chooses from.
    #[serde(default)]
    pub dtb: Vec<String>,
    /// Kernel modules with which the card is found, without `.ko`. What they depend on comes along.
    pub card_modules: Vec<String>,
    /// Kernel modules for everything else on the board.
    pub modules: Vec<String>,
}

/// Least and largest size of a partition, MiB.
const MIB: std::ops::RangeInclusive<u32> = 16..=4096;

impl Image {
    /// What is wrong with a field, if something is.
    pub(super) fn fault(&self) -> Option<String> {
        for (key, size) in [("boot_mib", self.boot_mib), ("root_slot_mib", self.root_slot_mib)] {
            if !MIB.contains(&size) {
                return Some(format!(
                    "image.{key} is {size}, not {} to {}",
                    MIB.start(),
                    MIB.end()
                ));
            }
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let names =
            [&self.firmware, &self.dtb, &self.card_modules, &self.modules].into_iter().flatten();
        let wrong = |n: &&String| n.is_empty() || n.starts_with('.') || !n.chars().all(plain);
        if let Some(name) = names.into_iter().find(wrong) {
            return Some(format!("image: '{name}' is no plain file name"));
        }
        if self.firmware.is_empty() != self.dtb.is_empty() {
            return Some("image: firmware and dtb go together: the one reads the others".into());
        }
        let console = |c: char| c.is_ascii_alphanumeric() || c == ',';
        let good = !self.console.is_empty() && self.console.chars().all(console);
        (!good).then(|| "image.console is a device, such as ttyS0,115200".into())
    }
}
