//! An appliance: a small system of Debian's packages that does nothing but run Kinglet.
//!
//! The card has four partitions: a FAT with what Raspberry Pi's first stage needs and `autoboot.txt`, two slots (FAT:
//! firmware, kernel, initramfs, and the root as a squashfs image with its SHA-256), and data (ext4). [`plan`] gathers
//! everything in memory, [`Plan::write`] writes it. The same inputs give the same bytes.

mod contents;
mod data;
mod modules;
mod packages;
mod root;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use kinglet_deploy::Board;
use sha2::{Digest, Sha256};

use crate::deb;
use crate::fat::Fat;
use crate::mbr::{self, Partition, SECTOR};
use crate::tree::{Tree, gzip};
use crate::{CardError, hex, input};
use contents::{Kernel, SSH, firmware, one, ssh_file};

const MIB: u64 = 1 << 20;
/// Kernel modules with which the root is mounted, whatever the board.
const ROOT_MODULES: [&str; 7] =
    ["crc32c_generic", "nls_cp437", "nls_ascii", "nls_utf8", "vfat", "loop", "squashfs"];
/// Afterwards, on every board: data, cameras and network on USB, small displays.
const COMMON_MODULES: [&str; 5] = ["ext4", "uvcvideo", "cdc_ether", "rndis_host", "i2c-dev"];

/// What an appliance is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// The board.
    pub board: Board,
    /// `kinglet` for aarch64, static.
    pub program: PathBuf,
    /// The factory's model.
    pub model: PathBuf,
    /// `kinglet.toml` in place of the default one.
    pub configuration: Option<PathBuf>,
    /// A folder with the packages; without, apt fetches them into `cache`.
    pub packages: Option<PathBuf>,
    /// Where fetched packages are kept.
    pub cache: PathBuf,
    /// Public SSH keys; with any, dropbear is in the image.
    pub ssh_keys: Vec<String>,
    /// The minisign public key of updates.
    pub public_key: Option<PathBuf>,
    /// More kernel modules.
    pub modules: Vec<String>,
    /// The host's name.
    pub hostname: String,
    /// Length of the image, MiB; the next power of two where it is not given.
    pub size_mib: Option<u64>,
}

/// Everything that will be on the card.
pub struct Plan {
    start_bytes: u64,
    start: Tree,
    slots: [Tree; 2],
    root: Tree,
    data: Tree,
    slot_bytes: u64,
    data_bytes: u64,
    id: [u8; 32],
}

/// Gathers everything; `say` hears what is being done.
///
/// # Errors
/// [`CardError`] for an input that is missing or not what it ought to be, and for a board without an image.
pub fn plan(options: &Options, say: &dyn Fn(&str)) -> Result<Plan, CardError> {
    let Some(card) = &options.board.image else {
        return Err(CardError::value(
            format!("board {}", options.board.name),
            "its description has no [image]: Debian's kernel does not run it, or nobody has tried; customise Raspberry \
             Pi OS with --base",
        ));
    };
    let program = input::read(&options.program)?;
    input::check_program(&options.program, &program)?;
    let model = input::read(&options.model)?;
    if model.len() < input::LEAST_FILE {
        return Err(CardError::value(options.model.display().to_string(), "it is no model"));
    }
    let configuration = match &options.configuration {
        Some(path) => input::configuration(path)?,
        // Updates are taken where there is a key to verify them with.
        None if options.public_key.is_some() => {
            format!("{}\n[update]\nstore = \"/var/lib/kinglet/store\"\n", root::CONFIGURATION)
        }
        None => root::CONFIGURATION.to_owned(),
    };
    input::hostname(&options.hostname)?;
    for key in &options.ssh_keys {
        input::ssh_key(key)?;
    }
    let public_key = options.public_key.as_deref().map(input::read).transpose()?;

    let mut names = vec![packages::KERNEL, "busybox-static", "e2fsck-static"];
    if !card.firmware.is_empty() {
        names.push("raspi-firmware");
    }
    let ssh = !options.ssh_keys.is_empty();
    if ssh {
        names.extend(SSH);
    }
    let found = match &options.packages {
        Some(folder) => packages::find(folder, &names)?,
        None => {
            say("fetching Debian's packages");
            fs::create_dir_all(&options.cache).map_err(CardError::file(&options.cache))?;
            packages::fetch(&options.cache, &names)?
        }
    };
    say("unpacking the kernel");
    let kernel = Kernel::read(&found[packages::KERNEL], card)?;
    let names = |ours: &[&str], more: &[String]| -> Vec<String> {
        ours.iter().map(|&n| n.to_owned()).chain(more.iter().cloned()).collect()
    };
    let first = kernel.modules.ordered(&names(&ROOT_MODULES, &card.card_modules))?;
    let wanted = [names(&COMMON_MODULES, &card.modules), options.modules.clone()].concat();
    // What is loaded before is not loaded again.
    let mut later = kernel.modules.ordered(&wanted)?;
    later.retain(|(name, _)| !first.iter().any(|(n, _)| n == name));

    say("making the root");
    let busybox = one(&found["busybox-static"], "bin/busybox")?;
    let e2fsck = one(&found["e2fsck-static"], "sbin/e2fsck.static")?;
    let mut secure_shell = Vec::new();
    if ssh {
        for name in SSH {
            secure_shell.extend(deb::read(&found[name], &ssh_file)?);
        }
    }
    let mut data = Tree::default();
    for folder in ["etc/kinglet", "var/lib/kinglet", "var/log/kinglet", "ssh"] {
        data.dir(folder, if folder == "ssh" { 0o700 } else { 0o755 });
    }
    data.file("etc/kinglet/kinglet.toml", 0o644, configuration.as_bytes());
    if let Some(key) = &public_key {
        data.file("etc/kinglet/kinglet.pub", 0o644, key.as_slice());
    }
    let mut id = Sha256::new();
    for part in
        [&program, &model, configuration.as_bytes(), options.board.name.as_bytes(), &kernel.image]
    {
        id.update((part.len() as u64).to_le_bytes());
        id.update(part);
    }
    let id: [u8; 32] = id.finalize().into();
    let mut parts = root::Parts {
        program: &program,
        model: &model,
        configuration: &configuration,
        busybox: &busybox,
        e2fsck: &e2fsck,
        modules: &later,
        ssh: &secure_shell,
        keys: &options.ssh_keys,
        public_key: public_key.as_deref(),
        hostname: &options.hostname,
        data: Vec::new(),
    };

    let mut slot = Tree::default();
    let mut start = Tree::default();
    if !card.firmware.is_empty() {
        firmware(&found["raspi-firmware"], card, &mut start, &mut slot)?;
        for (name, bytes) in &kernel.trees {
            slot.file(name, 0o644, bytes.as_slice());
        }
    }
    let failed = |source| CardError::Make { what: "the kernel", source };
    slot.file("kernel8.img", 0o644, gzip(&kernel.image).map_err(failed)?);
    let initramfs = root::initramfs(&busybox, &first);
    slot.file("initramfs.gz", 0o644, gzip(&initramfs.cpio()).map_err(failed)?);

    // The root has the data partition as it is made first, whose length hangs on the root's.
    let squash = |parts: &root::Parts<'_>| {
        let tree = root::root(parts)?;
        let image =
            tree.squashfs().map_err(|source| CardError::Make { what: "the root", source })?;
        Ok::<_, CardError>((tree, image))
    };
    let rough = parts.program.len() + parts.model.len() + 8 * MIB as usize;
    let files: u64 = slot.list().map(|(_, bytes)| bytes).sum();
    let slot_bytes =
        (files + rough as u64).next_multiple_of(16 * MIB).max(u64::from(card.root_slot_mib) * MIB);
    let start_bytes = u64::from(card.boot_mib) * MIB;
    let fixed = MIB + start_bytes + 2 * slot_bytes;
    let total = match options.size_mib {
        Some(mib) => mib.saturating_mul(MIB),
        None => (fixed + 32 * MIB).next_power_of_two(),
    };
    if total < fixed + 16 * MIB || total > 2 << 40 {
        let least = (fixed + 16 * MIB) / MIB;
        return Err(CardError::value("--size", format!("from {least} to 2097152 MiB")));
    }
    let data_bytes = total - fixed;
    let mut plan = Plan {
        start_bytes,
        start,
        slots: [Tree::default(), Tree::default()],
        root: Tree::default(),
        data,
        slot_bytes,
        data_bytes,
        id,
    };
    parts.data = gzip_file(&plan.data_image()?)?;
    let (tree, image) = squash(&parts)?;
    plan.root = tree;
    let sum = hex(&Sha256::digest(&image)) + "  root.squashfs\n";
    slot.file("root.sha256", 0o644, sum.into_bytes());
    slot.file("root.squashfs", 0o644, image);
    for (slot_tree, name) in plan.slots.iter_mut().zip(["a", "b"]) {
        *slot_tree = slot.clone();
        let line = format!(
            "console={} kinglet.card={} kinglet.slot={name} panic=10 quiet\n",
            card.console,
            hex(&id[..4])
        );
        slot_tree.file("cmdline.txt", 0o644, line.into_bytes());
    }
    Ok(plan)
}

impl Plan {
    /// What is written where, with lengths.
    #[must_use]
    pub fn listing(&self) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        let mut list = |place: &str, tree: &Tree| {
            all.extend(tree.list().map(|(path, bytes)| (format!("{place}: {path}"), bytes)));
        };
        list("start", &self.start);
        list("slot a", &self.slots[0]);
        list("slot b", &self.slots[1]);
        list("root", &self.root);
        list("data", &self.data);
        all
    }

    /// Length of the image, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        MIB + self.start_bytes + 2 * self.slot_bytes + self.data_bytes
    }

    /// Partitions: start, slot a, slot b, data.
    #[must_use]
    pub fn partitions(&self) -> [Partition; 4] {
        let lengths = [self.start_bytes, self.slot_bytes, self.slot_bytes, self.data_bytes];
        let mut at = MIB;
        let mut number = 0;
        lengths.map(|length| {
            let start = at / SECTOR;
            at += length;
            number += 1;
            Partition { start, sectors: length / SECTOR, fat: number < 4 }
        })
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.id[at], self.id[at + 1], self.id[at + 2], self.id[at + 3]])
    }

    /// The data partition in a file of its own.
    fn data_image(&self) -> Result<tempfile::NamedTempFile, CardError> {
        let file = tempfile::NamedTempFile::new().map_err(CardError::file("a temporary file"))?;
        let hex = hex(&self.id[16..]);
        // Version 4, variant 1: what a random one looks like.
        let uuid = format!(
            "{}-{}-4{}-8{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[13..16],
            &hex[17..20],
            &hex[20..32]
        );
        data::make(&self.data, file.path(), self.data_bytes, &uuid)?;
        Ok(file)
    }

    /// Writes the image, whole or not at all.
    ///
    /// # Errors
    /// [`CardError`]: a program is missing, or there is no room.
    pub fn write(&self, path: &Path) -> Result<(), CardError> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = tempfile::NamedTempFile::new_in(folder).map_err(CardError::file(folder))?;
        let file = temporary.as_file();
        file.set_len(self.bytes()).map_err(CardError::file(path))?;
        let partitions = self.partitions();
        let table = mbr::write(&partitions, self.word(0));
        file.write_all_at(&table, 0).map_err(CardError::file(path))?;
        let fats = [
            ("KINGLET", &self.start),
            ("KINGLET-A", &self.slots[0]),
            ("KINGLET-B", &self.slots[1]),
        ];
        for (i, ((label, tree), p)) in fats.iter().zip(partitions).enumerate() {
            fat(file, p, label, self.word(4 + 4 * i), tree)?;
        }
        let data = self.data_image()?;
        copy(data.path(), file, partitions[3].start * SECTOR)?;
        file.sync_all().map_err(CardError::file(path))?;
        // As other files are; a temporary one is for its owner alone.
        let permissions = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
        file.set_permissions(permissions).map_err(CardError::file(path))?;
        temporary.persist(path).map_err(|e| CardError::file(path)(e.error))?;
        File::open(folder).and_then(|f| f.sync_all()).map_err(CardError::file(folder))
    }
}

/// One FAT partition with its files.
fn fat(file: &File, p: Partition, label: &str, id: u32, tree: &Tree) -> Result<(), CardError> {
    let failed = |source| CardError::Make { what: "a FAT partition", source };
    let length = p.sectors * SECTOR;
    let fat = Fat::format(file, p.start * SECTOR, length, label, id).map_err(failed)?;
    let needs: u64 = tree.list().map(|(_, bytes)| fat.takes(bytes)).sum();
    let free = fat.free().map_err(failed)?;
    if needs > free {
        let advice = "take a smaller model or program";
        return Err(CardError::Full { place: label.to_owned(), free, needs, advice });
    }
    for (path, node) in tree.entries() {
        if let crate::tree::Node::File(_, bytes) = node {
            fat.write(path, bytes).map_err(failed)?;
        }
    }
    fat.close().map_err(failed)
}

/// Copies a file into another, leaving holes where there are zeros.
fn copy(from: &Path, to: &File, mut at: u64) -> Result<(), CardError> {
    let mut source = File::open(from).map_err(CardError::file(from))?;
    let mut block = vec![0; MIB as usize];
    loop {
        let got = source.read(&mut block).map_err(CardError::file(from))?;
        if got == 0 {
            return Ok(());
        }
        if block[..got].iter().any(|b| *b != 0) {
            to.write_all_at(&block[..got], at).map_err(CardError::file(from))?;
        }
        at += got as u64;
    }
}

fn gzip_file(file: &tempfile::NamedTempFile) -> Result<Vec<u8>, CardError> {
    let failed = |source| CardError::Make { what: "the data partition", source };
    let mut source = File::open(file.path()).map_err(failed)?;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut block = vec![0; MIB as usize];
    loop {
        let got = source.read(&mut block).map_err(failed)?;
        if got == 0 {
            return encoder.finish().map_err(failed);
        }
        encoder.write_all(&block[..got]).map_err(failed)?;
    }
}
