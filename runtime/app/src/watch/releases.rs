//! `[update]`: the model comes from a store of signed releases (`kinglet_update`), and a new one is on trial.
//!
//! [`Keeper`] puts the store's model into the configuration before it is used, so that all who read the
//! configuration need not know of stores: the model of the slot, its key, and during a trial the model before it
//! as the second model. [`super::trial`] judges.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kinglet_update::{Key, Kind, RealFiles, Standing, Track, UpdateError, Watching};
use serde::Deserialize;

use super::config::Config;
use super::program;
use crate::default_model;
use crate::exit::Usage;
use crate::update;

/// `[update]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The store's folder.
    pub(super) store: PathBuf,
    /// The minisign key that releases are signed with.
    #[serde(default = "public_key")]
    pub(super) public_key: PathBuf,
    /// How long a new model is on trial, s.
    #[serde(default = "trial")]
    trial: f64,
    /// How many times as slow as the one before it a new model may be.
    #[serde(default = "max_slowdown")]
    max_slowdown: f64,
    /// The share of frames in which both must see the same, 0 to 1.
    #[serde(default = "min_agreement")]
    min_agreement: f64,
}

fn public_key() -> PathBuf {
    update::PUBLIC_KEY.into()
}

fn trial() -> f64 {
    60.0
}

fn max_slowdown() -> f64 {
    update::MAX_SLOWDOWN
}

fn min_agreement() -> f64 {
    0.8
}

impl Settings {
    /// Within its ranges.
    pub(super) fn check(&self) -> Result<(), Usage> {
        let good = (0.0..=604_800.0).contains(&self.trial)
            && self.max_slowdown > 0.0
            && (0.0..=1.0).contains(&self.min_agreement);
        let why = "update: trial is 0 to 604800 s, max_slowdown over 0, min_agreement 0 to 1";
        if good { Ok(()) } else { Err(Usage(why.into())) }
    }

    /// A track of the store, if there is a store.
    pub(super) fn track(&self, kind: Kind) -> Result<Option<Track<RealFiles>>, UpdateError> {
        match RealFiles::open(&self.store) {
            Ok(files) => Ok(Some(Track::new(files, kind))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => {
                let what = format!("store {}", self.store.display());
                Err(UpdateError::Files { what, source })
            }
        }
    }
}

/// What a release must do to be trusted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Terms {
    pub(super) time: Duration,
    pub(super) max_slowdown: f64,
    pub(super) min_agreement: f64,
    /// There is a model before it, to be compared with.
    pub(super) compares: bool,
}

/// A release of the store that runs, or is to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chosen {
    pub(super) kind: Kind,
    pub(super) release: u64,
    pub(super) sha256: String,
    /// `None`: it is trusted.
    pub(super) terms: Option<Terms>,
    settings: Settings,
}

/// Which release runs; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Keeper(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    watching: Option<Watching>,
    /// Put into a configuration that nobody runs with yet.
    chosen: Option<Chosen>,
    running: Option<Chosen>,
}

impl Keeper {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the store's model into a configuration; of one on trial that does not run yet this counts as a try.
    /// Where the store has none that can be used, the configuration's own stays.
    pub(super) fn choose(&self, config: &mut Config) {
        let mut inner = self.inner();
        inner.chosen = None;
        let Some(settings) = config.update.clone() else { return };
        match inner.pick(&settings, config) {
            Ok(chosen) => inner.chosen = chosen,
            Err(error) => {
                tracing::error!("update: {error}; the model that the device came with runs");
            }
        }
    }

    /// What was chosen runs now. Gives it if its trial begins.
    pub(super) fn taken(&self) -> Option<Chosen> {
        let mut inner = self.inner();
        let now = inner.chosen.clone();
        let before = std::mem::replace(&mut inner.running, now);
        let begins =
            |c: &&Chosen| c.terms.is_some() && !before.as_ref().is_some_and(|before| before.is(c));
        inner.running.as_ref().filter(begins).cloned()
    }

    /// What was chosen cannot be used. Whether it was on trial: it is rolled back then, and another choice is
    /// another release.
    pub(super) fn refuse(&self, why: &str) -> bool {
        let mut inner = self.inner();
        let Some(chosen) = inner.chosen.take() else { return false };
        // Where it runs already, it is the configuration that is at fault.
        let runs = inner.running.as_ref().is_some_and(|running| running.is(&chosen));
        drop(inner);
        chosen.terms.is_some() && !runs && chosen.roll_back(why)
    }

    /// The model that runs has failed: if it is on trial, the trial is over.
    pub(super) fn failed(&self, why: &str) {
        let running = self.inner().running.clone();
        if let Some(chosen) = running.filter(|chosen| chosen.terms.is_some()) {
            chosen.roll_back(why);
        }
    }

    /// Whether this still is what runs.
    pub(super) fn runs(&self, chosen: &Chosen) -> bool {
        chosen.kind == Kind::App
            || self.inner().running.as_ref().is_some_and(|running| running.is(chosen))
    }
}

impl Inner {
    fn pick(
        &mut self,
        settings: &Settings,
        config: &mut Config,
    ) -> Result<Option<Chosen>, UpdateError> {
        // Before the first release too: whoever brings it finds in the store who is to be told.
        if let Err(error) = RealFiles::open_or_make(&settings.store) {
            tracing::warn!("update: cannot make {}: {error}", settings.store.display());
        }
        let Some(track) = settings.track(Kind::Model)? else { return Ok(None) };
        // At a terminal SIGHUP says that it has gone: nobody shall send one.
        if self.watching.is_none() && !std::io::stdin().is_terminal() {
            match Watching::start(&settings.store) {
                Ok(None) => tracing::warn!("update: another process runs the models of this store"),
                Ok(watching) => self.watching = watching,
                Err(error) => {
                    let store = settings.store.display();
                    tracing::warn!("update: {store}: {error}; nobody can tell of a new release");
                }
            }
        }
        let key = Key::read(&settings.public_key)?;
        let running = self.running.as_ref().map(|r| (r.release, r.sha256.as_str()));
        // What runs is not tried once more.
        let same = track.status().ok().and_then(|status| status.current).filter(|(_, held)| {
            held.state != Standing::Failed && Some((held.release, held.sha256.as_str())) == running
        });
        let (slot, held) = match same {
            Some(same) => same,
            None => match track.begin(Some(&key))? {
                Some(begun) => (begun.slot, begun.held),
                None => return Ok(None),
            },
        };
        let path = |inside: &str| track.files().path(inside);
        let mut terms = None;
        if held.state == Standing::Trial {
            let before = track.previous(Some(&key))?.map(|before| path(&before.path));
            let factory = || config.model.clone().or_else(|| default_model::find().ok());
            config.shadow_key = match &before {
                Some(_) => Some(settings.public_key.clone()),
                None => config.public_key.clone(),
            };
            config.shadow = before.or_else(factory);
            let asked = held.trial;
            terms = Some(Terms {
                time: seconds(asked.seconds.unwrap_or(settings.trial)),
                max_slowdown: asked.max_slowdown.unwrap_or(settings.max_slowdown),
                min_agreement: asked.min_agreement.unwrap_or(settings.min_agreement),
                compares: config.shadow.is_some(),
            });
            tracing::info!("update: release {} is on trial, try {}", held.release, held.tries);
        }
        config.model = Some(path(&format!("model/{}/{}", slot.name(), Kind::Model.payload())));
        config.public_key = Some(settings.public_key.clone());
        let (kind, release, sha256) = (Kind::Model, held.release, held.sha256);
        Ok(Some(Chosen { kind, release, sha256, terms, settings: settings.clone() }))
    }
}

impl Chosen {
    /// The same release.
    fn is(&self, other: &Self) -> bool {
        (self.release, &self.sha256) == (other.release, &other.sha256)
    }

    /// The program that runs, if it is one of the store's and on trial.
    pub(super) fn program(settings: &Settings) -> Option<Self> {
        let sha256 = program::of_store()?;
        let (_, held) = settings.track(Kind::App).ok()??.status().ok()?.current?;
        let on_trial = held.sha256 == sha256 && held.state == Standing::Trial;
        let terms = Terms {
            time: seconds(held.trial.seconds.unwrap_or(settings.trial)),
            max_slowdown: f64::INFINITY,
            min_agreement: 0.0,
            compares: false,
        };
        let (kind, release) = (Kind::App, held.release);
        on_trial.then(|| Self {
            kind,
            release,
            sha256,
            terms: Some(terms),
            settings: settings.clone(),
        })
    }

    /// It has passed.
    pub(super) fn confirm(&self, why: &str) {
        let confirmed = self.settings.track(self.kind).and_then(|track| match track {
            Some(track) => track.confirm(&self.sha256, why),
            None => Ok(false),
        });
        let what = self.kind.name();
        match confirmed {
            Ok(true) => tracing::info!("update: {what} {} is confirmed: {why}", self.release),
            Ok(false) => {}
            Err(error) => tracing::error!("update: {what} {} not confirmed: {error}", self.release),
        }
    }

    /// It has not. Whether the store has gone back.
    pub(super) fn roll_back(&self, why: &str) -> bool {
        let gone = || -> Result<bool, UpdateError> {
            let key = Key::read(&self.settings.public_key)?;
            match self.settings.track(self.kind)? {
                Some(track) => track.roll_back(Some(&self.sha256), why, Some(&key)),
                None => Ok(false),
            }
        };
        let (what, release) = (self.kind.name(), self.release);
        match gone() {
            Ok(true) => tracing::warn!("update: {what} {release} is rolled back: {why}"),
            Ok(false) => return false,
            Err(error) => {
                tracing::error!("update: {what} {release} cannot be rolled back: {error}");
                return false;
            }
        }
        true
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
