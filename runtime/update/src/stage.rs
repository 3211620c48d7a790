//! A release comes in: verified as it comes, kept apart until it was tested, then switched to.

use std::io::Read;

use sha2::{Digest as _, Sha256};

use crate::error::UpdateError;
use crate::files::Files;
use crate::release::Release;
use crate::signature::{Key, Signature};
use crate::state::{Last, Outcome, Slot, SlotState, Standing, State, Trial, hex};
use crate::track::{CHUNK, Track};
use crate::wire::Header;

/// The folder for what comes in.
const STAGED: &str = "staged";
/// What comes in, before it is verified.
const INCOMING: &str = "incoming";

/// How a release is put in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Install {
    /// An older release than one that was confirmed is let in.
    pub allow_downgrade: bool,
    /// What its trial asks for.
    pub trial: Trial,
}

/// A release that was verified and is not used yet. While it lives, no other comes in.
#[derive(Debug)]
pub struct Staged<L> {
    /// What it is.
    pub release: Release,
    /// Hash of the file.
    pub sha256: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// The file's path within the store.
    pub path: String,
    /// It is the one that is used already.
    pub used: Option<Slot>,
    _lock: L,
}

/// What has come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installed {
    /// Where it is now.
    pub slot: Slot,
    /// It was there already, and nothing was changed.
    pub unchanged: bool,
}

impl<F: Files> Track<F> {
    /// Takes a release in: lengths, signature, file ([`Header`]). Nothing but the hash looks at the file before
    /// its last byte has come and the signature is right. `came` hears how many bytes of how many there are.
    ///
    /// # Errors
    /// Whatever is wrong with it; nothing of it is left then.
    pub fn stage(
        &self,
        key: &Key,
        from: &mut dyn Read,
        install: &Install,
        came: &mut dyn FnMut(u64, u64),
    ) -> Result<Staged<F::Lock>, UpdateError> {
        let header = Header::read(from, self.kind)?;
        let lock = self.prepare()?;
        let taken = self.take(key, from, header, came).and_then(|(release, sha256)| {
            let _lock = self.lock()?;
            let state = self.load(Some(key))?;
            check_number(&state, &release, &sha256, install)?;
            let used = self.current()?.filter(|slot| {
                let held = state.slot(*slot).filter(|held| held.state != Standing::Failed);
                held.is_some_and(|h| (h.release, &h.sha256) == (release.number, &sha256))
            });
            Ok((release, sha256, used))
        });
        if taken.is_err() {
            // What is left is removed by whoever comes next.
            let _ = self.clear();
        }
        let (release, sha256, used) = taken?;
        let (bytes, path) = (header.payload, self.payload(STAGED));
        Ok(Staged { release, sha256, bytes, path, used, _lock: lock })
    }

    /// Gives a release up that was staged.
    ///
    /// # Errors
    /// As the system says; whoever stages next removes what is left.
    pub fn discard(&self, staged: Staged<F::Lock>) -> Result<(), UpdateError> {
        let cleared = self.clear();
        drop(staged);
        cleared
    }

    /// Switches to a release that was staged: it is on trial from now on, and used when the service begins the
    /// next time.
    ///
    /// # Errors
    /// It is no longer the file that was verified, or as the system says. What was used before is used then.
    pub fn commit(
        &self,
        staged: Staged<F::Lock>,
        key: &Key,
        install: &Install,
    ) -> Result<Installed, UpdateError> {
        let _lock = self.lock()?.ok_or(UpdateError::Nothing)?;
        let mut state = self.load(Some(key))?;
        check_number(&state, &staged.release, &staged.sha256, install)?;
        if let Some(slot) = staged.used.filter(|slot| self.current().ok() == Some(Some(*slot))) {
            self.clear()?;
            return Ok(Installed { slot, unchanged: true });
        }
        let damaged = |why: String| UpdateError::Damaged { what: staged.path.clone(), why };
        let signature = self.signature(&staged.path).map_err(damaged)?;
        let mut verifier = signature.verify(key)?;
        let read = self.hash(&staged.path, staged.bytes, |chunk| verifier.update(chunk));
        let (_, hash) = read.map_err(damaged)?;
        if hash != staged.sha256 || verifier.finish()? != staged.release {
            return Err(damaged("it is no longer the file that was verified".into()));
        }
        let slot = self.make_room(&mut state, &staged.release, key)?;
        let folder = self.inside(slot.name());
        let moved = || {
            for name in [self.kind.payload().to_owned(), format!("{}.minisig", self.kind.payload())]
            {
                let from = self.inside(&format!("{STAGED}/{name}"));
                self.files.rename(&from, &format!("{folder}/{name}"))?;
            }
            self.files.sync_folder(&folder)?;
            self.files.sync_folder(&self.inside(STAGED))
        };
        moved().map_err(UpdateError::files(format!("filling {folder}")))?;
        let Release { number, name, .. } = staged.release.clone();
        *state.slot_mut(slot) = Some(SlotState {
            release: number,
            name,
            sha256: staged.sha256.clone(),
            bytes: staged.bytes,
            state: Standing::Trial,
            tries: 0,
            trial: install.trial,
        });
        state.last = Some(Last::new(Outcome::Installed, number, "verified and tested"));
        self.save(&state)?;
        self.switch(Some(slot))?;
        Ok(Installed { slot, unchanged: false })
    }

    /// A slot that may be overwritten, of which nothing is said any more. A release on trial never costs the good
    /// one behind it: it is left first.
    fn make_room(&self, state: &mut State, by: &Release, key: &Key) -> Result<Slot, UpdateError> {
        let good = |state: &State, slot: Slot| {
            state.slot(slot).is_some_and(|held| held.state == Standing::Good)
        };
        let slot = match self.current()? {
            Some(used) if !good(state, used) && good(state, used.other()) => {
                let why = format!("release {} came before its trial was over", by.number);
                self.leave(state, used, &why, Some(key))?;
                // The one behind it may turn out to be damaged: then nothing is used, and either may go.
                used
            }
            Some(used) => used.other(),
            None => Slot::ALL.into_iter().find(|slot| !good(state, *slot)).unwrap_or(Slot::A),
        };
        *state.slot_mut(slot) = None;
        self.save(state)?;
        Ok(slot)
    }

    /// The folders, the lock of whoever puts something in, and nothing left from before.
    fn prepare(&self) -> Result<F::Lock, UpdateError> {
        let lock = self.files.lock("", false).map_err(UpdateError::files("locking the store"))?;
        let lock = lock.ok_or(UpdateError::Busy)?;
        let made = || {
            self.files.make_folder(self.kind.name())?;
            for name in Slot::ALL.map(Slot::name).into_iter().chain([STAGED]) {
                self.files.make_folder(&self.inside(name))?;
            }
            self.files.sync_folder(self.kind.name())?;
            self.files.sync_folder("")
        };
        made().map_err(UpdateError::files("making the store's folders"))?;
        self.clear()?;
        Ok(lock)
    }

    fn clear(&self) -> Result<(), UpdateError> {
        let name = self.kind.payload();
        for name in [INCOMING, name, &format!("{name}.minisig")] {
            let path = self.inside(&format!("{STAGED}/{name}"));
            self.files.remove(&path).map_err(UpdateError::files(format!("removing {path}")))?;
        }
        Ok(())
    }

    /// Reads signature and file; both lie in the staging folder, under their names, when they are verified.
    fn take(
        &self,
        key: &Key,
        from: &mut dyn Read,
        header: Header,
        came: &mut dyn FnMut(u64, u64),
    ) -> Result<(Release, String), UpdateError> {
        let cut = |error: std::io::Error| UpdateError::Stream(format!("it broke off: {error}"));
        let mut text = vec![0; header.signature];
        from.read_exact(&mut text).map_err(cut)?;
        let signature = Signature::parse(&text)?;
        let mut verifier = signature.verify(key)?;

        let incoming = self.inside(&format!("{STAGED}/{INCOMING}"));
        let disk = || UpdateError::files(format!("writing {incoming}"));
        let mut file = self.files.create(&incoming).map_err(disk())?;
        self.files.reserve(&mut file, header.payload).map_err(disk())?;
        let (mut hash, mut left, mut chunk) = (Sha256::new(), header.payload, vec![0; CHUNK]);
        while left > 0 {
            let most = left.min(CHUNK as u64) as usize;
            let count = match from.read(&mut chunk[..most]) {
                Ok(0) => {
                    let had = header.payload - left;
                    let why = format!("{had} of {} bytes came", header.payload);
                    return Err(UpdateError::Stream(why));
                }
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(cut(error)),
            };
            verifier.update(&chunk[..count]);
            hash.update(&chunk[..count]);
            self.files.write(&mut file, &chunk[..count]).map_err(disk())?;
            left -= count as u64;
            came(header.payload - left, header.payload);
        }
        if from.read(&mut chunk[..1]).map_err(cut)? != 0 {
            return Err(UpdateError::Stream("more came than its header says".into()));
        }
        let release = verifier.finish()?;
        if release.kind != self.kind {
            return Err(UpdateError::Release(format!(
                "it is signed as kind '{}', not '{}'",
                release.kind.name(),
                self.kind.name()
            )));
        }
        let payload = self.payload(STAGED);
        let place = || {
            if self.kind == crate::release::Kind::App {
                self.files.make_executable(&mut file)?;
            }
            self.files.sync(&mut file)?;
            // Closed: a program that is open for writing cannot be run.
            drop(file);
            let mut file = self.files.create(&format!("{payload}.minisig"))?;
            self.files.write(&mut file, &text)?;
            self.files.sync(&mut file)?;
            self.files.rename(&incoming, &payload)?;
            self.files.sync_folder(&self.inside(STAGED))
        };
        place().map_err(UpdateError::files(format!("writing {payload}")))?;
        Ok((release, hex(&hash.finalize())))
    }
}

/// Numbers grow; the release that was confirmed last may come again.
fn check_number(
    state: &State,
    release: &Release,
    sha256: &str,
    install: &Install,
) -> Result<(), UpdateError> {
    let (number, highest) = (release.number, state.highest);
    let again = number == highest && sha256 == state.highest_sha256;
    if number > highest || again || install.allow_downgrade {
        return Ok(());
    }
    Err(UpdateError::Downgrade { number, highest })
}
