//! TLS for the connection: the broker's name is verified, always.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::settings::Tls;

/// How a TLS connection is made to one host.
pub(super) struct Connector {
    pub(super) connector: TlsConnector,
    pub(super) name: ServerName<'static>,
}

impl Connector {
    /// Reads the certificates.
    ///
    /// # Errors
    /// Which file is wrong, in words.
    pub(super) fn new(tls: &Tls, host: &str) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("'{host}' is no name that a certificate can have"))?;
        let mut roots = RootCertStore::empty();
        match &tls.ca {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|e| format!("{}: {e}", path.display()))?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                if roots.add_parsable_certificates(found.certs).0 == 0 {
                    let why = found.errors.first().map(|e| format!(": {e}")).unwrap_or_default();
                    return Err(format!(
                        "the system has no root certificates{why}; ca = FILE names one"
                    ));
                }
            }
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots);
        let config = match &tls.certificate {
            Some((certificate, key)) => {
                let fault = |e: &dyn std::fmt::Display| format!("{}: {e}", key.display());
                let private = PrivateKeyDer::from_pem_file(key).map_err(|e| fault(&e))?;
                let chain = certificates(certificate)?;
                builder.with_client_auth_cert(chain, private).map_err(|e| fault(&e))?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| fault(&e))?.collect();
    let found = found.map_err(|e| fault(&e))?;
    match found.is_empty() {
        true => Err(fault(&"no certificate in it (PEM)")),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_certificates_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let told = |text: &str, host: &str| {
            std::fs::write(&file, text).unwrap();
            let tls = Tls { ca: Some(file.clone()), certificate: None };
            Connector::new(&tls, host).err().unwrap()
        };
        assert!(told("nothing", "h").contains("ca.pem: no certificate"));
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(told(damaged, "h").contains("ca.pem"));
        assert!(told(damaged, "a b").contains("'a b' is no name"));
    }
}
