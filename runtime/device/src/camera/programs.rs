//! The command lines of the programs that read cameras and videos for us.

use std::path::Path;
use std::process::Command;

use super::bytes::Bytes;
use super::child::Child;
use super::error::CameraError;
use super::frame::{Color, Layout, Mode};
use super::source::Wanted;
use super::stream::{Filling, Form, Stream};
use super::y4m::Y4m;

/// Rows of a CSI camera's frames come in multiples of this many pixels.
const CSI_ALIGN: u32 = 64;

/// What ffmpeg makes of a file or stream: YUV4MPEG2 on its output.
pub(super) fn ffmpeg(
    program: &Path,
    input: &str,
    wanted: &Wanted,
    every: bool,
) -> Result<Stream, CameraError> {
    let mut command = Command::new(program);
    command.args(["-nostdin", "-hide_banner", "-loglevel", "level+warning"]);
    if input.starts_with("rtsp://") || input.starts_with("rtsps://") {
        // Without these a camera that is gone is waited for, and frames are late.
        command.args(["-rtsp_transport", "tcp", "-timeout", "4000000"]);
        command.args(["-fflags", "nobuffer", "-flags", "low_delay"]);
    } else if input.contains("://") {
        command.args(["-rw_timeout", "4000000"]);
    } else if !every {
        // A file plays as fast as it was taken.
        command.arg("-re");
    }
    if wanted.repeat {
        command.args(["-stream_loop", "-1"]);
    }
    command.args(&wanted.arguments).args(["-i", input, "-an", "-sn", "-dn"]);
    let size = match wanted.size {
        Some((width, height)) => format!("scale={}:{}", width.max(2) & !1, height.max(2) & !1),
        None => "scale=trunc(iw/2)*2:trunc(ih/2)*2".to_owned(),
    };
    let rate = wanted.fps.map(|fps| format!("fps={fps},")).unwrap_or_default();
    command.args(["-vf", &format!("{rate}{size}"), "-pix_fmt", "yuv420p"]);
    command.args(["-f", "yuv4mpegpipe", "-strict", "-1", "pipe:1"]);
    let child = Child::start(command, "install it with `sudo apt install ffmpeg`")?;
    Ok(Stream::new(Bytes::Child(child), Form::Y4m(Y4m::default()), every))
}

/// A CSI camera's frames from rpicam-vid: YUV420 without anything between.
pub(super) fn rpicam(program: &Path, camera: u32, wanted: &Wanted) -> Result<Stream, CameraError> {
    let asked = wanted.size.unwrap_or((640, 480));
    let (width, height) = (asked.0.div_ceil(CSI_ALIGN).max(1) * CSI_ALIGN, asked.1.max(2) & !1);
    let fps = wanted.fps.unwrap_or(30.0);
    let mut command = Command::new(program);
    command.args(["--nopreview", "--timeout", "0", "--codec", "yuv420", "--output", "-"]);
    command.args(["--camera", &camera.to_string(), "--framerate", &fps.to_string()]);
    command.args(["--width", &width.to_string(), "--height", &height.to_string()]);
    command.args(&wanted.arguments);
    let child = Child::start(
        command,
        "install it with `sudo apt install rpicam-apps` (on Raspberry Pi OS)",
    )?;
    let note = match (width, height) == asked {
        true => String::new(),
        false => format!("instead of {}x{}", asked.0, asked.1),
    };
    let mode = Mode { layout: Layout::I420, width, height, fps: Some(fps), note };
    // rpicam-apps takes Rec. 709 from 1280x720 on, and BT.601 below.
    let color = Color { bt709: width >= 1280 || height >= 720, full_range: false };
    Ok(Stream::new(Bytes::Child(child), Form::Raw(mode, color, Filling::default()), false))
}
