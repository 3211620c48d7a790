//! The power goes, at every step there is: afterwards there is the old release or the new one, whole, and the
//! next update works.

use super::support::{adopt, install, key, payload, runs, sent, whole};
use crate::files::simulated::{Loss, Random, Simulated};
use crate::{Install, Kind, MOST_TRIES, Standing, Track};

/// Something that happens to a store; errors are the power's.
type Story = fn(&Track<Simulated>);

/// A store before the power goes, and what happens to it then.
struct Scene {
    name: &'static str,
    before: Story,
    story: Story,
    /// Releases that may run afterwards; 0 is the factory's.
    may_run: &'static [u64],
}

fn put(track: &Track<Simulated>, number: u64) -> Option<()> {
    install(track, &sent(number), &Install::default()).ok().map(drop)
}

fn run(track: &Track<Simulated>) -> Option<String> {
    Some(track.begin(Some(key())).ok()??.held.sha256)
}

const SCENES: [Scene; 8] = [
    Scene {
        name: "the first of all",
        before: |_| {},
        story: |track| {
            put(track, 1).and_then(|()| run(track)).map(|hash| track.confirm(&hash, "").ok());
        },
        may_run: &[0, 1],
    },
    Scene {
        name: "an update that passes",
        before: |track| adopt(track, &sent(1)),
        story: |track| {
            put(track, 2).and_then(|()| run(track)).map(|hash| track.confirm(&hash, "").ok());
        },
        may_run: &[1, 2],
    },
    Scene {
        name: "an update over an older one",
        before: |track| {
            adopt(track, &sent(1));
            adopt(track, &sent(2));
        },
        story: |track| {
            put(track, 3).and_then(|()| run(track)).map(|hash| track.confirm(&hash, "").ok());
        },
        may_run: &[2, 3],
    },
    Scene {
        name: "an update that dies each time",
        before: |track| adopt(track, &sent(1)),
        story: |track| {
            put(track, 2);
            (0..6).for_each(|_| drop(run(track)));
        },
        may_run: &[1, 2],
    },
    Scene {
        name: "an update that fails its trial",
        before: |track| adopt(track, &sent(1)),
        story: |track| {
            put(track, 2).and_then(|()| run(track));
            let _ = track.roll_back(None, "too slow", Some(key()));
            run(track);
        },
        may_run: &[1, 2],
    },
    Scene {
        name: "the next one during a trial",
        before: |track| {
            adopt(track, &sent(1));
            put(track, 2).and_then(|()| run(track)).unwrap();
        },
        story: |track| {
            put(track, 3).and_then(|()| run(track));
        },
        may_run: &[1, 2, 3],
    },
    Scene {
        name: "an update of one that rots",
        before: |track| {
            adopt(track, &sent(1));
            adopt(track, &sent(2));
            track.files().tamper("model/b/model.onnx", |bytes| bytes[0] ^= 1);
        },
        story: |track| {
            run(track);
            put(track, 3).and_then(|()| run(track));
        },
        may_run: &[1, 3],
    },
    Scene {
        name: "the state is damaged",
        before: |track| {
            adopt(track, &sent(1));
            adopt(track, &sent(2));
            track.files().tamper("model/state.toml", |bytes| bytes.truncate(30));
        },
        story: |track| {
            run(track).map(|hash| track.confirm(&hash, "").ok());
            put(track, 3).and_then(|()| run(track));
        },
        // What was confirmed is forgotten too: the newer one has a trial again.
        may_run: &[1, 2, 3],
    },
];

impl Scene {
    fn disk(&self) -> Simulated {
        let files = Simulated::new();
        (self.before)(&Track::new(files.clone(), Kind::Model));
        files.after(Loss::Nothing)
    }

    /// Steps of the whole story.
    fn steps(&self, disk: &Simulated) -> u64 {
        let whole = disk.copy_until(u64::MAX);
        (self.story)(&Track::new(whole.clone(), Kind::Model));
        whole.steps()
    }

    /// The disk when the power went before a step.
    fn stopped(&self, disk: &Simulated, step: u64) -> Simulated {
        let disk = disk.copy_until(step);
        (self.story)(&Track::new(disk.clone(), Kind::Model));
        disk
    }

    /// One of those releases runs, whole, whenever it is begun; in the end a next one.
    fn check(&self, files: Simulated, what: &str) {
        let track = Track::new(files, Kind::Model);
        for _ in 0..=MOST_TRIES + 1 {
            let bytes = runs(&track);
            let runs = self.may_run.iter().any(|number| match number {
                0 => bytes.is_empty(),
                number => bytes == payload(*number),
            });
            assert!(runs, "{}: {what}: {} bytes of neither", self.name, bytes.len());
        }
        adopt(&track, &sent(50));
        assert_eq!(runs(&track), payload(50), "{}: {what}", self.name);
        assert_eq!(track.status().unwrap().highest, 50);
    }
}

#[test]
fn stopped_at_every_step() {
    let mut stops = 0;
    for scene in &SCENES {
        let disk = scene.disk();
        for step in 0..=scene.steps(&disk) {
            let stopped = scene.stopped(&disk, step);
            scene.check(stopped.after(Loss::Nothing), &format!("step {step}, nothing lost"));
            scene.check(stopped.after(Loss::Everything), &format!("step {step}, all lost"));
            stops += 1;
        }
    }
    println!("stopped at {stops} steps, each with all unsynced data kept and lost");
    assert!(stops > 300, "{stops}");
}

#[test]
fn unsynced_data_is_lost_piece_by_piece() {
    let mut runs = 0;
    for scene in &SCENES {
        let disk = scene.disk();
        let steps = scene.steps(&disk);
        for seed in 0..250 {
            let mut random = Random(seed);
            let step = random.below(steps as usize + 1) as u64;
            let stopped = scene.stopped(&disk, step);
            scene.check(stopped.after(Loss::Some(random)), &format!("step {step}, seed {seed}"));
            runs += 1;
        }
    }
    println!("{runs} losses of power, each file and name on its own");
    assert!(runs >= 1000);
}

#[test]
fn however_often_the_power_goes_a_release_on_trial_has_three_tries() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut files = Simulated::new();
        let track = Track::new(files.clone(), Kind::Model);
        adopt(&track, &sent(1));
        install(&track, &sent(2), &Install::default()).unwrap();
        let mut tries = 0;
        for _ in 0..12 {
            files = files.copy_until(random.below(14) as u64);
            let track = Track::new(files.clone(), Kind::Model);
            if let Ok(Some(begun)) = track.begin(Some(key())) {
                let bytes = whole(&track, &begun);
                assert!(bytes == payload(1) || bytes == payload(2));
                tries += u32::from(begun.held.state == Standing::Trial);
            }
            files = files.after(Loss::Some(Random(random.below(1 << 30) as u64)));
        }
        assert!(tries <= MOST_TRIES, "seed {seed}: {tries} tries");
        let bytes = runs(&Track::new(files, Kind::Model));
        assert!(bytes == payload(1) || tries < MOST_TRIES);
    }
}
