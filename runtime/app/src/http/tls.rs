//! TLS by rustls: a certificate and its key from PEM files.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Reads what the server shows of itself.
///
/// # Errors
/// A file cannot be read, is not what it should be, or the two do not belong together.
pub(super) fn acceptor(cert: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
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
}
