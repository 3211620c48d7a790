//! Pushing over a real sshd to the real program: `kinglet watch` and `kinglet update`. Skipped where it is not built:
//! `cargo test` at the root builds it, and `KINGLET_PROGRAM` names another.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{PATIENCE, Sshd, until};
use kinglet_deploy::push::{
    Device, Kind, PushError, Pushed, Release, Told, Wishes, push, rollback,
};
use kinglet_deploy::workspace;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/efficientnet-lite0-int8.onnx")
}

/// The device's program, if it is there and knows `update`.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("KINGLET_PROGRAM").map(PathBuf::from);
    let built = || {
        let target = workspace::target_folder(&std::env::current_exe().ok()?)?;
        Some(target.join("release/kinglet"))
    };
    let program = named.or_else(built)?;
    let output = Command::new(&program).args(["update", "--help"]).output().ok()?;
    output.status.success().then_some(program)
}

/// A `kinglet watch` that ends with the test.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The shipped model with other bytes and the same sense, signed: protobuf takes the last of a field that comes twice.
fn release(folder: &Path, number: u64, key: &minisign::SecretKey) -> Release {
    let path = folder.join(format!("model-{number}.onnx"));
    let version = [0x1a, 1, b'0' + u8::try_from(number).unwrap()];
    let bytes = [std::fs::read(shipped()).unwrap(), version.to_vec()].concat();
    let comment = format!("kinglet kind=model release={number} name=model-{number}.onnx");
    let made = minisign::sign(None, key, &bytes[..], Some(&comment), None).unwrap();
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(folder.join(format!("model-{number}.onnx.minisig")), made.into_string())
        .unwrap();
    Release::read(&path).unwrap()
}

#[test]
fn the_real_program_takes_confirms_refuses_and_goes_back() {
    let test = "the_real_program_takes_confirms_refuses_and_goes_back";
    let Some(program) = program() else {
        eprintln!("{test}: skipped, because the device's program is not built");
        return;
    };
    let Some(sshd) = Sshd::start(test) else { return };
    let (ssh, folder) = (sshd.ssh(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    std::fs::write(at("key.pub"), pair.pk.to_box().unwrap().into_string()).unwrap();
    let text = format!(
        "model = {:?}\nthreads = 1\n[camera]\nsource = \"test\"\n[rate]\nmax_fps = 20\n[update]\n\
         store = {:?}\npublic_key = {:?}\ntrial = 1\nmax_slowdown = 50\n",
        shipped(),
        at("store"),
        at("key.pub")
    );
    std::fs::write(at("kinglet.toml"), text).unwrap();
    let mut device = Device::new("board".parse().unwrap());
    device.program = Some(program.display().to_string());
    device.store = Some(at("store").display().to_string());
    let wishes = Wishes {
        public_key: Some(at("key.pub").display().to_string()),
        max_slowdown: Some(50.0),
        ..Wishes::default()
    };
    let quiet = |_: Told<'_>| {};
    let wait = Some(PATIENCE);

    // Nothing runs there yet.
    let first = release(folder.path(), 1, &pair.sk);
    assert_eq!(push(&ssh, &device, &first, &wishes, wait, &quiet).unwrap(), Pushed::Idle);
    let mut command = Command::new(&program);
    command.args(["watch", "--config"]).arg(at("kinglet.toml"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _watch = Watch(command.spawn().unwrap());
    let state = |wanted: &str| {
        let status = device.status(&ssh).unwrap();
        status.track(Kind::Model).is_some_and(|t| t.state == wanted)
    };
    until("the first release passes its trial", || state("good"));
    assert_eq!(push(&ssh, &device, &first, &wishes, wait, &quiet).unwrap(), Pushed::Already);

    let second = release(folder.path(), 2, &pair.sk);
    assert_eq!(push(&ssh, &device, &second, &wishes, wait, &quiet).unwrap(), Pushed::Confirmed);

    // Signed by somebody else: refused, and nothing changes.
    let other = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let third = release(folder.path(), 3, &other.sk);
    let error = push(&ssh, &device, &third, &wishes, wait, &quiet).unwrap_err();
    assert!(matches!(error, PushError::Refused { code: 3, .. }), "{error}");
    let status = device.status(&ssh).unwrap();
    assert_eq!(status.track(Kind::Model).unwrap().release, Some(2));

    rollback(&ssh, &device, Kind::Model).unwrap();
    let status = device.status(&ssh).unwrap();
    let track = status.track(Kind::Model).unwrap();
    assert_eq!(track.release, Some(1), "{}", track.line());
    // Who took it back by hand may have it again.
    assert_eq!(push(&ssh, &device, &second, &wishes, wait, &quiet).unwrap(), Pushed::Confirmed);
}
