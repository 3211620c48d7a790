//! The state of a track: read, written whole, and built anew where it was damaged.

use crate::error::UpdateError;
use crate::files::Files;
use crate::release::Release;
use crate::signature::Key;
use crate::state::{MAX_STATE_BYTES, Slot, SlotState, Standing, State, Trial};
use crate::track::Track;

impl<F: Files> Track<F> {
    /// Reads the state; builds it anew where it is damaged and there is a key.
    pub(crate) fn load(&self, key: Option<&Key>) -> Result<State, UpdateError> {
        let path = self.inside("state.toml");
        let read = self.small(&path, MAX_STATE_BYTES).and_then(|bytes| {
            let Some(bytes) = bytes else {
                return match self.current().ok().flatten() {
                    Some(_) => Err("it is missing".into()),
                    None => Ok(State::default()),
                };
            };
            State::parse(std::str::from_utf8(&bytes).map_err(|_| "it is no text")?)
        });
        match (read, key) {
            (Ok(state), _) => Ok(state),
            (Err(_), Some(key)) => self.rebuild(key),
            (Err(why), None) => Err(UpdateError::Damaged { what: path, why }),
        }
    }

    /// What the slots hold, by their signatures. The one that is used is tried anew; an older one in the other
    /// slot is what it falls back to.
    fn rebuild(&self, key: &Key) -> Result<State, UpdateError> {
        let current = self.current()?;
        let mut state = State::default();
        for slot in Slot::ALL {
            *state.slot_mut(slot) = self.signed(slot, key).ok();
        }
        let number = |slot: Slot| state.slot(slot).map_or(0, |held| held.release);
        let highest = Slot::ALL.into_iter().max_by_key(|slot| number(*slot)).unwrap_or(Slot::A);
        let used = current.map_or(0, number);
        if let Some(held) = state.slot(highest).cloned() {
            (state.highest, state.highest_sha256) = (held.release, held.sha256);
        }
        for slot in Slot::ALL {
            let Some(held) = state.slot_mut(slot) else { continue };
            held.state = match current {
                Some(current) if current == slot => Standing::Trial,
                Some(_) if held.release <= used => Standing::Good,
                _ => Standing::Failed,
            };
        }
        self.save(&state)?;
        Ok(state)
    }

    /// What a slot holds, by its signature alone.
    fn signed(&self, slot: Slot, key: &Key) -> Result<SlotState, String> {
        let path = self.payload(slot.name());
        let signature = self.signature(&path)?;
        let mut verifier = signature.verify(key).map_err(|error| error.to_string())?;
        let there = self.files.open(&path).map_err(|error| error.to_string())?;
        let (_, bytes) = there.ok_or("missing")?;
        let (_, sha256) = self.hash(&path, bytes, |chunk| verifier.update(chunk))?;
        let Release { kind, number, name } = verifier.finish().map_err(|e| e.to_string())?;
        if kind != self.kind {
            return Err("of another kind".into());
        }
        let (state, tries, trial) = (Standing::Trial, 0, Trial::default());
        Ok(SlotState { release: number, name, sha256, bytes, state, tries, trial })
    }

    /// Writes the state; it lasts when this returns.
    pub(crate) fn save(&self, state: &State) -> Result<(), UpdateError> {
        let path = self.inside("state.toml");
        let text = state.text().map_err(std::io::Error::other);
        let written = text.and_then(|text| self.write_whole(&path, text.as_bytes()));
        written.map_err(UpdateError::files(format!("writing {path}")))
    }

    /// Writes a file as a whole: beside it first, then in its place.
    fn write_whole(&self, path: &str, bytes: &[u8]) -> std::io::Result<()> {
        let new = format!("{path}.new");
        self.files.remove(&new)?;
        let mut file = self.files.create(&new)?;
        self.files.write(&mut file, bytes)?;
        self.files.sync(&mut file)?;
        self.files.rename(&new, path)?;
        self.files.sync_folder(self.kind.name())
    }
}
