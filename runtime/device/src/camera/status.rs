//! How a feed is to behave, and how it is doing.

use std::sync::Arc;
use std::time::Duration;

use super::error::CameraError;
use super::frame::Frame;

/// Which frames are handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// The newest: what is not taken in time is dropped.
    #[default]
    Newest,
    /// Every frame: the camera waits. For recordings.
    Every,
}

/// How long is waited for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From one frame to the next; then the camera has stalled.
    pub stall: Duration,
    /// From opening to the first frame.
    pub start: Duration,
    /// To a recording's first and next frame: it is not late for anything, and a busy machine may leave its
    /// player alone for long.
    pub recording: Duration,
    /// Before it is opened again the first time, and at most; it doubles each time.
    pub first_pause: Duration,
    /// See [`Self::first_pause`].
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(2),
            start: Duration::from_secs(5),
            recording: Duration::from_secs(30),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(2),
        }
    }
}

/// What a camera is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is being opened, or has not sent anything yet.
    #[default]
    Opening,
    /// Frames come.
    Running,
    /// It has failed and will be opened again.
    Lost,
    /// A recording is over.
    Ended,
}

/// How a camera is doing.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// What it delivers, in words.
    pub mode: Option<String>,
    /// Frames that have come.
    pub frames: u64,
    /// Frames that nobody took before the next one came.
    pub dropped: u64,
    /// How often it was lost.
    pub lost: u64,
    /// Why, the last time.
    pub last_error: Option<String>,
}

/// What [`super::Feed::take`] came back with.
#[derive(Debug)]
pub enum Taken {
    /// A frame that has not been taken before.
    Frame(Arc<Frame>),
    /// The camera was lost since the last call; what was seen no longer holds.
    Lost,
    /// The deadline passed.
    Wait,
    /// A recording is over, or could not be read.
    End(Result<(), Arc<CameraError>>),
}
