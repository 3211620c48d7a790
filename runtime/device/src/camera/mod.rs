//! Frames, from whatever gives them: V4L2 and CSI cameras, video files and streams, MJPEG over
//! HTTP, pictures, standard input, a test pattern.
//!
//! A [`Source`] says what to open; what is open is a [`Camera`], which is asked for its next frame
//! and never blocks longer than it is told. [`Feed`] runs one on a thread, opens it again when it
//! fails, and keeps the newest frame. Frames are handed on as the camera made them: conversion and
//! resizing are the engine's.

mod bytes;
mod child;
mod error;
mod feed;
mod frame;
mod http;
mod huffman;
mod jpegs;
mod pictures;
mod pool;
mod programs;
mod source;
mod status;
mod stream;
mod test_pattern;
mod v4l2;
mod y4m;

use std::time::Instant;

pub use error::CameraError;
pub use feed::Feed;
pub use frame::{Color, Frame, Layout, Mode};
pub use source::{Source, Wanted};
pub use status::{Pace, Patience, State, Status, Taken};
pub use v4l2::{Device, devices};

/// What [`Camera::next`] came back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The frame has been filled.
    Frame,
    /// The deadline passed first. What has come of a frame is kept for the next call.
    Wait,
    /// There are no more frames.
    End,
}

/// Something open that gives frames. Closed when dropped, with all it has started.
pub trait Camera: Send {
    /// Waits for the next frame, until `deadline` at the latest, and fills `frame` with it. Its
    /// memory is used again.
    ///
    /// # Errors
    /// [`CameraError`]: the camera is of no use any more and is to be opened again.
    fn next(&mut self, frame: &mut Frame, deadline: Instant) -> Result<Next, CameraError>;

    /// What was opened, where that is known before the first frame.
    fn mode(&self) -> Option<Mode> {
        None
    }
}
