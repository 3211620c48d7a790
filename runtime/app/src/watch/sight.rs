//! Which camera, and which of its frames are looked at.

use kinglet_device::camera::{Feed, Pace, Patience, Source, Wanted};

use super::config::Config;
use crate::exit::Usage;

/// What a configuration says about the camera, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sight {
    source: Source,
    wanted: Wanted,
    pace: Pace,
}

impl Sight {
    pub(super) fn new(config: &Config) -> Result<Self, Usage> {
        let source = config.camera.source.as_deref().ok_or_else(|| {
            let known = "--camera /dev/video0, rpicam, a URL, a file, a folder, - or test";
            Usage(format!("no camera; {known}"))
        })?;
        let source = Source::parse(source).map_err(|e| Usage(e.to_string()))?;
        let every = config.camera.every_frame || matches!(source, Source::Pictures(_));
        let pace = if every { Pace::Every } else { Pace::Newest };
        Ok(Self { source, wanted: config.camera.wanted()?, pace })
    }

    /// Starts the camera.
    pub(super) fn open(&self) -> Feed {
        Feed::start(self.source.clone(), self.wanted.clone(), self.pace, Patience::default())
    }

    /// Puts this camera in the place of another.
    pub(super) fn change(&self, feed: &Feed) {
        feed.change(self.source.clone(), self.wanted.clone(), self.pace, Patience::default());
    }

    /// Pictures that have nothing to do with each other.
    pub(super) fn pictures(&self) -> bool {
        matches!(self.source, Source::Pictures(_))
    }

    /// Every frame is looked at, and every decision written: the camera waits.
    pub(super) fn every(&self) -> bool {
        self.pace == Pace::Every
    }

    /// A recording of which nothing may be lost: its last lines may take their time.
    pub(super) fn whole_recording(&self) -> bool {
        self.every() && !self.source.is_live()
    }
}
