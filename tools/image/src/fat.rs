//! FAT partitions inside an image's file: made, read and written without mounting anything.
//!
//! The crate `fatfs` knows the format. What it would take on trust is checked before: the boot sector against the
//! partition's length, and a budget of bytes ends chains that go in a circle. Times are fixed, so that the same files
//! give the same bytes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider,
};

/// A part of a file as a disk of its own.
#[derive(Debug)]
pub struct Region<'f> {
    file: &'f File,
    start: u64,
    length: u64,
    at: u64,
    /// Bytes and calls that may still be spent.
    budget: u64,
}

impl<'f> Region<'f> {
    /// Bytes `start..start + length` of the file.
    #[must_use]
    pub fn new(file: &'f File, start: u64, length: u64) -> Self {
        Self { file, start, length, at: 0, budget: (length + (64 << 20)).saturating_mul(16) }
    }

    fn part(&mut self, wanted: usize) -> io::Result<usize> {
        let cost = wanted as u64 + 64;
        self.budget = self.budget.checked_sub(cost).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the file system goes in a circle")
        })?;
        Ok(self.length.saturating_sub(self.at).min(wanted as u64) as usize)
    }
}

impl Read for Region<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.part(buffer.len())?;
        let got = self.file.read_at(&mut buffer[..length], self.start + self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl Write for Region<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = self.part(buffer.len())?;
        let got = self.file.write_at(&buffer[..length], self.start + self.at)?;
        self.at += got as u64;
        Ok(got)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Region<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let wanted = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        let beyond = || io::Error::new(io::ErrorKind::InvalidInput, "beyond the partition");
        self.at = wanted.filter(|at| *at <= self.length).ok_or_else(beyond)?;
        Ok(self.at)
    }
}

/// The first of January 2024, noon: no clock enters an image.
#[derive(Debug)]
struct Fixed;

impl TimeProvider for Fixed {
    fn get_current_date(&self) -> Date {
        Date { year: 2024, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        let time = Time { hour: 12, min: 0, sec: 0, millis: 0 };
        DateTime { date: self.get_current_date(), time }
    }
}

/// A FAT file system that is open.
pub struct Fat<'f>(FileSystem<Region<'f>>);

impl<'f> Fat<'f> {
    /// Makes an empty file system; FAT32 from 64 MiB on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn format(
        file: &'f File,
        start: u64,
        length: u64,
        label: &str,
        id: u32,
    ) -> io::Result<Self> {
        let mut name = [b' '; 11];
        for (to, from) in name.iter_mut().zip(label.bytes()) {
            *to = from;
        }
        let mut options = FormatVolumeOptions::new().volume_id(id).volume_label(name);
        if length >= 64 << 20 {
            // As large as FAT32 allows, which has 65,525 clusters at least.
            let mut cluster = 512;
            while cluster < 4096 && length / (u64::from(cluster) * 2) > 67_000 {
                cluster *= 2;
            }
            options = options.fat_type(FatType::Fat32).bytes_per_cluster(cluster);
        }
        fatfs::format_volume(Region::new(file, start, length), options)?;
        Self::open(file, start, length)
    }

    /// Opens a file system after a look at its boot sector.
    ///
    /// # Errors
    /// It is none, or says something of itself that cannot be.
    pub fn open(file: &'f File, start: u64, length: u64) -> io::Result<Self> {
        let mut boot = [0; 512];
        file.read_exact_at(&mut boot, start)?;
        plausible(&boot, length)
            .map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?;
        let options = FsOptions::new().time_provider(&Fixed).update_accessed_date(false);
        Ok(Self(FileSystem::new(Region::new(file, start, length), options)?))
    }

    /// Free bytes.
    ///
    /// # Errors
    /// The table of clusters cannot be read.
    pub fn free(&self) -> io::Result<u64> {
        let stats = self.0.stats()?;
        Ok(u64::from(stats.free_clusters()) * u64::from(stats.cluster_size()))
    }

    /// Bytes that a file of this length takes.
    #[must_use]
    pub fn takes(&self, length: u64) -> u64 {
        // Its clusters, and what names it in its folder.
        let cluster = u64::from(self.0.cluster_size());
        (length.div_ceil(cluster) + 1) * cluster
    }

    /// Whether there is a file or folder of this name.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn exists(&self, path: &str) -> io::Result<bool> {
        match self.0.root_dir().open_file(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            // A folder.
            Err(_) => Ok(self.0.root_dir().open_dir(path).is_ok()),
        }
    }

    /// A file's bytes, if there is one and it is not longer than `most`.
    ///
    /// # Errors
    /// It is longer, or cannot be read.
    pub fn read(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.0.root_dir().open_file(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            let what = format!("{path} is longer than {most} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Some(bytes))
    }

    /// Writes a file into the root folder, in place of one that is there. Not into others: `fatfs` makes folders whose
    /// first entries other programs call damaged.
    ///
    /// # Errors
    /// There is no room, or the file system is damaged.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if name.contains('/') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name with a slash"));
        }
        let mut file = self.0.root_dir().create_file(name)?;
        file.truncate()?;
        file.write_all(bytes)?;
        file.flush()
    }

    /// Writes what is pending.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn close(self) -> io::Result<()> {
        self.0.unmount()
    }
}

/// What a boot sector must be for the rest to be looked at.
fn plausible(boot: &[u8; 512], length: u64) -> Result<(), String> {
    let u16_at = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
    let u32_at = |at: usize| u16_at(at) | u16_at(at + 2) << 16;
    if boot[510..] != [0x55, 0xaa] {
        return Err("it is no FAT file system".into());
    }
    let (sector, cluster) = (u16_at(11), u64::from(boot[13]));
    if sector != 512 || !cluster.is_power_of_two() {
        return Err(format!("a FAT with sectors of {sector} bytes, {cluster} of them a cluster"));
    }
    let (reserved, fats, entries) = (u16_at(14), u64::from(boot[16]), u16_at(17));
    let total = if u16_at(19) != 0 { u16_at(19) } else { u32_at(32) };
    let table = if u16_at(22) != 0 { u16_at(22) } else { u32_at(36) };
    if total * 512 > length {
        return Err(format!("a FAT of {total} sectors in a partition of {}", length / 512));
    }
    let used = reserved + fats * table + (entries * 32).div_ceil(512);
    if reserved == 0 || !(1..=2).contains(&fats) || table == 0 || used >= total {
        return Err(format!("a FAT with {fats} tables of {table} sectors in {total}"));
    }
    let clusters = (total - used) / cluster;
    let bits = match clusters {
        0..4085 => 12,
        4085..65525 => 16,
        _ => 32,
    };
    if clusters == 0 || (clusters + 2) * bits > table * 512 * 8 {
        return Err(format!(
            "a FAT whose table of {table} sectors is too short for {clusters} clusters"
        ));
    }
    if bits == 32 && !(2..clusters + 2).contains(&u32_at(44)) {
        return Err("a FAT whose root folder is outside".into());
    }
    Ok(())
}

#[cfg(test)]
#[path = "fat_tests.rs"]
mod tests;
