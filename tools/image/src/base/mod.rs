//! Puts Kinglet into an image of Raspberry Pi OS, without root and without mounting anything.
//!
//! Only the FAT boot partition is written: program, model, configuration and service lie there, and the image's own
//! mechanism for the first boot ([`Mechanism`]) copies them into place and sets up host, user and network. [`plan`] says
//! what would be written, [`Plan::write`] unpacks the image and writes it.

mod first_boot;
mod secret;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::fat::Fat;
use crate::input::{check_program, configuration, hostname, ssh_key};
use crate::mbr::{self, Partition, SECTOR};
use crate::unpack::Unpacker;
use crate::{CardError, hex};
pub use first_boot::Mechanism;

const UNIT: &str = include_str!("../../../../targets/systemd/kinglet.service");
/// The longest image that is unpacked, bytes.
const LONGEST: u64 = 64 << 30;
/// The longest `cmdline.txt`: the kernel takes 4096 bytes at most.
const COMMAND_LINE: u64 = 4000;
/// The longest file of the image's own that is looked at.
const TEXT: u64 = 256 << 10;

/// What goes into the image.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The image of Raspberry Pi OS.
    pub base: PathBuf,
    /// `kinglet` for aarch64, static.
    pub program: PathBuf,
    /// The model.
    pub model: PathBuf,
    /// `kinglet.toml` in place of the default one.
    pub configuration: Option<PathBuf>,
    /// The minisign public key of updates.
    pub public_key: Option<PathBuf>,
    /// The host's name.
    pub hostname: String,
    /// The user; with a password, a key, or both.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// Public SSH keys.
    pub ssh_keys: Vec<String>,
    /// The time zone, such as `Europe/Berlin`.
    pub time_zone: Option<String>,
    /// The Wi-Fi.
    pub wifi: Option<Wifi>,
}

/// A network to join.
#[derive(Debug, Clone, Default)]
pub struct Wifi {
    /// Its name, 1 to 32 bytes.
    pub ssid: String,
    /// Its passphrase, or the 64 digits of a PSK.
    pub passphrase: String,
    /// Two letters: which channels are allowed.
    pub country: String,
    /// It does not tell its name.
    pub hidden: bool,
}

/// The image with what will be written to its boot partition.
pub struct Plan {
    base: PathBuf,
    image: tempfile::NamedTempFile,
    out: PathBuf,
    boot: Partition,
    mechanism: Mechanism,
    files: Vec<(String, Vec<u8>)>,
    length: u64,
}

/// Values that were checked, secrets hashed.
pub(crate) struct Values {
    pub(crate) host: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) zone: Option<String>,
    pub(crate) wifi: Option<(Wifi, String)>,
}

impl Values {
    fn check(options: &Options) -> Result<Self, CardError> {
        hostname(&options.hostname)?;
        for key in &options.ssh_keys {
            ssh_key(key)?;
        }
        if let Some(user) = &options.user {
            let good =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
            if !(1..=31).contains(&user.len())
                || !user.bytes().all(good)
                || !user.starts_with(|c: char| c.is_ascii_lowercase())
                || user == "root"
            {
                let what = "1 to 31 lower-case letters, digits, - and _, beginning with a letter; not root";
                return Err(CardError::value("user", what));
            }
            if options.password.is_none() && options.ssh_keys.is_empty() {
                return Err(CardError::value(
                    "user",
                    "nobody could log in: give a password or an SSH key",
                ));
            }
        } else if options.password.is_some() || !options.ssh_keys.is_empty() {
            return Err(CardError::value("password or SSH key", "for whom? Give --user"));
        }
        if let Some(zone) = &options.time_zone {
            let good = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
            let parts = zone.split('/').all(|p| p.starts_with(|c: char| c.is_ascii_alphabetic()));
            if zone.len() > 64 || !zone.chars().all(good) || !parts {
                return Err(CardError::value("time zone", "a name such as Europe/Berlin"));
            }
        }
        let user = options.user.as_deref().unwrap_or("");
        let password = options.password.as_deref();
        let password = password.map(|p| secret::crypt(p, user, &options.hostname)).transpose()?;
        let wifi = match &options.wifi {
            None => None,
            Some(wifi) => {
                if !(1..=32).contains(&wifi.ssid.len()) || wifi.ssid.chars().any(char::is_control) {
                    return Err(CardError::value(
                        "Wi-Fi",
                        "a name of 1 to 32 bytes without control characters",
                    ));
                }
                if wifi.country.len() != 2 || !wifi.country.bytes().all(|b| b.is_ascii_uppercase())
                {
                    return Err(CardError::value(
                        "Wi-Fi country",
                        "two capital letters, such as DE",
                    ));
                }
                Some((wifi.clone(), secret::psk(&wifi.ssid, &wifi.passphrase)?))
            }
        };
        Ok(Self {
            host: options.hostname.clone(),
            user: options.user.clone(),
            password,
            keys: options.ssh_keys.clone(),
            zone: options.time_zone.clone(),
            wifi,
        })
    }
}

/// Unpacks the image beside `out`, looks at it, and says what would be written. `progress` hears how many bytes of the
/// file have been read, and of how many.
///
/// # Errors
/// [`CardError`]: the image is none, is damaged, has no room, or an option is not usable.
pub fn plan(options: &Options, out: &Path, progress: &dyn Fn(u64, u64)) -> Result<Plan, CardError> {
    let values = Values::check(options)?;
    let program = read(&options.program)?;
    check_program(&options.program, &program)?;
    let model = read(&options.model)?;
    let configuration = match &options.configuration {
        Some(path) => configuration(path)?,
        None => first_boot::CONFIGURATION.to_owned(),
    };
    let public_key = options.public_key.as_deref().map(read).transpose()?;

    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let image = tempfile::NamedTempFile::new_in(folder).map_err(CardError::file(folder))?;
    let length = unpack(&options.base, image.as_file(), out, progress)?;
    let wrong = |what: String| CardError::Base { path: options.base.clone(), what };
    let mut head = vec![0; 34 * SECTOR as usize];
    let mut file = image.as_file();
    file.seek(SeekFrom::Start(0)).map_err(CardError::file(out))?;
    let got = file.take(head.len() as u64).read(&mut head).map_err(CardError::file(out))?;
    let partitions = mbr::read(&head[..got], length).map_err(wrong)?;
    let mut why = "it has no FAT partition".to_owned();
    let mut found = None;
    for boot in partitions.iter().filter(|p| p.fat) {
        match look(image.as_file(), *boot) {
            Ok(Some(seen)) => {
                found = Some((*boot, seen));
                break;
            }
            Ok(None) => {
                why =
                    "its FAT partition has no config.txt and cmdline.txt: it is no Raspberry Pi OS"
                        .into()
            }
            Err(e) => why = format!("its boot partition cannot be read: {e}"),
        }
    }
    let Some((boot, seen)) = found else { return Err(wrong(why)) };

    let mut files = vec![
        ("kinglet".to_owned(), program),
        ("kinglet-model.onnx".to_owned(), model),
        ("kinglet.toml".to_owned(), configuration.into_bytes()),
        ("kinglet.service".to_owned(), UNIT.as_bytes().to_vec()),
    ];
    files.extend(public_key.map(|key| ("kinglet.pub".to_owned(), key)));
    let mut id = Sha256::new();
    for (name, bytes) in &files {
        id.update(format!("{name} {}\n", bytes.len()));
        id.update(bytes);
    }
    let id = hex(&id.finalize()[..8]);
    files.extend(first_boot::files(seen.mechanism, &values, &id));
    // Last: until it is there, the image boots as it did.
    let line =
        first_boot::command_line(&seen.command_line, seen.mechanism, &values).map_err(wrong)?;
    files.push(("cmdline.txt".to_owned(), line.into_bytes()));
    let (mut free, mut needs) = (seen.free, 0);
    let fat = Fat::open(image.as_file(), boot.start * SECTOR, boot.sectors * SECTOR)
        .map_err(|e| wrong(e.to_string()))?;
    for (name, bytes) in &files {
        needs += fat.takes(bytes.len() as u64);
        // What is replaced gives its place.
        if let Some(old) = fat.read(name, LONGEST).map_err(|e| wrong(e.to_string()))? {
            free += old.len() as u64;
        }
    }
    drop(fat);
    if needs > free {
        let place = "the image's boot partition".to_owned();
        return Err(CardError::Full { place, free, needs, advice: "take a smaller model" });
    }
    Ok(Plan {
        base: options.base.clone(),
        image,
        out: out.to_owned(),
        boot,
        mechanism: seen.mechanism,
        files,
        length,
    })
}

impl Plan {
    /// How the image is set up at its first boot.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Length of the image, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.length
    }

    /// Names and lengths of what is written; never what is in them.
    pub fn listing(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.len() as u64))
    }

    /// Writes the files into the image, and the image whole or not at all.
    ///
    /// # Errors
    /// [`CardError`].
    pub fn write(self) -> Result<(), CardError> {
        let wrong = |e: std::io::Error| CardError::Base {
            path: self.base.clone(),
            what: format!("its boot partition cannot be written: {e}"),
        };
        let file = self.image.as_file();
        let fat =
            Fat::open(file, self.boot.start * SECTOR, self.boot.sectors * SECTOR).map_err(wrong)?;
        for (name, bytes) in &self.files {
            fat.write(name, bytes).map_err(wrong)?;
        }
        fat.close().map_err(wrong)?;
        let failed = CardError::file(self.out.clone());
        let permissions = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
        // Hashes of passwords are in it: for its owner alone.
        file.set_permissions(permissions).and_then(|()| file.sync_all()).map_err(failed)?;
        let folder =
            self.out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.image.persist(&self.out).map_err(|e| CardError::file(&self.out)(e.error))?;
        File::open(folder).and_then(|f| f.sync_all()).map_err(CardError::file(folder))
    }
}

/// What the boot partition has.
struct Seen {
    mechanism: Mechanism,
    command_line: String,
    free: u64,
}

fn look(image: &File, boot: Partition) -> std::io::Result<Option<Seen>> {
    let fat = Fat::open(image, boot.start * SECTOR, boot.sectors * SECTOR)?;
    let line = fat.read("cmdline.txt", COMMAND_LINE)?;
    let (Some(line), true) = (line, fat.exists("config.txt")?) else { return Ok(None) };
    let text = |name: &str| -> std::io::Result<String> {
        Ok(fat
            .read(name, TEXT)?
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .unwrap_or_default())
    };
    let command_line =
        String::from_utf8(line).map_err(|_| std::io::Error::other("cmdline.txt is no text"))?;
    let cloud_init = fat.exists("user-data")? || fat.exists("meta-data")?;
    // Debian 12's images have their boot partition on /boot/firmware; those before on /boot.
    let firmware = command_line.contains("raspberrypi-sys-mods/firstboot")
        || text("config.txt")?.contains("auto_initramfs=1")
        || fat.exists("initramfs8")?;
    let mechanism = match (cloud_init, firmware) {
        (true, _) => Mechanism::CloudInit,
        (false, true) => Mechanism::FirstRun,
        (false, false) => Mechanism::FirstRunOld,
    };
    Ok(Some(Seen { mechanism, command_line, free: fat.free()? }))
}

/// Unpacks into a file with holes where there are zeros. Returns the length.
fn unpack(
    base: &Path,
    mut to: &File,
    out: &Path,
    progress: &dyn Fn(u64, u64),
) -> Result<u64, CardError> {
    let mut image = Unpacker::open(base)?;
    let mut block = vec![0; 1 << 20];
    let mut length = 0u64;
    loop {
        progress(image.consumed(), image.file_bytes());
        let got = image.fill(&mut block)?;
        if got == 0 {
            break;
        }
        length += got as u64;
        if length > LONGEST {
            let what = format!("it has more than {} GiB", LONGEST >> 30);
            return Err(CardError::Base { path: base.to_owned(), what });
        }
        if block[..got].iter().any(|b| *b != 0) {
            to.write_all(&block[..got]).map_err(CardError::file(out))?;
        } else {
            to.seek(SeekFrom::Current(got as i64)).map_err(CardError::file(out))?;
        }
    }
    image.finish()?;
    to.set_len(length).map_err(CardError::file(out))?;
    Ok(length)
}

fn read(path: &Path) -> Result<Vec<u8>, CardError> {
    let about = fs::metadata(path).map_err(CardError::file(path))?;
    if about.len() > 512 << 20 {
        return Err(CardError::value(path.display().to_string(), "it has more than 512 MiB"));
    }
    fs::read(path).map_err(CardError::file(path))
}

#[cfg(test)]
#[path = "base_tests.rs"]
mod tests;
