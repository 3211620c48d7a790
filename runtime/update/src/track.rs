//! The store's state machine: one track, two slots, one of which is used.
//!
//! ```text
//! model/current -> a        which slot is used; replaced by one rename
//! model/state.toml          what the slots hold, how far it is trusted, how often it was tried
//! model/a/model.onnx        a release; model/a/model.onnx.minisig its signature
//! model/b/…
//! model/staged/…            what comes in, until it is verified and tested
//! ```
//!
//! Order is everything here: what a slot holds is on the disk before the state says so, the state is on the
//! disk before `current` points there, and a slot that is overwritten has lost its entry before. A release that
//! failed is marked first and left then, so that whoever finds the mark completes the switch.

use std::io::Read as _;

use sha2::{Digest as _, Sha256};

use crate::error::UpdateError;
use crate::files::Files;
use crate::release::Kind;
use crate::signature::{Key, MAX_SIGNATURE_BYTES, Signature};
use crate::state::{Last, Outcome, Slot, SlotState, Standing, State, hex};

/// How often a release on trial is begun.
pub const MOST_TRIES: u32 = 3;
/// Bytes read at once.
pub(crate) const CHUNK: usize = 64 << 10;

/// The track of one kind in a store.
#[derive(Debug)]
pub struct Track<F> {
    pub(crate) files: F,
    pub(crate) kind: Kind,
}

/// A release that is to be run: verified, and counted if it is on trial.
#[derive(Debug)]
pub struct Begun<R> {
    /// Where it is.
    pub slot: Slot,
    /// What it is.
    pub held: SlotState,
    /// The file that was verified, read to its end.
    pub file: R,
    /// Its path within the store.
    pub path: String,
}

/// How a track stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The slot that is used and what it holds; `None`: the factory's release is used.
    pub current: Option<(Slot, SlotState)>,
    /// The highest number that was ever confirmed; 0: none.
    pub highest: u64,
    /// What was done last.
    pub last: Option<Last>,
}

impl<F: Files> Track<F> {
    /// The track of a kind.
    pub fn new(files: F, kind: Kind) -> Self {
        Self { files, kind }
    }

    /// The file system, with the paths of what is in the store.
    pub fn files(&self) -> &F {
        &self.files
    }

    /// What is to be run now. Of a release on trial this is a try, which is on the disk when this returns; after
    /// [`MOST_TRIES`] of them, or where the release is not what was installed, it is rolled back and the one
    /// before it is given. `None`: nothing in the store can be run, the factory's release is to be. With a key the
    /// signature is verified once more.
    ///
    /// # Errors
    /// The state is damaged and there is no key to rebuild it with, or the system refuses something. The factory's
    /// release is to be run then too.
    pub fn begin(&self, key: Option<&Key>) -> Result<Option<Begun<F::Reader>>, UpdateError> {
        let Some(_lock) = self.lock()? else { return Ok(None) };
        let mut state = self.load(key)?;
        // Both slots may have to be left.
        for _ in 0..Slot::ALL.len() {
            let Some(slot) = self.current()? else { return Ok(None) };
            let problem = match state.slot(slot).cloned() {
                None => "nothing is known of it".to_owned(),
                Some(held) if held.state == Standing::Failed => {
                    // It was marked, and then something stopped us.
                    state.last.as_ref().map_or_else(String::new, |last| last.why.clone())
                }
                Some(held) if held.state == Standing::Trial && held.tries >= MOST_TRIES => {
                    format!("it was begun {MOST_TRIES} times and never confirmed")
                }
                Some(held) => match self.examine(slot, &held, key) {
                    Ok(begun) if held.state == Standing::Good => return Ok(Some(begun)),
                    Ok(begun) => return self.count(state, begun, key).map(Some),
                    Err(problem) => problem,
                },
            };
            self.leave(&mut state, slot, &problem, key)?;
        }
        Ok(None)
    }

    /// Counts a try. Where that cannot be written, nothing new is tried: the release before it is given.
    fn count(
        &self,
        mut state: State,
        mut begun: Begun<F::Reader>,
        key: Option<&Key>,
    ) -> Result<Begun<F::Reader>, UpdateError> {
        begun.held.tries += 1;
        *state.slot_mut(begun.slot) = Some(begun.held.clone());
        match self.save(&state) {
            Ok(()) => Ok(begun),
            Err(error) => self.good(&state, begun.slot.other(), key).ok_or(error),
        }
    }

    /// The release on trial has passed: it is good from now on. Whether it still was the one with this hash.
    ///
    /// # Errors
    /// As the system says.
    pub fn confirm(&self, sha256: &str, why: &str) -> Result<bool, UpdateError> {
        let Some(_lock) = self.lock()? else { return Ok(false) };
        let mut state = self.load(None)?;
        let Some(slot) = self.current()? else { return Ok(false) };
        let Some(held) = state.slot_mut(slot) else { return Ok(false) };
        if held.sha256 != sha256 || held.state == Standing::Failed {
            return Ok(false);
        }
        if held.state == Standing::Good {
            return Ok(true);
        }
        held.state = Standing::Good;
        let (number, sha256) = (held.release, held.sha256.clone());
        if number >= state.highest {
            (state.highest, state.highest_sha256) = (number, sha256);
        }
        state.last = Some(Last::new(Outcome::Confirmed, number, why));
        self.save(&state).map(|()| true)
    }

    /// Leaves the release that is used for the one before it, or for the factory's. `sha256`: only if it is still
    /// this one; says whether it was.
    ///
    /// # Errors
    /// [`UpdateError::Nothing`], or as the system says.
    pub fn roll_back(
        &self,
        sha256: Option<&str>,
        why: &str,
        key: Option<&Key>,
    ) -> Result<bool, UpdateError> {
        let Some(_lock) = self.lock()? else { return Err(UpdateError::Nothing) };
        let mut state = self.load(key)?;
        let slot = self.current()?.ok_or(UpdateError::Nothing)?;
        let held = state.slot(slot);
        if sha256.is_some() && held.map(|held| held.sha256.as_str()) != sha256 {
            return Ok(false);
        }
        self.leave(&mut state, slot, why, key)?;
        Ok(true)
    }

    /// How the track stands.
    ///
    /// # Errors
    /// The state is damaged, or as the system says.
    pub fn status(&self) -> Result<Status, UpdateError> {
        let Some(_lock) = self.lock()? else {
            return Ok(Status { current: None, highest: 0, last: None });
        };
        let state = self.load(None)?;
        let current = self.current()?;
        let current = current.and_then(|slot| Some((slot, state.slot(slot)?.clone())));
        Ok(Status { current, highest: state.highest, last: state.last })
    }

    /// The good release in the slot that is not used: the one that a trial is compared with.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub fn previous(&self, key: Option<&Key>) -> Result<Option<Begun<F::Reader>>, UpdateError> {
        let Some(_lock) = self.lock()? else { return Ok(None) };
        let state = self.load(key)?;
        let Some(slot) = self.current()? else { return Ok(None) };
        Ok(self.good(&state, slot.other(), key))
    }

    /// Marks a slot as failed and goes to the other one, if that is good and whole, or to none.
    pub(crate) fn leave(
        &self,
        state: &mut State,
        slot: Slot,
        why: &str,
        key: Option<&Key>,
    ) -> Result<(), UpdateError> {
        if let Some(held) = state.slot_mut(slot)
            && held.state != Standing::Failed
        {
            held.state = Standing::Failed;
            let number = held.release;
            state.last = Some(Last::new(Outcome::RolledBack, number, why));
            self.save(state)?;
        }
        let other = self.good(state, slot.other(), key).map(|begun| begun.slot);
        self.switch(other)
    }

    /// What a slot holds, if that is good and whole.
    fn good(&self, state: &State, slot: Slot, key: Option<&Key>) -> Option<Begun<F::Reader>> {
        let held = state.slot(slot).filter(|held| held.state == Standing::Good)?;
        self.examine(slot, held, key).ok()
    }

    /// Reads what a slot holds and compares it with what was installed; says what is wrong.
    fn examine(
        &self,
        slot: Slot,
        held: &SlotState,
        key: Option<&Key>,
    ) -> Result<Begun<F::Reader>, String> {
        let path = self.payload(slot.name());
        let signature = key.map(|_| self.signature(&path)).transpose()?;
        let mut verifier = match (&signature, key) {
            (Some(signature), Some(key)) => {
                Some(signature.verify(key).map_err(|error| error.to_string())?)
            }
            _ => None,
        };
        let (file, hash) = self.hash(&path, held.bytes, |chunk| {
            if let Some(verifier) = &mut verifier {
                verifier.update(chunk);
            }
        })?;
        if hash != held.sha256 {
            return Err("it is not the file that was installed".into());
        }
        if let Some(verifier) = verifier {
            let release = verifier.finish().map_err(|error| error.to_string())?;
            if (release.kind, release.number) != (self.kind, held.release) {
                return Err("its signature is of another release".into());
            }
        }
        Ok(Begun { slot, held: held.clone(), file, path })
    }

    /// Reads a file of this length to its end, and gives its hash.
    pub(crate) fn hash(
        &self,
        path: &str,
        length: u64,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(F::Reader, String), String> {
        let opened = self.files.open(path).map_err(|error| format!("{path}: {error}"))?;
        let (mut file, there) = opened.ok_or_else(|| format!("{path} is missing"))?;
        if there != length || length > self.kind.max_bytes() {
            return Err(format!("{path} has {there} bytes, not {length}"));
        }
        let (mut hash, mut read, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK]);
        loop {
            let count = file.read(&mut chunk).map_err(|error| format!("{path}: {error}"))?;
            read += count as u64;
            if count == 0 || read > length {
                break;
            }
            hash.update(&chunk[..count]);
            each(&chunk[..count]);
        }
        if read != length {
            return Err(format!("{path} changed while it was read"));
        }
        Ok((file, hex(&hash.finalize())))
    }

    /// The signature beside a file.
    pub(crate) fn signature(&self, path: &str) -> Result<Signature, String> {
        let path = format!("{path}.minisig");
        let bytes = self.small(&path, MAX_SIGNATURE_BYTES as u64)?;
        let bytes = bytes.ok_or_else(|| format!("{path} is missing"))?;
        Signature::parse(&bytes).map_err(|error| error.to_string())
    }

    /// A small file's bytes.
    pub(crate) fn small(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        let failed = |error: std::io::Error| format!("{path}: {error}");
        let Some((file, length)) = self.files.open(path).map_err(failed)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
        if length > most || bytes.len() as u64 > most {
            return Err(format!("{path} has more than {most} bytes"));
        }
        Ok(Some(bytes))
    }

    /// The lock on slots and state, held for moments; `None`: there is no such track yet.
    pub(crate) fn lock(&self) -> Result<Option<F::Lock>, UpdateError> {
        match self.files.lock(self.kind.name(), true) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => other.map_err(UpdateError::files(format!("locking {}", self.kind.name()))),
        }
    }

    /// The slot that is used.
    pub(crate) fn current(&self) -> Result<Option<Slot>, UpdateError> {
        let path = self.inside("current");
        let target = self.files.read_link(&path).map_err(UpdateError::files(path))?;
        Ok(target.and_then(|target| Slot::parse(&target)))
    }

    /// Uses another slot from now on, or none.
    pub(crate) fn switch(&self, to: Option<Slot>) -> Result<(), UpdateError> {
        let (current, new) = (self.inside("current"), self.inside("current.new"));
        let switched = || {
            let Some(slot) = to else {
                self.files.remove(&current)?;
                return self.files.sync_folder(self.kind.name());
            };
            self.files.remove(&new)?;
            self.files.symlink(slot.name(), &new)?;
            self.files.sync_folder(self.kind.name())?;
            self.files.rename(&new, &current)?;
            self.files.sync_folder(self.kind.name())
        };
        switched().map_err(UpdateError::files(format!("switching {current}")))
    }

    /// A path in the track.
    pub(crate) fn inside(&self, name: &str) -> String {
        format!("{}/{name}", self.kind.name())
    }

    /// The release in a folder of the track.
    pub(crate) fn payload(&self, folder: &str) -> String {
        format!("{}/{folder}/{}", self.kind.name(), self.kind.payload())
    }
}
