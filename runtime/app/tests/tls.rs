//! HTTPS: `serve` and `watch` with a certificate.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Reply, Server};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A certificate of `localhost` and its key, in files.
struct Files {
    folder: tempfile::TempDir,
    certificate: CertificateDer<'static>,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self { folder, certificate: made.cert.der().clone() }
    }

    fn arguments(&self) -> Vec<String> {
        let path = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        vec!["--tls-cert".into(), path("cert.pem"), "--tls-key".into(), path("key.pem")]
    }

    /// What a client that trusts the certificate hears.
    fn get(&self, server: &Server, path: &str) -> Reply {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, server.connect());
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        Reply::read(stream)
    }
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn serve_and_watch_speak_tls() {
    let files = Files::new();
    let arguments = files.arguments();
    let server = Server::serve(&words(&arguments));
    assert_eq!(files.get(&server, "/healthz").body, b"ok\n");
    let names = files.get(&server, "/v1/models").json();
    assert_eq!(names["models"][0], "efficientnet-lite0-int8");
    // Without TLS it is no request.
    assert_eq!(server.get("/healthz", "").code, 0);
    let server = Server::watch(&[vec!["--camera", "test"], words(&arguments)].concat());
    let picture = files.get(&server, "/v1/snapshot.jpg");
    assert!(picture.code == 200 && picture.body.len() > 1000, "{}", picture.code);
}

#[test]
fn a_handshake_that_does_not_end_is_cut() {
    let files = Files::new();
    let server = Server::serve(&words(&files.arguments()));
    let begun = Instant::now();
    let mut silent: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    silent[0].write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc").unwrap();
    assert_eq!(files.get(&server, "/healthz").code, 200, "others are not held up");
    for stream in &mut silent {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
}

#[test]
fn bad_files_are_said_at_once() {
    let files = Files::new();
    let refused = |cert: &Path, key: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kinglet"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--tls-cert"]).arg(cert);
        let output = command.arg("--tls-key").arg(key).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let (cert, key) = (files.folder.path().join("cert.pem"), files.folder.path().join("key.pem"));
    assert!(
        refused(&key, &key).contains("key.pem holds no certificate"),
        "{}",
        refused(&key, &key)
    );
    assert!(refused(&cert, &cert).contains("cert.pem holds no private key"));
    assert!(refused(&cert, Path::new("/none")).contains("cannot read /none"));
}
