//! Frames that are used again: as many as are held anywhere at once, and no allocation once warm.

use std::sync::Arc;

use super::frame::Frame;

/// More frames than this are not kept; listeners that hold more make new ones necessary.
const KEPT: usize = 8;

/// Frames, some of them in other hands.
#[derive(Debug, Default)]
pub(super) struct Pool {
    frames: Vec<Arc<Frame>>,
}

impl Pool {
    /// Takes a frame out that nobody else holds.
    pub(super) fn take(&mut self) -> Arc<Frame> {
        let free = self.frames.iter_mut().position(|frame| Arc::get_mut(frame).is_some());
        free.map_or_else(Arc::default, |index| self.frames.swap_remove(index))
    }

    /// Keeps a frame, held by others or not, for later.
    pub(super) fn keep(&mut self, frame: Arc<Frame>) {
        if self.frames.len() < KEPT {
            self.frames.push(frame);
        }
    }
}
