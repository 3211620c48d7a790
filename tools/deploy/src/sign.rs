//! Keys and signatures of releases, in minisign's format: the public `minisign` verifies ours, and we its.
//!
//! What is ours is the trusted comment ([`Release`]): what the file replaces, and its number. It is signed too.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kinglet_update::{Key, MAX_SIGNATURE_BYTES, Release, Signature, UpdateError};
use minisign::{KeyPair, SecretKey, SecretKeyBox};

/// Largest file of a secret key, bytes.
const MAX_KEY_BYTES: u64 = 4096;
/// The checksum at the end of a secret key, bytes.
const CHECKSUM_BYTES: usize = 32;

/// Why nothing was signed, made or verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// A key that is there is not overwritten.
    #[error("{} is there already; a key that is lost cannot be made again, so it is not overwritten", .0.display())]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A secret key cannot be made, read or unlocked.
    #[error("secret key {}: {why}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file is too large, or not signed as it should be.
    #[error("{}: {source}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        source: UpdateError,
    },
}

/// What protects a secret key.
#[derive(Clone)]
pub enum Password {
    /// Nothing but the permissions of its file.
    None,
    /// The terminal is asked for it.
    Ask,
    /// This.
    Given(String),
}

/// Not in any log.
impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

/// The public key's file beside a secret one: `KEY.pub`.
#[must_use]
pub fn public_beside(key: &Path) -> PathBuf {
    beside(key, ".pub")
}

/// The signature's file beside a release: `FILE.minisig`.
#[must_use]
pub fn signature_beside(file: &Path) -> PathBuf {
    beside(file, ".minisig")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Makes a pair: the secret key, which only its owner may read, and `KEY.pub` beside it.
///
/// # Errors
/// [`SignError`]; a file that is there is not touched.
pub fn keygen(key: &Path, password: &Password) -> Result<PathBuf, SignError> {
    let public = public_beside(key);
    for path in [key, &public] {
        if path.symlink_metadata().is_ok() {
            return Err(SignError::Exists(path.to_owned()));
        }
    }
    let failed = |error: minisign::PError| secret(key, &error.to_string());
    let (pair, comment) = match password {
        Password::None => {
            (KeyPair::generate_unencrypted_keypair(), "kinglet secret key without a password")
        }
        Password::Ask => {
            (KeyPair::generate_encrypted_keypair(None), "kinglet encrypted secret key")
        }
        Password::Given(password) => (
            KeyPair::generate_encrypted_keypair(Some(password.clone())),
            "kinglet encrypted secret key",
        ),
    };
    let pair = pair.map_err(failed)?;
    let text = pair.sk.to_box(Some(comment)).map_err(failed)?.into_string();
    // The public one first: a secret key alone would be of no use, and could not be made again.
    let public_text = pair.pk.to_box().map_err(failed)?.into_string();
    create(&public, public_text.as_bytes(), 0o644)?;
    create(key, text.as_bytes(), 0o600)?;
    Ok(public)
}

/// Signs a release; gives the signature's file.
///
/// # Errors
/// [`SignError`]; a signature that was there is as it was then.
pub fn sign(
    file: &Path,
    key: &Path,
    password: &Password,
    release: &Release,
) -> Result<PathBuf, SignError> {
    let refused = |source| SignError::Refused { path: file.to_owned(), source };
    let most = release.kind.max_bytes();
    let opened = File::open(file).map_err(|e| of_file(file, e))?;
    let length = opened.metadata().map_err(|e| of_file(file, e))?.len();
    if !(1..=most).contains(&length) {
        let why = format!("it has {length} bytes; {}s have 1 to {most}", release.kind.name());
        return Err(refused(UpdateError::Release(why)));
    }
    let secret_key = unlock(key, password)?;
    let failed = |error: minisign::PError| secret(key, &error.to_string());
    let comment = release.to_string();
    let made = minisign::sign(None, &secret_key, opened, Some(&comment), None).map_err(failed)?;
    let text = made.into_string();
    // Whoever signs hears it if a device would refuse it.
    let public = minisign::PublicKey::from_secret_key(&secret_key).map_err(failed)?;
    let public = public.to_box().map_err(failed)?.into_string();
    let public = Key::parse(&public).map_err(|why| secret(key, &why))?;
    let signed = check(file, text.as_bytes(), &public).map_err(refused)?;
    if signed != *release {
        return Err(refused(UpdateError::Release("it changed while it was signed".into())));
    }
    let path = signature_beside(file);
    let folder = folder(&path);
    let write = || -> std::io::Result<()> {
        let mut made = tempfile::NamedTempFile::new_in(folder)?;
        made.write_all(text.as_bytes())?;
        made.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        made.as_file().sync_all()?;
        made.persist(&path).map_err(|e| e.error)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|e| of_file(&path, e))?;
    Ok(path)
}

/// Verifies a release with the signature beside it, as a device does.
///
/// # Errors
/// [`SignError`] saying what is wrong.
pub fn verify(file: &Path, public_key: &Path) -> Result<Release, SignError> {
    let refused = |source| SignError::Refused { path: file.to_owned(), source };
    let key = Key::read(public_key).map_err(refused)?;
    let path = signature_beside(file);
    let text = read(&path, MAX_SIGNATURE_BYTES as u64)?;
    check(file, &text, &key).map_err(refused)
}

fn check(file: &Path, signature: &[u8], key: &Key) -> Result<Release, UpdateError> {
    let signature = Signature::parse(signature)?;
    let mut verifier = signature.verify(key)?;
    let failed = |source| UpdateError::Files { what: "reading it".into(), source };
    let mut opened = File::open(file).map_err(failed)?;
    let mut piece = vec![0; 256 << 10];
    loop {
        match std::io::Read::read(&mut opened, &mut piece).map_err(failed)? {
            0 => return verifier.finish(),
            count => verifier.update(&piece[..count]),
        }
    }
}

/// The secret key, without its password.
fn unlock(key: &Path, password: &Password) -> Result<SecretKey, SignError> {
    let text = read(key, MAX_KEY_BYTES)?;
    let text = String::from_utf8(text).map_err(|_| secret(key, "it is no minisign key"))?;
    let held = || SecretKeyBox::from_string(&text).map_err(|e| secret(key, &e.to_string()));
    if let Some(open) = unchecked(&text) {
        return Ok(open);
    }
    if let Ok(open) = held()?.into_unencrypted_secret_key() {
        return Ok(open);
    }
    let password = match password {
        Password::None => return Err(secret(key, "it has a password")),
        Password::Ask => None,
        Password::Given(password) => Some(password.clone()),
    };
    held()?.into_secret_key(password).map_err(|e| secret(key, &e.to_string()))
}

/// A key without a password as minisign 0.11 writes it, without the checksum that others have.
fn unchecked(text: &str) -> Option<SecretKey> {
    let bytes = STANDARD.decode(text.lines().nth(1)?).ok()?;
    let zeros =
        bytes.len() > CHECKSUM_BYTES && bytes.iter().rev().take(CHECKSUM_BYTES).all(|b| *b == 0);
    let key = SecretKey::from_bytes(&bytes).ok()?;
    (zeros && !key.is_encrypted()).then_some(key)
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, SignError> {
    let info = std::fs::metadata(path).map_err(|e| of_file(path, e))?;
    if !info.is_file() || info.len() > most {
        let why = format!("no file of at most {most} bytes");
        return Err(of_file(path, std::io::Error::other(why)));
    }
    std::fs::read(path).map_err(|e| of_file(path, e))
}

/// Writes a file that is not there, whole or not at all.
fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SignError> {
    let folder = folder(path);
    let write = || -> std::io::Result<()> {
        let mut made = tempfile::NamedTempFile::new_in(folder)?;
        made.write_all(bytes)?;
        made.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        made.as_file().sync_all()?;
        made.persist_noclobber(path).map_err(|e| e.error)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => SignError::Exists(path.to_owned()),
        _ => of_file(path, error),
    })
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn of_file(path: &Path, source: std::io::Error) -> SignError {
    SignError::File { path: path.to_owned(), source }
}

fn secret(path: &Path, why: &str) -> SignError {
    SignError::Secret { path: path.to_owned(), why: why.to_owned() }
}
