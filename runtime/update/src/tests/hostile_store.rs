//! A store on a real file system that somebody has been at: links, pipes, other files, another state.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{adopt, begin, comment, install, key, pair, payload, runs, sent, sign};
use crate::state::State;
use crate::{Install, Kind, RealFiles, Slot, Track, Watching};

/// A store with release 1 in slot a and release 2, which is used, in slot b; and a file outside of it.
struct Ground {
    _folder: tempfile::TempDir,
    store: PathBuf,
    outside: PathBuf,
    track: Track<RealFiles>,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, outside) = (folder.path().join("store"), folder.path().join("outside"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("model.onnx"), payload(2)).unwrap();
        fs::write(outside.join("victim"), b"precious").unwrap();
        let track = Track::new(RealFiles::open_or_make(&store).unwrap(), Kind::Model);
        adopt(&track, &sent(1));
        adopt(&track, &sent(2));
        Self { _folder: folder, store, outside, track }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.store.join("model").join(name)
    }

    /// Something else in a place.
    fn put(&self, name: &str, make: impl Fn(&Path)) {
        let path = self.at(name);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        make(&path);
    }

    fn link(&self, name: &str, to: &Path) {
        self.put(name, |path| symlink(to, path).unwrap());
    }

    /// A state with a right hash.
    fn state(&self, change: impl Fn(&mut State)) {
        let text = fs::read_to_string(self.at("state.toml")).unwrap();
        let mut state = State::parse(&text).unwrap();
        change(&mut state);
        fs::write(self.at("state.toml"), state.text().unwrap()).unwrap();
    }

    /// Nothing outside was touched.
    fn untouched(&self, what: &str) {
        assert_eq!(fs::read(self.outside.join("victim")).unwrap(), b"precious", "{what}");
        assert_eq!(fs::read(self.outside.join("model.onnx")).unwrap(), payload(2), "{what}");
        assert_eq!(fs::read_dir(&self.outside).unwrap().count(), 2, "{what}");
    }
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// What is done to the store.
type Deed = fn(&Ground);

/// The release that is used is not what it was: the one before it runs, and a next update works.
#[test]
fn what_is_not_what_was_installed_is_not_run() {
    let deeds: [(&str, Deed); 22] = [
        ("the file is changed", |g| fs::write(g.at("b/model.onnx"), payload(3)).unwrap()),
        ("the file is cut", |g| fs::write(g.at("b/model.onnx"), &payload(2)[..9]).unwrap()),
        ("the file is empty", |g| fs::write(g.at("b/model.onnx"), b"").unwrap()),
        ("the file is away", |g| fs::remove_file(g.at("b/model.onnx")).unwrap()),
        ("a link to the same bytes", |g| g.link("b/model.onnx", &g.outside.join("model.onnx"))),
        ("a link to nowhere", |g| g.link("b/model.onnx", Path::new("/nowhere"))),
        ("a link to itself", |g| g.link("b/model.onnx", Path::new("model.onnx"))),
        ("a pipe", |g| g.put("b/model.onnx", pipe)),
        ("a folder", |g| g.put("b/model.onnx", |path| fs::create_dir(path).unwrap())),
        ("a device", |g| g.link("b/model.onnx", Path::new("/dev/zero"))),
        ("the slot is a link", |g| g.link("b", &g.outside)),
        ("the slot is a link to the other", |g| g.link("b", Path::new("a"))),
        ("the slot is a file", |g| g.put("b", |path| fs::write(path, b"x").unwrap())),
        ("no signature", |g| fs::remove_file(g.at("b/model.onnx.minisig")).unwrap()),
        ("the other's signature", |g| {
            fs::copy(g.at("a/model.onnx.minisig"), g.at("b/model.onnx.minisig")).unwrap();
        }),
        ("a signature without end", |g| g.link("b/model.onnx.minisig", Path::new("/dev/zero"))),
        ("a signature that is a pipe", |g| g.put("b/model.onnx.minisig", pipe)),
        ("another number signed for it", |g| {
            let text = sign(pair(), &payload(2), &comment(77));
            fs::write(g.at("b/model.onnx.minisig"), text).unwrap();
        }),
        ("an unsigned file that the state knows", |g| {
            fs::write(g.at("b/model.onnx"), payload(3)).unwrap();
            let known = sha(&payload(3));
            g.state(|state| {
                let held = state.b.as_mut().unwrap();
                (held.sha256, held.bytes) = (known.clone(), payload(3).len() as u64);
            });
        }),
        ("a length that the state knows better", |g| {
            g.state(|state| state.b.as_mut().unwrap().bytes = u64::MAX >> 2);
        }),
        ("a number that the state knows better", |g| {
            g.state(|state| state.b.as_mut().unwrap().release = 1000);
        }),
        ("tries without end", |g| {
            g.state(|state| {
                let held = state.b.as_mut().unwrap();
                (held.tries, held.state) = (u32::MAX, crate::Standing::Trial);
            });
        }),
    ];
    for (name, deed) in deeds {
        let ground = Ground::new();
        deed(&ground);
        assert_eq!(runs(&ground.track), payload(1), "{name}");
        ground.untouched(name);
        match name.starts_with("the slot is") || name == "a folder" {
            // Nothing is written through it, nor instead of it.
            true => assert!(install(&ground.track, &sent(50), &Install::default()).is_err()),
            false => {
                adopt(&ground.track, &sent(50));
                assert_eq!(runs(&ground.track), payload(50), "{name}");
            }
        }
        ground.untouched(name);
    }
}

/// The link that says which slot is used leads nowhere: what the device came with runs.
#[test]
fn a_link_elsewhere_is_followed_nowhere() {
    for target in ["../../outside", "/etc", "c", "b/", "./b", "a\n", "..", "staged", "b/model.onnx"]
    {
        let ground = Ground::new();
        ground.link("current", Path::new(target));
        assert!(begin(&ground.track).is_none(), "{target}");
        adopt(&ground.track, &sent(50));
        assert_eq!(runs(&ground.track), payload(50), "{target}");
        ground.untouched(target);
    }
    for make in [|path: &Path| fs::write(path, b"b").unwrap(), pipe] {
        let ground = Ground::new();
        ground.put("current", make);
        assert!(begin(&ground.track).is_none());
        adopt(&ground.track, &sent(50));
    }
    let ground = Ground::new();
    ground.put("current", |path| fs::create_dir(path).unwrap());
    assert!(begin(&ground.track).is_none());
    assert!(install(&ground.track, &sent(50), &Install::default()).is_err(), "a folder stays");
}

/// The state is not what it was: it is built anew from what is signed.
#[test]
fn a_state_that_is_not_ours_is_not_believed() {
    let deeds: [(&str, Deed); 9] = [
        ("empty", |g| fs::write(g.at("state.toml"), b"").unwrap()),
        ("away", |g| fs::remove_file(g.at("state.toml")).unwrap()),
        ("without its hash", |g| fs::write(g.at("state.toml"), "highest = 1\n").unwrap()),
        ("no text", |g| fs::write(g.at("state.toml"), [0xff; 64]).unwrap()),
        ("of zeros", |g| fs::write(g.at("state.toml"), [0; 600]).unwrap()),
        ("a terabyte", |g| {
            let file = fs::File::create(g.at("state.toml")).unwrap();
            file.set_len(1 << 40).unwrap();
        }),
        ("a pipe", |g| g.put("state.toml", pipe)),
        ("a link", |g| {
            fs::copy(g.at("state.toml"), g.at("copy")).unwrap();
            g.link("state.toml", Path::new("copy"));
        }),
        ("more than we know", |g| {
            let text = fs::read_to_string(g.at("state.toml")).unwrap();
            fs::write(g.at("state.toml"), format!("root = true\n{text}")).unwrap();
        }),
    ];
    for (name, deed) in deeds {
        let ground = Ground::new();
        deed(&ground);
        assert!(ground.track.begin(None).is_err(), "{name}: nothing is believed without a key");
        assert_eq!(runs(&ground.track), payload(2), "{name}");
        assert_eq!(ground.track.status().unwrap().highest, 2, "{name}");
        assert!(install(&ground.track, &sent(1), &Install::default()).is_err(), "{name}: older");
        adopt(&ground.track, &sent(50));
        ground.untouched(name);
    }
}

/// Between the check and the switch the staged file is another.
#[test]
fn what_is_exchanged_after_the_check_is_not_switched_to() {
    let deeds: [(&str, Deed); 8] = [
        ("another file", |g| fs::write(g.at("staged/model.onnx"), payload(3)).unwrap()),
        ("a bit", |g| {
            let mut bytes = payload(50);
            bytes[700] ^= 1;
            fs::write(g.at("staged/model.onnx"), bytes).unwrap();
        }),
        ("cut", |g| fs::write(g.at("staged/model.onnx"), &payload(50)[..100]).unwrap()),
        ("away", |g| fs::remove_file(g.at("staged/model.onnx")).unwrap()),
        ("a link to the same bytes", |g| {
            fs::rename(g.at("staged/model.onnx"), g.at("staged/it")).unwrap();
            symlink("it", g.at("staged/model.onnx")).unwrap();
        }),
        ("another release, rightly signed", |g| {
            fs::write(g.at("staged/model.onnx"), payload(51)).unwrap();
            let text = sign(pair(), &payload(51), &comment(51));
            fs::write(g.at("staged/model.onnx.minisig"), text).unwrap();
        }),
        ("another signature", |g| {
            let text = sign(pair(), &payload(50), &comment(51));
            fs::write(g.at("staged/model.onnx.minisig"), text).unwrap();
        }),
        ("the folder is a link", |g| {
            fs::rename(g.at("staged"), g.store.join("staged")).unwrap();
            symlink("../staged", g.at("staged")).unwrap();
        }),
    ];
    for (name, deed) in deeds {
        let ground = Ground::new();
        let how = Install::default();
        let staged = ground.track.stage(key(), &mut &*sent(50), &how, &mut |_, _| {}).unwrap();
        deed(&ground);
        assert!(ground.track.commit(staged, key(), &how).is_err(), "{name}");
        assert_eq!(runs(&ground.track), payload(2), "{name}");
        assert_eq!(ground.track.previous(Some(key())).unwrap().unwrap().slot, Slot::A, "{name}");
        ground.untouched(name);
    }
}

/// Links lie where a release is written to.
#[test]
fn nothing_is_written_through_a_link() {
    for name in [
        "staged/incoming",
        "staged/model.onnx",
        "staged/model.onnx.minisig",
        "current.new",
        "state.toml.new",
    ] {
        let ground = Ground::new();
        symlink(ground.outside.join("victim"), ground.at(name)).unwrap();
        adopt(&ground.track, &sent(50));
        assert_eq!(runs(&ground.track), payload(50), "{name}");
        ground.untouched(name);
    }
    for name in ["staged", "a"] {
        let ground = Ground::new();
        ground.link(name, &ground.outside);
        assert!(install(&ground.track, &sent(50), &Install::default()).is_err(), "{name}");
        assert_eq!(runs(&ground.track), payload(2), "{name}");
        ground.untouched(name);
    }
    let ground = Ground::new();
    fs::rename(ground.store.join("model"), ground.store.join("other")).unwrap();
    symlink("other", ground.store.join("model")).unwrap();
    assert!(ground.track.begin(Some(key())).is_err(), "the track itself is a link");
    assert!(install(&ground.track, &sent(50), &Install::default()).is_err());
    symlink(ground.outside.join("victim"), ground.store.join("watch.lock")).unwrap();
    assert!(Watching::start(&ground.store).is_err());
    assert!(Watching::who(&ground.store).is_err());
    ground.untouched("the track is a link");
}

/// Files that nobody put there lie in the slots.
#[test]
fn what_else_lies_there_does_not_matter() {
    let ground = Ground::new();
    for name in ["b/evil.onnx", "b/model.tune.toml", "staged/evil", "evil", "c"] {
        fs::write(ground.at(name), b"evil").unwrap();
    }
    assert_eq!(runs(&ground.track), payload(2));
    adopt(&ground.track, &sent(50));
}

fn sha(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    crate::state::hex(&sha2::Sha256::digest(bytes))
}
