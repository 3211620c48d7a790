//! Which disks there are, and why one must not be written.
//!
//! Everything is read from sysfs and procfs; [`Host`] says where these are, so that tests give a tree of their own.
//! A disk is refused unless everything speaks for a card: whole, removable or on USB or an SD slot, with a medium,
//! writable, and neither it nor a partition of it mounted, swapped to, or part of something else.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel tells of disks.
#[derive(Debug, Clone)]
pub struct Host {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// Loop devices count as cards: for tests alone.
    pub allow_loop: bool,
}

impl Default for Host {
    fn default() -> Self {
        Self { sys: "/sys".into(), proc: "/proc".into(), allow_loop: false }
    }
}

/// A disk as sysfs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name, such as `sdb` or `mmcblk0`.
    pub name: String,
    /// Vendor and model, or what there is instead.
    pub model: String,
    /// What tells it from another in the same place.
    pub identity: Identity,
    /// Sysfs says that its medium can be taken out.
    pub removable: bool,
    /// It hangs on USB.
    pub usb: bool,
    /// It is an SD card; `false` for eMMC, which is soldered in.
    pub mmc: bool,
    /// It cannot be written.
    pub read_only: bool,
}

/// What must not have changed between listing and writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Major and minor number, `8:16`.
    pub number: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Serial number or card's CID, where there is one.
    pub serial: Option<String>,
    /// The kernel's own count of media, from Linux 5.15 on.
    pub sequence: Option<u64>,
}

/// Why a disk is not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Nothing of that name.
    #[error("there is no disk {0}; without --device all cards are listed")]
    Unknown(String),
    /// A file, folder or character device.
    #[error("{0} is no block device; without --device all cards are listed")]
    NotBlock(String),
    /// A part of a disk.
    #[error("{name} is a partition; an image goes onto the whole disk, {disk}")]
    Partition {
        /// The partition.
        name: String,
        /// The disk that it is of.
        disk: String,
    },
    /// Made by software: RAM, RAID, LVM, network, loop.
    #[error("{0} is no card but a device made by software")]
    Virtual(String),
    /// A boot area or the replay-protected memory of eMMC.
    #[error("{0} is a hidden area of built-in memory, no card")]
    HiddenArea(String),
    /// Built in.
    #[error("{0} is a built-in disk: neither removable, nor on USB, nor in a card slot")]
    BuiltIn(String),
    /// A reader without a card.
    #[error("{0} has no medium; put the card in")]
    Empty(String),
    /// The switch on the card, or the kernel.
    #[error("{0} is read-only; look at the small switch on the card's side")]
    ReadOnly(String),
    /// Less than the image.
    #[error("{name} has {has} bytes, the image needs {needs}; take a larger card")]
    TooSmall {
        /// The disk.
        name: String,
        /// Its bytes.
        has: u64,
        /// The image's bytes.
        needs: u64,
    },
    /// A file system of it is in use.
    #[error("{part} is mounted on {on}; if it is the card, run umount {on} first")]
    Mounted {
        /// Disk or partition.
        part: String,
        /// Where.
        on: String,
    },
    /// The machine swaps to it.
    #[error("{0} is used as swap; it is no card, or swapoff has to be run first")]
    Swap(String),
    /// LVM, RAID, encryption hold it.
    #[error("{part} is held by {by} (LVM, RAID or encryption)")]
    Held {
        /// Disk or partition.
        part: String,
        /// Who.
        by: String,
    },
    /// Another disk than the one that was shown.
    #[error("{name} is not the disk that was shown any more: {what}; list the cards again")]
    Changed {
        /// The disk.
        name: String,
        /// What is different.
        what: String,
    },
    /// Sysfs is not as expected: rather not.
    #[error("cannot find out about {name}: {what}")]
    Unclear {
        /// The disk.
        name: String,
        /// What is missing.
        what: String,
    },
}

impl Host {
    /// All cards, sorted by name, and nothing that would be refused.
    ///
    /// # Errors
    /// `/sys/block` cannot be read.
    pub fn cards(&self) -> io::Result<Vec<Disk>> {
        Ok(self.disks()?.into_iter().filter(|d| self.check(d, 0).is_ok()).collect())
    }

    /// All disks, sorted by name, with what the kernel says of them.
    ///
    /// # Errors
    /// `/sys/block` cannot be read.
    pub fn disks(&self) -> io::Result<Vec<Disk>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.sys.join("block"))? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names.iter().filter_map(|n| self.disk(n).ok()).collect())
    }

    /// One disk by the kernel's name.
    ///
    /// # Errors
    /// [`Refusal`]: a partition, or nothing of that name.
    pub fn disk(&self, name: &str) -> Result<Disk, Refusal> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(Refusal::Unknown(name.to_owned()));
        }
        let folder = self.sys.join("block").join(name);
        if !folder.is_dir() {
            return Err(match self.whole_of(name) {
                Some(disk) => Refusal::Partition { name: name.to_owned(), disk },
                None => Refusal::Unknown(name.to_owned()),
            });
        }
        let text = |file: &str| read(&folder.join(file));
        let unclear = |what: &str| Refusal::Unclear {
            name: name.to_owned(),
            what: format!("no {what} in sysfs"),
        };
        let sectors: u64 =
            text("size").and_then(|t| t.parse().ok()).ok_or_else(|| unclear("size"))?;
        let number = text("dev").ok_or_else(|| unclear("dev"))?;
        let vendor = text("device/vendor").unwrap_or_default();
        let model = text("device/model").or_else(|| text("device/name")).unwrap_or_default();
        let model = format!("{vendor} {model}").trim().to_owned();
        let way = fs::canonicalize(&folder).unwrap_or_else(|_| folder.clone());
        Ok(Disk {
            name: name.to_owned(),
            model: if model.is_empty() { "unnamed".to_owned() } else { model },
            identity: Identity {
                number,
                bytes: sectors.saturating_mul(512),
                serial: text("device/cid")
                    .or_else(|| text("device/serial"))
                    .or_else(|| text("device/wwid")),
                sequence: text("diskseq").and_then(|t| t.parse().ok()),
            },
            removable: text("removable").as_deref() == Some("1"),
            usb: way.components().any(|c| {
                c.as_os_str().to_str().is_some_and(|c| {
                    c.strip_prefix("usb").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
                })
            }),
            mmc: name.starts_with("mmcblk") && text("device/type").as_deref() == Some("SD"),
            // What cannot be read is not known to be writable.
            read_only: text("ro").as_deref() != Some("0"),
        })
    }

    /// The disk's name by the numbers of a device file.
    ///
    /// # Errors
    /// [`Refusal`]: a partition, or a device that sysfs does not know.
    pub fn by_number(&self, major: u32, minor: u32, path: &str) -> Result<Disk, Refusal> {
        let number = format!("{major}:{minor}");
        let link = fs::read_link(self.sys.join("dev/block").join(&number)).unwrap_or_default();
        if let Some(name) = link.file_name().and_then(|n| n.to_str()) {
            return self.disk(name);
        }
        let disks = self.disks().unwrap_or_default();
        let disk = disks.into_iter().find(|d| d.identity.number == number);
        disk.ok_or_else(|| Refusal::Unknown(path.to_owned()))
    }

    /// The disk that has a partition of this name.
    fn whole_of(&self, name: &str) -> Option<String> {
        let entries = fs::read_dir(self.sys.join("block")).ok()?;
        entries
            .flatten()
            .find(|disk| disk.path().join(name).join("partition").exists())
            .and_then(|disk| disk.file_name().into_string().ok())
    }

    /// Whether the disk may be written with an image of so many bytes.
    ///
    /// # Errors
    /// The first [`Refusal`] that applies.
    pub fn check(&self, disk: &Disk, needs: u64) -> Result<(), Refusal> {
        let name = disk.name.clone();
        if disk.name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb")) {
            return Err(Refusal::HiddenArea(name));
        }
        let loops = self.allow_loop && name.starts_with("loop");
        const MADE: [&str; 11] =
            ["loop", "ram", "zram", "dm-", "md", "nbd", "rbd", "drbd", "sr", "fd", "bcache"];
        if !loops && (MADE.iter().any(|m| name.starts_with(m)) || self.has_entries(&name, "slaves"))
        {
            return Err(Refusal::Virtual(name));
        }
        if !(loops || disk.removable || disk.usb || disk.mmc) {
            return Err(Refusal::BuiltIn(name));
        }
        if disk.identity.bytes == 0 {
            return Err(Refusal::Empty(name));
        }
        if disk.read_only {
            return Err(Refusal::ReadOnly(name));
        }
        self.unused(disk)?;
        if disk.identity.bytes < needs {
            return Err(Refusal::TooSmall { name, has: disk.identity.bytes, needs });
        }
        Ok(())
    }

    fn has_entries(&self, name: &str, folder: &str) -> bool {
        let folder = self.sys.join("block").join(name).join(folder);
        fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Neither the disk nor a partition of it is used by anything.
    fn unused(&self, disk: &Disk) -> Result<(), Refusal> {
        let unclear = |what: String| Refusal::Unclear { name: disk.name.clone(), what };
        let folder = self.sys.join("block").join(&disk.name);
        let mut parts = vec![(disk.name.clone(), folder.clone(), disk.identity.number.clone())];
        for entry in
            fs::read_dir(&folder).map_err(|e| unclear(format!("{}: {e}", folder.display())))?
        {
            let path = entry.map_err(|e| unclear(e.to_string()))?.path();
            if path.join("partition").exists() {
                let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
                let number = read(&path.join("dev"))
                    .ok_or_else(|| unclear(format!("no {}/dev in sysfs", path.display())))?;
                parts.push((name, path, number));
            }
        }
        let table = |file: &str| {
            let path = self.proc.join(file);
            fs::read_to_string(&path).map_err(|e| unclear(format!("{}: {e}", path.display())))
        };
        let mounts = table("self/mountinfo")?;
        // A kernel without swap has no such file.
        let swaps = if self.proc.join("swaps").exists() { table("swaps")? } else { String::new() };
        for (part, path, number) in &parts {
            if let Some(on) = mounted(&mounts, part, number) {
                return Err(Refusal::Mounted { part: part.clone(), on });
            }
            if swaps.lines().skip(1).any(|l| device(l.split(' ').next().unwrap_or("")) == *part) {
                return Err(Refusal::Swap(part.clone()));
            }
            let holders = path.join("holders");
            let held: BTreeSet<String> = fs::read_dir(&holders)
                .map(|e| e.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
                .unwrap_or_default();
            if let Some(by) = held.into_iter().next() {
                return Err(Refusal::Held { part: part.clone(), by });
            }
        }
        Ok(())
    }
}

impl Disk {
    /// Whether this is the disk that was shown before.
    ///
    /// # Errors
    /// [`Refusal::Changed`], with what is different.
    pub fn same_as(&self, shown: &Self) -> Result<(), Refusal> {
        let (now, then) = (&self.identity, &shown.identity);
        let what = if self.name != shown.name || now.number != then.number {
            "another device".to_owned()
        } else if now.bytes != then.bytes {
            format!("{} bytes instead of {}", now.bytes, then.bytes)
        } else if now.serial != then.serial {
            "another serial number".to_owned()
        } else if now.sequence != then.sequence {
            "the medium was taken out".to_owned()
        } else if self.model != shown.model {
            format!("{} instead of {}", self.model, shown.model)
        } else {
            return Ok(());
        };
        Err(Refusal::Changed { name: self.name.clone(), what })
    }

    /// Its usual device file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        // Sysfs writes a slash in a name as an exclamation mark.
        Path::new("/dev").join(self.name.replace('!', "/"))
    }
}

/// A small text file, without the line's end.
fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The last part of a device's path as tables write it.
fn device(field: &str) -> &str {
    field.strip_prefix("/dev/").unwrap_or("")
}

/// Where a device is mounted: by number, or by name where a file system spans several (btrfs).
fn mounted(table: &str, name: &str, number: &str) -> Option<String> {
    for line in table.lines() {
        let mut halves = line.splitn(2, " - ");
        let fields: Vec<&str> = halves.next()?.split(' ').collect();
        let source = halves.next().and_then(|h| h.split(' ').nth(1)).unwrap_or("");
        if fields.get(2) == Some(&number) || device(source) == name {
            return Some(fields.get(4).map_or("?", |f| f).replace("\\040", " "));
        }
    }
    None
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
