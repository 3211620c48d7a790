//! A camera that is a stream of bytes, in one of three forms.

use std::time::{Duration, Instant};

use super::bytes::{Bytes, Got};
use super::error::CameraError;
use super::frame::{Frame, Mode};
use super::jpegs::Jpegs;
use super::y4m::Y4m;
use super::{Camera, Next};

/// How frames lie in a stream.
#[derive(Debug)]
pub(super) enum Form {
    /// Frames of this mode and nothing between them.
    Raw(Mode, super::frame::Color, Filling),
    Y4m(Y4m),
    Jpegs(Jpegs),
    /// To be told by the first bytes: standard input.
    Either,
}

/// A frame on its way.
#[derive(Debug, Default)]
pub(super) struct Filling {
    bytes: Vec<u8>,
    filled: usize,
}

/// Such a camera.
#[derive(Debug)]
pub(super) struct Stream {
    bytes: Bytes,
    form: Form,
    /// Take the stream's own clock, from this moment on, for the time of capture.
    own_clock: Option<Instant>,
}

impl Stream {
    pub(super) fn new(bytes: Bytes, form: Form, own_clock: bool) -> Self {
        Self { bytes, form, own_clock: own_clock.then(Instant::now) }
    }

    /// Looks at what standard input begins with.
    fn tell(&mut self, deadline: Instant) -> Result<Got, CameraError> {
        let mut first = [0];
        let got = self.bytes.read(&mut first, deadline)?;
        if let Got::Bytes(_) = got {
            self.form = match first[0] {
                b'Y' => Form::Y4m(Y4m::begun(b"Y")),
                0xff => Form::Jpegs(Jpegs::begun(&[0xff])),
                _ => {
                    let why = "neither YUV4MPEG2 nor JPEG pictures; try `ffmpeg -i … -pix_fmt yuv420p \
                               -f yuv4mpegpipe -`";
                    let what = self.bytes.name().to_owned();
                    return Err(CameraError::Garbage { what, why: why.into() });
                }
            };
        }
        Ok(got)
    }
}

impl Camera for Stream {
    fn next(&mut self, frame: &mut Frame, deadline: Instant) -> Result<Next, CameraError> {
        if matches!(self.form, Form::Either) {
            match self.tell(deadline)? {
                Got::Bytes(_) => {}
                Got::Wait => return Ok(Next::Wait),
                Got::End => return Ok(Next::End),
            }
        }
        let Self { bytes, form, own_clock } = self;
        let next = match form {
            Form::Y4m(y4m) => y4m.next(bytes, frame, deadline)?,
            Form::Jpegs(jpegs) => jpegs.next(bytes, frame, deadline)?,
            Form::Raw(mode, color, filling) => {
                let next = filling.next(mode, bytes, frame, deadline)?;
                frame.color = *color;
                next
            }
            Form::Either => Next::Wait,
        };
        if next == Next::Frame {
            let seconds = match form {
                Form::Y4m(y4m) => y4m.seconds(),
                _ => None,
            };
            frame.captured = match (*own_clock, seconds) {
                (Some(begin), Some(seconds)) => begin + Duration::from_secs_f64(seconds),
                _ => Instant::now(),
            };
        }
        Ok(next)
    }

    fn mode(&self) -> Option<Mode> {
        match &self.form {
            Form::Raw(mode, ..) => Some(mode.clone()),
            Form::Y4m(y4m) => y4m.mode(),
            Form::Jpegs(_) | Form::Either => None,
        }
    }
}

impl Filling {
    fn next(
        &mut self,
        mode: &Mode,
        from: &mut Bytes,
        frame: &mut Frame,
        deadline: Instant,
    ) -> Result<Next, CameraError> {
        let Mode { layout, width, height, .. } = *mode;
        let length = layout.bytes(width, height).unwrap_or(0);
        if self.bytes.len() != length {
            self.bytes.resize(length, 0);
        }
        while self.filled < length {
            match from.read(&mut self.bytes[self.filled..], deadline)? {
                Got::Bytes(n) => self.filled += n,
                Got::Wait => return Ok(Next::Wait),
                Got::End => return Ok(Next::End),
            }
        }
        self.filled = 0;
        std::mem::swap(&mut frame.bytes, &mut self.bytes);
        (frame.layout, frame.width, frame.height) = (layout, width, height);
        Ok(Next::Frame)
    }
}
