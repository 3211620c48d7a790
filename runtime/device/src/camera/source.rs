//! What to open, as a user names it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::bytes::Bytes;
use super::error::CameraError;
use super::frame::{Layout, MAX_SIDE};
use super::http::{self, Connection};
use super::jpegs::Jpegs;
use super::pictures::{Pictures, is_picture};
use super::stream::{Form, Stream};
use super::test_pattern::TestPattern;
use super::v4l2::V4l2;
use super::{Camera, programs};

/// Something that gives frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A V4L2 device.
    V4l2(PathBuf),
    /// A CSI camera by its number, through `rpicam-vid`.
    Rpicam(u32),
    /// JPEG pictures over HTTP.
    Http(String),
    /// A video file, or a stream by its URL, through `ffmpeg`.
    Ffmpeg(String),
    /// A folder of pictures, a text file that lists some, or one picture.
    Pictures(PathBuf),
    /// YUV4MPEG2 or JPEG pictures on standard input.
    Stdin,
    /// The synthetic camera.
    Test,
}

/// What is asked of a camera. What it cannot do is replaced by what is nearest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Width and height, pixels; the camera's own or 640 by 480 without.
    pub size: Option<(u32, u32)>,
    /// Frames a second, over 0.
    pub fps: Option<f64>,
    /// How frames lie in memory ([`Layout::File`]: MJPEG); for V4L2 and the test pattern.
    pub layout: Option<Layout>,
    /// Begin again at the end of a video or a folder.
    pub repeat: bool,
    /// More arguments for `rpicam-vid`, or for `ffmpeg` before its input.
    pub arguments: Vec<String>,
    /// The program to start in place of `rpicam-vid` or `ffmpeg`.
    pub program: Option<PathBuf>,
}

impl Source {
    /// Understands what a user wrote: `/dev/video0`, `rpicam` or `rpicam:1`, `http://…`,
    /// `rtsp://…` and other URLs, a folder, a picture, a `.txt` list of pictures, a video file, `-`
    /// or `test`. `ffmpeg:` before a file or URL has ffmpeg read it.
    ///
    /// # Errors
    /// [`CameraError::Source`] when it is none of these.
    pub fn parse(text: &str) -> Result<Self, CameraError> {
        let bad = |why: &str| CameraError::Source { text: text.to_owned(), why: why.to_owned() };
        if let Some(input) = text.strip_prefix("ffmpeg:") {
            return Ok(Self::Ffmpeg(input.to_owned()));
        }
        if let Some(number) = text.strip_prefix("rpicam:") {
            return number.parse().map(Self::Rpicam).map_err(|_| bad("rpicam: wants a number"));
        }
        match text {
            "-" => return Ok(Self::Stdin),
            "test" => return Ok(Self::Test),
            "rpicam" => return Ok(Self::Rpicam(0)),
            "" => return Err(bad("name a device, a file, a URL, rpicam, test or -")),
            _ => {}
        }
        if text.starts_with("http://") {
            return match http::is_url(text) {
                true => Ok(Self::Http(text.to_owned())),
                false => Err(bad("this is no URL that can be asked")),
            };
        }
        if text.contains("://") {
            return Ok(Self::Ffmpeg(text.to_owned()));
        }
        let path = PathBuf::from(text);
        if path.starts_with("/dev") {
            // It may be plugged in later.
            return Ok(Self::V4l2(path));
        }
        let is_list = path.extension().is_some_and(|e| e == "txt");
        if path.is_dir() || (path.is_file() && (is_picture(&path) || is_list)) {
            Ok(Self::Pictures(path))
        } else if path.is_file() {
            // ffmpeg takes what begins with a letter and a colon for a protocol.
            Ok(Self::Ffmpeg(format!("file:{text}")))
        } else {
            Err(bad(
                "no such file; a camera is /dev/video0, rpicam, a URL, a file, a folder, - or test",
            ))
        }
    }

    /// Whether it goes on for ever: then its end is a failure, and it is opened again.
    #[must_use]
    pub fn is_live(&self) -> bool {
        match self {
            Self::V4l2(_) | Self::Rpicam(_) | Self::Http(_) | Self::Test => true,
            Self::Ffmpeg(input) => input.contains("://") || input.starts_with("/dev"),
            Self::Pictures(_) | Self::Stdin => false,
        }
    }

    /// Opens it. `every`: no frame will be dropped, so a recording need not play at its own speed.
    ///
    /// # Errors
    /// [`CameraError`]: why it cannot be opened now.
    pub fn open(&self, wanted: &Wanted, every: bool) -> Result<Box<dyn Camera>, CameraError> {
        let program = |usual: &str| wanted.program.clone().unwrap_or_else(|| PathBuf::from(usual));
        Ok(match self {
            Self::V4l2(path) => Box::new(V4l2::open(path, wanted)?),
            Self::Rpicam(number) => {
                // Its name until 2024.
                let opened = programs::rpicam(&program("rpicam-vid"), *number, wanted);
                match opened {
                    Err(error @ CameraError::Missing { .. }) if wanted.program.is_none() => {
                        let old = programs::rpicam(Path::new("libcamera-vid"), *number, wanted);
                        Box::new(old.map_err(|_| error)?)
                    }
                    other => Box::new(other?),
                }
            }
            Self::Ffmpeg(input) => {
                Box::new(programs::ffmpeg(&program("ffmpeg"), input, wanted, every)?)
            }
            Self::Http(url) => {
                let bytes = Bytes::Http(Connection::open(url)?);
                Box::new(Stream::new(bytes, Form::Jpegs(Jpegs::default()), false))
            }
            Self::Pictures(path) => Box::new(Pictures::open(path, wanted.fps)?),
            Self::Stdin => {
                let file = std::os::fd::AsFd::as_fd(&std::io::stdin())
                    .try_clone_to_owned()
                    .map_err(CameraError::system("opening standard input"))?;
                Box::new(Stream::new(Bytes::Stdin(file.into()), Form::Either, every))
            }
            Self::Test => Box::new(TestPattern::new(wanted)),
        })
    }
}

impl Wanted {
    /// Checks the ranges of what is asked for.
    ///
    /// # Errors
    /// What is out of range.
    pub fn check(&self) -> Result<(), String> {
        if let Some((width, height)) = self.size
            && !((16..=MAX_SIDE).contains(&width) && (16..=MAX_SIDE).contains(&height))
        {
            return Err(format!("size {width}x{height}: each side is 16 to {MAX_SIDE}"));
        }
        match self.fps {
            Some(fps) if !(0.01..=1000.0).contains(&fps) => {
                Err(format!("fps {fps}: 0.01 to 1000 frames a second"))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4l2(path) | Self::Pictures(path) => write!(f, "{}", path.display()),
            Self::Rpicam(number) => write!(f, "rpicam:{number}"),
            Self::Http(url) | Self::Ffmpeg(url) => f.write_str(&without_password(url)),
            Self::Stdin => f.write_str("standard input"),
            Self::Test => f.write_str("the test pattern"),
        }
    }
}

/// A URL as it may stand in a log.
pub(super) fn without_password(url: &str) -> String {
    let shown = url.strip_prefix("file:").unwrap_or(url);
    let Some((scheme, rest)) = shown.split_once("://") else { return shown.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://…{}", &rest[at..]),
        None => shown.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_write_is_understood() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, "").unwrap();
            path.to_str().unwrap().to_owned()
        };
        let parse = |text: &str| Source::parse(text).unwrap();
        assert_eq!(parse("/dev/video2"), Source::V4l2("/dev/video2".into()));
        assert_eq!(parse("rpicam"), Source::Rpicam(0));
        assert_eq!(parse("rpicam:1"), Source::Rpicam(1));
        assert!(matches!(parse("http://cam/stream"), Source::Http(_)));
        assert!(matches!(parse("rtsp://cam/1"), Source::Ffmpeg(_)));
        assert!(matches!(parse(&file("a.JPG")), Source::Pictures(_)));
        assert!(matches!(parse(&file("list.txt")), Source::Pictures(_)));
        assert!(matches!(parse(folder.path().to_str().unwrap()), Source::Pictures(_)));
        let video = parse(&file("a:b.mp4"));
        assert!(!video.is_live());
        assert!(matches!(video, Source::Ffmpeg(text) if text.starts_with("file:/")));
        for bad in ["", "nothing.mp4", "rpicam:x", "http://", "tset"] {
            let error = Source::parse(bad).unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let shown = Source::parse("rtsp://me:secret@cam:554/live").unwrap().to_string();
        assert_eq!(shown, "rtsp://…@cam:554/live");
    }
}
