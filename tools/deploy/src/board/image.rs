//! What a card for a board holds, for those who make one.

use serde::{Deserialize, Serialize};

/// Layout of a card: a FAT partition that the firmware reads, two root slots, and the data behind them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Size of the boot partition, MiB.
    pub boot_mib: u32,
    /// Size of each of the two root slots, MiB.
    pub root_slot_mib: u32,
    /// Files of the firmware on the boot partition; none where the board has its own in a chip.
    #[serde(default)]
    pub firmware: Vec<String>,
    /// The kernel's name on the boot partition.
    pub kernel: String,
    /// Device trees, as Debian's kernel names them below `broadcom/`.
    #[serde(default)]
    pub dtb: Vec<String>,
    /// The console for the kernel's messages, as its command line names it.
    pub console: String,
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
        let names = self.firmware.iter().chain([&self.kernel]).chain(&self.dtb);
        let wrong = |n: &&String| n.is_empty() || n.starts_with('.') || !n.chars().all(plain);
        if let Some(name) = names.into_iter().find(wrong) {
            return Some(format!("image: '{name}' is no plain file name"));
        }
        let console = |c: char| c.is_ascii_alphanumeric() || c == ',';
        let good = !self.console.is_empty() && self.console.chars().all(console);
        (!good).then(|| "image.console is a device, such as ttyS0,115200".into())
    }
}
