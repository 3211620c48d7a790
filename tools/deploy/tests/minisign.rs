//! Keys and signatures against the public `minisign`, both ways.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use kinglet_deploy::sign::{Password, SignError, keygen, sign, verify};
use kinglet_update::{Kind, Release};

fn minisign(folder: &Path, arguments: &[&str]) -> Option<Output> {
    match Command::new("minisign").args(arguments).current_dir(folder).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: no minisign here ({error}); apt-get install minisign");
            None
        }
    }
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b).into_owned()).concat()
}

fn release(number: u64) -> Release {
    Release::new(Kind::Model, number, "birds.onnx").unwrap()
}

#[test]
fn minisign_verifies_what_we_sign() {
    let folder = tempfile::tempdir().unwrap();
    let (key, file) = (folder.path().join("k"), folder.path().join("birds.onnx"));
    std::fs::write(&file, vec![7; 300_000]).unwrap();
    for (name, password) in [("k", Password::None), ("p", Password::Given("secret".into()))] {
        let key = key.with_file_name(name);
        keygen(&key, &password).unwrap();
        sign(&file, &key, &password, &release(12)).unwrap();
        assert_eq!(verify(&file, &key.with_file_name(format!("{name}.pub"))).unwrap(), release(12));
        let public = format!("{name}.pub");
        let Some(said) = minisign(folder.path(), &["-V", "-p", &public, "-m", "birds.onnx"]) else {
            return;
        };
        assert!(said.status.success(), "{}", text(&said));
        assert!(text(&said).contains("kinglet kind=model release=12 name=birds.onnx"));
    }
    // And not what was changed.
    std::fs::write(&file, vec![8; 300_000]).unwrap();
    let said = minisign(folder.path(), &["-V", "-p", "p.pub", "-m", "birds.onnx"]).unwrap();
    assert!(!said.status.success());
}

#[test]
fn we_verify_what_minisign_signs_with_its_keys_and_with_ours() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("birds.onnx"), vec![7; 300_000]).unwrap();
    let made = ["-G", "-W", "-p", "theirs.pub", "-s", "theirs"];
    let Some(made) = minisign(folder.path(), &made) else { return };
    assert!(made.status.success(), "{}", text(&made));
    keygen(&at("ours"), &Password::None).unwrap();
    let comment = release(12).to_string();
    for key in ["theirs", "ours"] {
        let arguments = ["-S", "-W", "-s", key, "-m", "birds.onnx", "-t", &comment];
        let signed = minisign(folder.path(), &arguments).unwrap();
        assert!(signed.status.success(), "{}", text(&signed));
        let public = at(&format!("{key}.pub"));
        assert_eq!(verify(&at("birds.onnx"), &public).unwrap(), release(12));
        // Their secret key signs here too.
        sign(&at("birds.onnx"), &at(key), &Password::None, &release(13)).unwrap();
        assert_eq!(verify(&at("birds.onnx"), &public).unwrap(), release(13));
    }
    assert!(verify(&at("birds.onnx"), &at("theirs.pub")).is_err(), "signed by the other");
    // Minisign's old form, and its usual comment, are no release.
    for more in [&["-l", "-t", comment.as_str()][..], &[]] {
        let arguments = [&["-S", "-W", "-s", "ours", "-m", "birds.onnx"][..], more].concat();
        assert!(minisign(folder.path(), &arguments).unwrap().status.success());
        assert!(verify(&at("birds.onnx"), &at("ours.pub")).is_err(), "{more:?}");
    }
}

#[test]
fn a_key_is_its_owners_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("me.key");
    let public = keygen(&key, &Password::None).unwrap();
    assert_eq!(public, folder.path().join("me.key.pub"));
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&key).unwrap();
    assert!(matches!(keygen(&key, &Password::None), Err(SignError::Exists(_))));
    assert_eq!(std::fs::read(&key).unwrap(), before);
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(keygen(&key, &Password::None), Err(SignError::Exists(_))), "the public one");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_signed_leaves_no_signature() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("empty"), b"").unwrap();
    std::fs::write(at("file"), b"x").unwrap();
    std::fs::write(at("junk"), b"untrusted comment: x\njunk\n").unwrap();
    let password = Password::Given("right".into());
    keygen(&at("locked"), &password).unwrap();
    let attempts = [("empty", "locked"), ("none", "locked"), ("file", "none"), ("file", "junk")];
    for (file, key) in attempts {
        assert!(sign(&at(file), &at(key), &password, &release(1)).is_err(), "{file} {key}");
    }
    for wrong in [Password::None, Password::Given("wrong".into())] {
        let error = sign(&at("file"), &at("locked"), &wrong, &release(1)).unwrap_err();
        assert!(error.to_string().contains("locked"), "{error}");
    }
    assert!(!at("file.minisig").exists());
    sign(&at("file"), &at("locked"), &password, &release(1)).unwrap();
    let kept = std::fs::read(at("file.minisig")).unwrap();
    assert!(sign(&at("file"), &at("junk"), &password, &release(2)).is_err());
    assert_eq!(std::fs::read(at("file.minisig")).unwrap(), kept);
}
