//! Against a real registry (Debian's `docker-registry`) and a second reader (`skopeo`). Where they are
//! not installed the tests say so and pass.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../../../tests/support/port.rs"]
mod port;

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kinglet_oci::{OciError, Registry, Settings, layout, model, program};

/// A registry that ends with the test.
struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(password: Option<&str>) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = port::free_port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}/data}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n",
            folder.path().display()
        );
        if let Some(line) = password {
            fs::write(folder.path().join("htpasswd"), line).unwrap();
            config += &format!(
                "auth: {{htpasswd: {{realm: test, path: {}/htpasswd}}}}\n",
                folder.path().display()
            );
        }
        let path = folder.path().join("config.yml");
        fs::write(&path, config).unwrap();
        let started = Command::new("docker-registry")
            .args(["serve", path.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = started else {
            eprintln!("skipped: no docker-registry (on Debian: apt install docker-registry)");
            return None;
        };
        let server = Self { process, port, folder };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "the registry does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(server)
    }

    fn registry(&self, name: &str) -> Registry {
        Registry::new(&format!("127.0.0.1:{}/{name}", self.port), &Settings::default()).unwrap()
    }

    /// The file in which the registry keeps a blob.
    fn stored(&self, digest: &str) -> std::path::PathBuf {
        let hash = digest.trim_start_matches("sha256:");
        self.folder
            .path()
            .join(format!("data/docker/registry/v2/blobs/sha256/{}/{hash}/data", &hash[..2]))
    }
}

/// A model's files; what is in them does not matter here.
fn model_files(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("birds.onnx");
    let noise: Vec<u8> =
        (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(&path, noise).unwrap();
    fs::write(folder.join("birds.onnx.minisig"), "untrusted comment: x\nabc\n").unwrap();
    path
}

/// The smallest ELF header that says what it is for and needs nothing.
fn program_for(machine: u8) -> Vec<u8> {
    let mut bytes = vec![0u8; 4096];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18] = machine;
    bytes[54] = 56;
    bytes
}

fn skopeo(arguments: &[&str]) -> Option<String> {
    let Ok(out) = Command::new("skopeo").args(arguments).output() else {
        eprintln!("skipped: no skopeo (on Debian: apt install skopeo)");
        return None;
    };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8(out.stdout).unwrap())
}

#[test]
fn a_model_comes_back_from_a_registry_as_it_was() {
    let Some(server) = Server::start(None) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = model_files(folder.path());
    let image = model::image(&path).unwrap();
    assert_eq!(image, model::image(&path).unwrap(), "the same bytes from the same files");
    let name = server.registry("farm/birds:3").push(&image, &|_| ()).unwrap();
    let to = tempfile::tempdir().unwrap();
    // By the name with its digest, too.
    let digest = name.rsplit_once('@').unwrap().1;
    for name in ["farm/birds:3".to_owned(), format!("farm/birds@{digest}")] {
        let written = server.registry(&name).pull_model(to.path(), &|_, _| Ok(())).unwrap();
        assert_eq!(written.len(), 2);
        assert_eq!(fs::read(to.path().join("model.onnx")).unwrap(), fs::read(&path).unwrap());
        for file in written {
            fs::remove_file(file).unwrap();
        }
    }
    // What is refused is not written.
    let refused = server.registry("farm/birds:3").pull_model(to.path(), &|model, signature| {
        assert_eq!(model.len(), 3_000_000);
        assert!(signature.is_some());
        Err("not signed by us".into())
    });
    assert!(refused.unwrap_err().to_string().contains("not signed by us"));
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);

    // A registry whose disk flips one bit.
    let layer = image.blobs.iter().max_by_key(|b| b.bytes.len()).unwrap();
    let stored = server.stored(&layer.digest);
    let mut bytes = fs::read(&stored).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&stored, bytes).unwrap();
    let error = server.registry("farm/birds:3").pull_model(to.path(), &|_, _| Ok(())).unwrap_err();
    assert!(matches!(error, OciError::Content { .. }), "{error}");
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}

#[test]
fn others_read_the_program_s_image_for_each_platform() {
    let Some(server) = Server::start(None) else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = model_files(folder.path());
    let programs = [("x86", 62), ("arm", 183)].map(|(name, machine)| {
        let path = folder.path().join(name);
        fs::write(&path, program_for(machine)).unwrap();
        path
    });
    let parts = program::Parts { programs: programs.to_vec(), model, certificates: None };
    let image = program::image(&parts).unwrap();
    let name = server.registry("kinglet:1").push(&image, &|_| ()).unwrap();
    let error = server.registry("kinglet:1").pull_model(folder.path(), &|_, _| Ok(())).unwrap_err();
    assert!(error.to_string().contains("several platforms"), "{error}");
    for architecture in ["amd64", "arm64"] {
        let Some(text) = skopeo(&[
            "inspect",
            "--tls-verify=false",
            "--override-os",
            "linux",
            "--override-arch",
            architecture,
            &format!("docker://{name}"),
        ]) else {
            return;
        };
        let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(seen["Architecture"], architecture);
        assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
    }
    // The folder, copied by another program with every digest checked.
    let out = folder.path().join("layout");
    layout::write(&image, &out, "latest").unwrap();
    assert!(
        layout::write(&image, &out, "latest").unwrap_err().to_string().contains("there already")
    );
    let copied = folder.path().join("copied");
    skopeo(&[
        "copy",
        "--all",
        "--quiet",
        &format!("oci:{}:latest", out.display()),
        &format!("oci:{}:x", copied.display()),
    ]);
    assert!(copied.join("index.json").exists());
}

#[test]
fn a_wrong_password_and_no_registry_are_said() {
    // `user:secret`, by bcrypt.
    let line = "user:$2y$05$7JAf8UL4yJKWdIG5.fVYLuJkYyVMWFEyYo6GgIUXTgFRhmGDTHZZe\n";
    if let Some(server) = Server::start(Some(line)) {
        let folder = tempfile::tempdir().unwrap();
        let image = model::image(&model_files(folder.path())).unwrap();
        let name = format!("127.0.0.1:{}/birds:1", server.port);
        let login = Some(("user".to_owned(), "wrong".to_owned()));
        let wrong = Settings { login, ..Settings::default() };
        let error = Registry::new(&name, &wrong).unwrap().push(&image, &|_| ()).unwrap_err();
        assert!(matches!(error, OciError::Registry { .. }), "{error}");
    }
    let port = port::free_port();
    let registry = Registry::new(&format!("127.0.0.1:{port}/x:1"), &Settings::default()).unwrap();
    let error = registry.pull_model(Path::new("/nowhere"), &|_, _| Ok(())).unwrap_err();
    assert!(error.to_string().starts_with(&format!("127.0.0.1:{port}: ")), "{error}");
    assert!(matches!(Registry::new("NO NAME", &Settings::default()), Err(OciError::Name { .. })));
}
