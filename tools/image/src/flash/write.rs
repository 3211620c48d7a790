//! Writes an image to the disk that was chosen, and reads it back.
//!
//! The order is what makes it safe: the first MiB, without which nothing boots, is zeroed at the beginning and written
//! when all the rest was written, synced and read back. Whatever ends the work before leaves a card that does not
//! boot, never one that half boots.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, OFlags, fadvise, major, minor};
use sha2::{Digest, Sha256};

use super::checksum::Expected;
use super::devices::{Disk, Host, Refusal};
use crate::unpack::{UnpackError, Unpacker};

/// What is written last, bytes.
pub const FIRST: usize = 1 << 20;
/// Written or read at a time, bytes; a multiple of every sector's size.
const BLOCK: usize = 4 << 20;
/// Synced so often, bytes: the progress that is shown is that of the card, not of this machine's memory.
const SYNC_EVERY: u64 = 64 << 20;

/// Why a card was not written, or is not to be trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlashError {
    /// Not this disk.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The image's file is to blame.
    #[error(transparent)]
    Image(#[from] UnpackError),
    /// Not an image of a disk.
    #[error("{} is no image of a card: it does not begin with a partition table", path.display())]
    NoImage {
        /// The file.
        path: PathBuf,
    },
    /// The disk cannot be opened.
    #[error("cannot open {}: {source}{}", path.display(), hint(source))]
    Open {
        /// Its device file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Reading or writing the disk failed.
    #[error("{doing} {} failed at byte {at}: {source}; the card does not boot: try again, or take another card", path.display())]
    Disk {
        /// `writing`, `reading`, `syncing`.
        doing: &'static str,
        /// Its device file.
        path: PathBuf,
        /// Where, bytes.
        at: u64,
        /// What the system said.
        source: io::Error,
    },
    /// More than the disk holds, seen only while it was unpacked.
    #[error(
        "the image has more than the disk's {has} bytes; the card does not boot: take a larger one"
    )]
    TooLarge {
        /// Bytes of the disk.
        has: u64,
    },
    /// Not the download that it ought to be.
    #[error(
        "the image's SHA-256 is {found}, but {from} says {expected}; download it again (the card does not boot)"
    )]
    Checksum {
        /// Of the file.
        found: String,
        /// As it ought to be.
        expected: String,
        /// Who says so.
        from: String,
    },
    /// The card gives other bytes than were written.
    #[error(
        "the card does not give back what was written to it (SHA-256 {found} instead of {written}); it does not \
         boot: it is worn out, a fake, or the reader is broken"
    )]
    Differs {
        /// Of what was read.
        found: String,
        /// Of what was written.
        written: String,
    },
    /// The user has stopped it.
    #[error(
        "stopped; the card does not boot (its first MiB is zeroed): write it again before you use it"
    )]
    Stopped,
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::BUSY.raw_os_error() => {
            "; something uses it: unmount it and close what shows it"
        }
        Some(code) if code == rustix::io::Errno::ACCESS.raw_os_error() => "; run it with sudo",
        _ => "",
    }
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The image goes to the card.
    Writing,
    /// It is read back.
    Reading,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes of the file (writing) or of the card (reading).
    pub done: u64,
    /// Of how many.
    pub total: u64,
    /// Bytes of the card so far.
    pub card: u64,
}

/// A disk that was checked and is open for this program alone.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    file: File,
    disk: Disk,
}

/// What was written, all but the first MiB.
#[derive(Debug)]
pub struct Written {
    first: Vec<u8>,
    /// Bytes of the image.
    pub bytes: u64,
    /// SHA-256 of the image, unpacked.
    pub sha256: [u8; 32],
}

impl Target {
    /// Looks at the device, opens it exclusively, and looks again whether what is open is what was looked at.
    ///
    /// # Errors
    /// [`FlashError::Refused`] for whatever is no card, `shown` no longer, or smaller than `needs` bytes;
    /// [`FlashError::Open`].
    pub fn open(
        path: &Path,
        host: &Host,
        shown: Option<&Disk>,
        needs: u64,
    ) -> Result<Self, FlashError> {
        let disk = look(path, host)?;
        if let Some(shown) = shown {
            disk.same_as(shown)?;
        }
        host.check(&disk, needs)?;
        let failed = |source| FlashError::Open { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::EXCL.bits() as i32)
            .open(path)
            .map_err(failed)?;
        let opened = file.metadata().map_err(failed)?;
        let number = format!("{}:{}", major(opened.rdev()), minor(opened.rdev()));
        let changed = |what: String| Refusal::Changed { name: disk.name.clone(), what };
        if !opened.file_type().is_block_device() || number != disk.identity.number {
            return Err(changed("another device".to_owned()).into());
        }
        let bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if bytes != disk.identity.bytes {
            return Err(changed(format!("{bytes} bytes instead of {}", disk.identity.bytes)).into());
        }
        // It is ours from here on; what changed between looking and opening shows now.
        let now = host.disk(&disk.name)?;
        now.same_as(&disk)?;
        host.check(&now, needs)?;
        Ok(Self { path: path.to_owned(), file, disk })
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    fn failed(&self, doing: &'static str, at: u64) -> impl FnOnce(io::Error) -> FlashError {
        let path = self.path.clone();
        move |source| FlashError::Disk { doing, path, at, source }
    }

    /// Zeroes the first MiB and writes all that follows it. The image's file has been read to its end and found whole
    /// when this returns.
    ///
    /// # Errors
    /// [`FlashError`]; the first MiB is zero then, or was not touched at all.
    pub fn write(
        &self,
        image_path: &Path,
        mut image: Unpacker,
        expected: Option<&Expected>,
        progress: &mut dyn FnMut(Progress),
        stop: &AtomicBool,
    ) -> Result<Written, FlashError> {
        let has = self.disk.identity.bytes;
        let needs = image.stated_size().unwrap_or(0);
        if needs > has {
            return Err(Refusal::TooSmall { name: self.disk.name.clone(), has, needs }.into());
        }
        let mut first = vec![0; FIRST];
        let got = image.fill(&mut first)?;
        first.truncate(got);
        if got < 512 || first[510..512] != [0x55, 0xaa] {
            return Err(FlashError::NoImage { path: image_path.to_owned() });
        }
        if got as u64 > has {
            return Err(FlashError::TooLarge { has });
        }
        let zeros = vec![0; (FIRST as u64).min(has) as usize];
        self.file.write_all_at(&zeros, 0).map_err(self.failed("writing", 0))?;
        self.file.sync_all().map_err(self.failed("syncing", 0))?;

        let mut sha = Sha256::new_with_prefix(&first);
        let mut bytes = got as u64;
        let mut synced = bytes;
        let mut block = vec![0; BLOCK];
        while bytes >= FIRST as u64 {
            progress(Progress {
                stage: Stage::Writing,
                done: image.consumed(),
                total: image.file_bytes(),
                card: bytes,
            });
            if stop.load(Ordering::Relaxed) {
                return Err(FlashError::Stopped);
            }
            let got = image.fill(&mut block)?;
            if got == 0 {
                break;
            }
            if bytes + got as u64 > has {
                return Err(FlashError::TooLarge { has });
            }
            sha.update(&block[..got]);
            self.file.write_all_at(&block[..got], bytes).map_err(self.failed("writing", bytes))?;
            bytes += got as u64;
            if bytes - synced >= SYNC_EVERY {
                self.file.sync_data().map_err(self.failed("syncing", bytes))?;
                synced = bytes;
            }
        }
        let file_sha = image.finish()?;
        let sha256: [u8; 32] = sha.finalize().into();
        if let Some(expected) = expected {
            // Of the file as it was downloaded, or of the image in it: both are published.
            if expected.sha256 != file_sha && expected.sha256 != sha256 {
                return Err(FlashError::Checksum {
                    found: crate::hex(&file_sha),
                    expected: crate::hex(&expected.sha256),
                    from: expected.from.clone(),
                });
            }
        }
        self.file.sync_all().map_err(self.failed("syncing", bytes))?;
        Ok(Written { first, bytes, sha256 })
    }

    /// Reads back what was written, from the card and not from memory; then writes the first MiB and reads that back
    /// too.
    ///
    /// # Errors
    /// [`FlashError`]; the first MiB is zero then.
    pub fn verify(
        &self,
        written: &Written,
        progress: &mut dyn FnMut(Progress),
        stop: &AtomicBool,
    ) -> Result<(), FlashError> {
        let mut sha = Sha256::new_with_prefix(&written.first);
        let reader = Uncached::open(&self.file);
        let mut at = written.first.len() as u64;
        while at < written.bytes {
            progress(Progress { stage: Stage::Reading, done: at, total: written.bytes, card: at });
            if stop.load(Ordering::Relaxed) {
                return Err(FlashError::Stopped);
            }
            let length = (written.bytes - at).min(BLOCK as u64) as usize;
            let block = reader.read(at, length).map_err(self.failed("reading", at))?;
            sha.update(&block);
            at += length as u64;
        }
        self.compare(sha.finalize().into(), written.sha256)?;
        if stop.load(Ordering::Relaxed) {
            return Err(FlashError::Stopped);
        }
        self.first(written).inspect_err(|_| {
            let zeros = vec![0; written.first.len()];
            // Best effort: the error that is returned is the one that matters.
            let _ = self.file.write_all_at(&zeros, 0);
            let _ = self.file.sync_all();
        })
    }

    fn first(&self, written: &Written) -> Result<(), FlashError> {
        self.file.write_all_at(&written.first, 0).map_err(self.failed("writing", 0))?;
        self.file.sync_all().map_err(self.failed("syncing", 0))?;
        let reader = Uncached::open(&self.file);
        let found = reader.read(0, written.first.len()).map_err(self.failed("reading", 0))?;
        let [found, wrote] = [&found, &written.first].map(|b| Sha256::digest(b).into());
        self.compare(found, wrote)
    }

    fn compare(&self, found: [u8; 32], written: [u8; 32]) -> Result<(), FlashError> {
        if found == written {
            return Ok(());
        }
        Err(FlashError::Differs { found: crate::hex(&found), written: crate::hex(&written) })
    }
}

/// The disk behind a device file.
fn look(path: &Path, host: &Host) -> Result<Disk, FlashError> {
    let shown = path.display().to_string();
    let about = std::fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Refusal::Unknown(shown.clone()).into(),
        _ => FlashError::Open { path: path.to_owned(), source },
    })?;
    if !about.file_type().is_block_device() {
        return Err(Refusal::NotBlock(shown).into());
    }
    Ok(host.by_number(major(about.rdev()), minor(about.rdev()), &shown)?)
}

/// The disk behind a device file, to be shown before it is opened.
///
/// # Errors
/// [`FlashError::Refused`] where it is no whole disk.
pub fn identify(path: &Path, host: &Host) -> Result<Disk, FlashError> {
    look(path, host)
}

/// Reads past this machine's memory.
struct Uncached<'a> {
    direct: Option<File>,
    plain: &'a File,
}

impl<'a> Uncached<'a> {
    /// O_DIRECT through a second descriptor of the same open disk; where there is none, pages are dropped instead.
    fn open(file: &'a File) -> Self {
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::DIRECT.bits() as i32;
        let direct = OpenOptions::new().read(true).custom_flags(flags).open(again).ok();
        let _ = fadvise(file, 0, None, Advice::DontNeed);
        Self { direct, plain: file }
    }

    fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        const ALIGN: usize = 4096;
        let whole = length.div_ceil(ALIGN) * ALIGN;
        let mut buffer = vec![0; whole + ALIGN];
        let start = buffer.as_ptr().align_offset(ALIGN).min(ALIGN);
        let place = &mut buffer[start..start + whole];
        let directly = self.direct.as_ref().is_some_and(|file| {
            let mut file = file;
            file.seek(SeekFrom::Start(at)).is_ok() && fill(&mut file, place, length).is_ok()
        });
        if !directly {
            let _ =
                fadvise(self.plain, at, std::num::NonZeroU64::new(whole as u64), Advice::DontNeed);
            self.plain.read_exact_at(&mut place[..length], at)?;
        }
        buffer.truncate(start + length);
        Ok(buffer.split_off(start))
    }
}

/// Reads at least `length` bytes; the last sector may be only half of what was asked for.
fn fill(file: &mut &File, place: &mut [u8], length: usize) -> io::Result<()> {
    let mut filled = 0;
    while filled < length {
        match file.read(&mut place[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got => filled += got,
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
