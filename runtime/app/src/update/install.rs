//! `kinglet update install`: from a pipe to a release on trial.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kinglet_update::{Install, Key, Kind, RealFiles, Staged, Track, Trial};
use serde_json::{Value, json};

use super::Place;
use super::selftest;
use crate::default_model;
use crate::exit::{Done, Outcome, Refused, Usage};

/// Options of `update install`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What it replaces: model, or app for the program itself.
    #[arg(long, value_parser = super::kind)]
    kind: Kind,
    #[command(flatten)]
    place: Place,
    /// Let in an older release than one that was confirmed here.
    #[arg(long)]
    allow_downgrade: bool,
    /// How long it is on trial [default: what the service's configuration says].
    #[arg(long, value_name = "SECONDS")]
    trial: Option<f64>,
    /// How many times as slow as the old model the new one may be [default: 1.5].
    #[arg(long, value_name = "FACTOR")]
    max_slowdown: Option<f64>,
    /// The share of pictures, 0 to 1, in which both models must see the same during the trial [default:
    /// what the service's configuration says].
    #[arg(long, value_name = "SHARE")]
    min_agreement: Option<f64>,
    /// The model that the device came with: the old one while the store has none, and the one that a new
    /// program tests itself with [default: the one installed].
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
}

/// Says what was done, at once.
fn say(step: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{step}")?;
    out.flush()
}

impl Args {
    fn install(&self) -> Result<Install, Usage> {
        let bad = |what: &str| Err(Usage(what.to_owned()));
        if self.trial.is_some_and(|s| !(0.0..=604_800.0).contains(&s)) {
            return bad("--trial: 0 to 604800 seconds");
        }
        if self.max_slowdown.is_some_and(|f| !(f > 0.0 && f <= 1000.0)) {
            return bad("--max-slowdown: over 0, at most 1000");
        }
        if self.min_agreement.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            return bad("--min-agreement: a share, 0 to 1");
        }
        let trial = Trial {
            seconds: self.trial,
            max_slowdown: self.max_slowdown,
            min_agreement: self.min_agreement,
        };
        Ok(Install { allow_downgrade: self.allow_downgrade, trial })
    }

    /// The model that runs now, as far as can be told from here.
    fn old_model(&self, key: &Key) -> anyhow::Result<Option<PathBuf>> {
        let track = self.place.track(Kind::Model)?;
        let stored = match track.status() {
            Ok(status) => status.current.map(|(slot, _)| {
                track.files().path(&format!("model/{}/{}", slot.name(), Kind::Model.payload()))
            }),
            Err(_) => track.previous(Some(key))?.map(|held| track.files().path(&held.path)),
        };
        let image = || Some(PathBuf::from(super::FACTORY_MODEL)).filter(|path| path.is_file());
        let factory = self.model.clone().or_else(image).or_else(|| default_model::find().ok());
        Ok(stored.or(factory))
    }
}

/// Runs `update install`.
pub(super) fn run(args: &Args) -> Outcome {
    let install = args.install()?;
    let key = Key::read(&args.place.public_key)?;
    let store = &args.place.store;
    let files = RealFiles::open_or_make(store);
    let files = files.with_context(|| format!("store {}", store.display()))?;
    let track = Track::new(files, args.kind);
    let mut input = std::io::stdin().lock();
    let staged = track.stage(&key, &mut input, &install, &mut |_, _| {})?;
    let release = staged.release.number;
    say(&json!({"step": "received", "bytes": staged.bytes}))?;
    say(&json!({
        "step": "verified", "release": release, "name": staged.release.name, "sha256": staged.sha256,
    }))?;
    if staged.used.is_none()
        && let Err(error) = test(args, &track, &staged, &key)
    {
        track.discard(staged)?;
        return Err(error);
    }
    let done = track.commit(staged, &key, &install)?;
    let (slot, unchanged) = (done.slot.name(), done.unchanged);
    say(&json!({"step": "switched", "release": release, "slot": slot, "unchanged": unchanged}))?;
    let told = if unchanged { None } else { args.place.tell()? };
    say(&json!({"step": "told", "pid": told}))?;
    Ok(Done::Well)
}

/// What is staged proves itself.
fn test(
    args: &Args,
    track: &Track<RealFiles>,
    staged: &Staged<<RealFiles as kinglet_update::Files>::Lock>,
    key: &Key,
) -> anyhow::Result<()> {
    // Other processes look at it by its path; a relative one is as good, they begin where we are.
    let path = track.files().path(&staged.path);
    let public_key: &Path = &args.place.public_key;
    let old = args.old_model(key)?;
    let mut step = json!({"step": "self-tested", "release": staged.release.number});
    match args.kind {
        Kind::App => step["version"] = selftest::app(&path, old.as_deref())?.into(),
        Kind::Model => {
            selftest::model(&path, public_key)?;
            if let Some(old) = old {
                let times = selftest::times(&old, &path, public_key)?;
                let most = args.max_slowdown.unwrap_or(super::MAX_SLOWDOWN);
                let factor = times.new_ms / times.old_ms;
                (step["old_ms"], step["new_ms"]) = (times.old_ms.into(), times.new_ms.into());
                if factor.is_nan() || factor > most {
                    let why = format!(
                        "it takes {:.2} ms a picture, {factor:.2} times the {:.2} ms of the one that runs; \
                         {most} times are allowed (--max-slowdown)",
                        times.new_ms, times.old_ms
                    );
                    return Err(Refused(why).into());
                }
            }
        }
    }
    Ok(say(&step)?)
}
