//! A process that puts releases in is killed, again and again, wherever it is.
//!
//! All ten thousand: `cargo test --release -p kinglet-update --test kill -- --ignored`

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kinglet_update::{Header, Install, Key, Kind, RealFiles, Release, Standing, Track};
use minisign::{KeyPair, SecretKey, SecretKeyBox};

/// The folder that the other process works in.
const FOLDER: &str = "KINGLET_TEST_KILL";

/// Random numbers that a seed decides (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

struct Device {
    folder: PathBuf,
    key: Key,
    secret: SecretKey,
    track: Track<RealFiles>,
}

fn payload(number: u64) -> Vec<u8> {
    let word =
        |i: u64| (i.wrapping_mul(0x9e37_79b9) ^ number.wrapping_mul(0x85eb_ca6b)).to_le_bytes();
    (0..).flat_map(word).take(20_000 + number as usize % 7).collect()
}

impl Device {
    fn open(folder: &Path) -> Self {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let secret = SecretKeyBox::from_string(&read("key")).unwrap();
        Self {
            folder: folder.to_owned(),
            key: Key::parse(&read("key.pub")).unwrap(),
            secret: secret.into_unencrypted_secret_key().unwrap(),
            track: Track::new(RealFiles::open_or_make(&folder.join("store")).unwrap(), Kind::Model),
        }
    }

    fn install(&self, number: u64) {
        let payload = payload(number);
        let comment = Release::new(Kind::Model, number, "test").unwrap().to_string();
        let signature = minisign::sign(None, &self.secret, &payload[..], Some(&comment), None);
        let signature = signature.unwrap().into_string();
        let header = Header { signature: signature.len(), payload: payload.len() as u64 };
        let stream = [header.text().as_bytes(), signature.as_bytes(), &payload].concat();
        let how = Install::default();
        let staged = self.track.stage(&self.key, &mut &*stream, &how, &mut |_, _| {}).unwrap();
        self.track.commit(staged, &self.key, &how).unwrap();
    }

    /// The next number.
    fn next(&self) -> u64 {
        let status = self.track.status().unwrap();
        status.current.map_or(0, |(_, held)| held.release).max(status.highest) + 1
    }

    /// What runs is whole, and what the state says; gives its number, hash and standing.
    fn runs(&self) -> (u64, String, Standing) {
        let begun = self.track.begin(Some(&self.key)).unwrap().expect("something runs");
        let path = self.folder.join("store").join(&begun.path);
        assert!(std::fs::read(path).unwrap() == payload(begun.held.release), "{:?}", begun.held);
        (begun.held.release, begun.held.sha256, begun.held.state)
    }

    fn adopt(&self, number: u64) {
        self.install(number);
        let (runs, hash, _) = self.runs();
        assert_eq!(runs, number);
        assert!(self.track.confirm(&hash, "").unwrap());
    }
}

/// The process that is killed: this program once more.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let device = Device::open(Path::new(&folder));
    let mut random = Random(u64::from(std::process::id()) << 20 | 1);
    let mut out = std::io::stdout();
    out.write_all(b"#").unwrap();
    out.flush().unwrap();
    loop {
        device.install(device.next());
        let (_, hash, standing) = device.runs();
        if standing == Standing::Trial {
            match random.below(3) {
                0 => drop(device.track.roll_back(
                    Some(&hash),
                    "as the test wants",
                    Some(&device.key),
                )),
                1 => drop(device.track.confirm(&hash, "as the test wants")),
                _ => {}
            }
        }
    }
}

fn kill(times: u64) {
    // What a killed process has written stays, so memory is as good as a disk.
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let pair = KeyPair::generate_unencrypted_keypair().unwrap();
    let texts = [("key", pair.sk.to_box(None).unwrap().into_string())];
    for (name, text) in
        texts.into_iter().chain([("key.pub", pair.pk.to_box().unwrap().into_string())])
    {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let device = Device::open(folder.path());
    device.adopt(1);
    let mut random = Random(0x5eed);
    let (begun, mut seen) = (Instant::now(), [0; 2]);
    for kill in 0..times {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It says '#' when it begins; the test's own words come before.
        let mut said = BufReader::new(child.stdout.take().unwrap()).bytes();
        assert!(said.any(|byte| byte.unwrap() == b'#'), "it never began");
        std::thread::sleep(Duration::from_micros(random.below(6000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let (_, _, standing) = device.runs();
        seen[usize::from(standing == Standing::Trial)] += 1;
        if kill % 2 == 0 {
            device.adopt(device.next());
        }
    }
    let took = begun.elapsed();
    println!(
        "{times} kills in {took:.0?}: then {} ran that are good, {} on trial",
        seen[0], seen[1]
    );
    assert!(seen[1] > 0, "the kills fell into no trial");
}

#[test]
fn whole_after_three_hundred_kills() {
    kill(300);
}

/// Some minutes.
#[test]
#[ignore = "ten thousand processes"]
fn whole_after_ten_thousand_kills() {
    kill(10_000);
}
