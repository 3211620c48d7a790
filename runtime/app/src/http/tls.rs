//! TLS by rustls: a certificate and its key from PEM files, read again when they have been renewed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How often it is looked whether the files are other ones.
const LOOK: Duration = Duration::from_secs(60);

/// What the server shows of itself.
pub(super) struct Tls {
    cert: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    /// When the files were written, and when that was looked up.
    written: [Option<SystemTime>; 2],
    looked: Instant,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, is not what it should be, or the two do not belong together.
    pub(super) fn new(cert: &Path, key: &Path) -> anyhow::Result<Self> {
        let (written, looked) = (written(cert, key), Instant::now());
        let current = Current { acceptor: acceptor(cert, key)?, written, looked };
        Ok(Self { cert: cert.into(), key: key.into(), current: Mutex::new(current) })
    }

    /// For the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.renewed(LOOK)
    }

    /// The same; looks at the files if that is so long ago. While new ones are no use (one of the two is
    /// still the old one), what was read before stays.
    fn renewed(&self, look: Duration) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= look {
            current.looked = Instant::now();
            let written = written(&self.cert, &self.key);
            if written != current.written {
                match acceptor(&self.cert, &self.key) {
                    Ok(acceptor) => (current.acceptor, current.written) = (acceptor, written),
                    Err(error) => tracing::warn!("{error:#}; the certificate before is used"),
                }
            }
        }
        current.acceptor.clone()
    }
}

fn written(cert: &Path, key: &Path) -> [Option<SystemTime>; 2] {
    [cert, key].map(|path| std::fs::metadata(path).and_then(|facts| facts.modified()).ok())
}

/// Reads a certificate and its key.
///
/// # Errors
/// A file cannot be read, is not what it should be, or the two do not belong together.
fn acceptor(cert: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("TLS: cannot read {}", path.display()))
    };
    let text = read(cert)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .with_context(|| format!("TLS: {} is no PEM file", cert.display()))?;
    ensure!(
        !chain.is_empty(),
        "TLS: {} holds no certificate (-----BEGIN CERTIFICATE-----)",
        cert.display()
    );
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?).with_context(|| {
        format!("TLS: {} holds no private key (-----BEGIN PRIVATE KEY-----)", key.display())
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .with_context(|| {
            format!("TLS: {} and {} do not go together", cert.display(), key.display())
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_none_are_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (one, other) = (make(), make());
        let cert = file("cert.pem", &one.cert.pem());
        let key = file("key.pem", &one.signing_key.serialize_pem());
        let foreign = file("other.pem", &other.signing_key.serialize_pem());
        let empty = file("empty.pem", "");
        let broken = file("broken.pem", "-----BEGIN CERTIFICATE-----\n%%%\n-----END");
        assert!(acceptor(&cert, &key).is_ok());
        for (cert, key, word) in [
            (&cert, &foreign, "do not go together"),
            (&empty, &key, "empty.pem holds no certificate"),
            (&broken, &key, "broken.pem is no PEM file"),
            (&cert, &cert, "cert.pem holds no private key"),
            (&cert, &folder.path().join("none.pem"), "cannot read"),
        ] {
            let error = acceptor(cert, key).err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn renewed_files_are_taken_up_when_both_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str, second: u64| {
            std::fs::write(path(name), text).unwrap();
            let file = std::fs::File::options().write(true).open(path(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).unwrap();
        };
        let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (old, new) = (make(), make());
        write("cert", &old.cert.pem(), 1);
        write("key", &old.signing_key.serialize_pem(), 1);
        let tls = Tls::new(&path("cert"), &path("key")).unwrap();
        let now = |look| Arc::as_ptr(tls.renewed(look).config());
        let first = now(Duration::ZERO);
        write("cert", &new.cert.pem(), 2);
        assert_eq!(now(Duration::ZERO), first, "the key is still missing");
        write("key", &new.signing_key.serialize_pem(), 2);
        assert_eq!(now(LOOK), first, "not looked at yet");
        assert_ne!(now(Duration::ZERO), first);
    }
}
