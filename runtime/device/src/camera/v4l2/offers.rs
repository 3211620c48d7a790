//! What V4L2 devices say that they can do.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::super::error::CameraError;
use super::super::frame::Layout;
use super::negotiate::{Offer, Sizes};
use super::{open, sys};

/// The kernel's names of formats.
const FORMATS: [([u8; 4], Layout); 7] = [
    (*b"YUYV", Layout::Yuyv),
    (*b"MJPG", Layout::File),
    (*b"JPEG", Layout::File),
    (*b"NV12", Layout::Nv12),
    (*b"YU12", Layout::I420),
    (*b"RGB3", Layout::Rgb),
    (*b"GREY", Layout::Grey),
];
/// No camera offers more formats, sizes or intervals; a broken driver may seem to.
pub(super) const MOST: u32 = 64;

pub(super) fn layout_of(pixel_format: [u8; 4]) -> Option<Layout> {
    FORMATS.iter().find(|(name, _)| *name == pixel_format).map(|(_, layout)| *layout)
}

/// All formats of a device, as the kernel names them.
pub(super) fn formats(device: &File) -> impl Iterator<Item = [u8; 4]> {
    (0..MOST).map_while(move |index| Some(sys::format(device, index).ok()?.pixel_format))
}

/// The device's own name of a layout; JPEG has two.
pub(super) fn offered(device: &File, layout: Layout) -> [u8; 4] {
    let found = formats(device).find(|format| layout_of(*format) == Some(layout));
    found.unwrap_or(*b"YUYV")
}

pub(super) fn four(name: [u8; 4]) -> String {
    String::from_utf8_lossy(&name).trim().to_owned()
}

pub(super) fn nothing_usable(device: &File) -> String {
    let names: Vec<_> = formats(device).map(four).collect();
    if names.is_empty() {
        return "it offers no format at all; is it a camera?".into();
    }
    format!(
        "it offers only {}, none of YUYV, MJPG, NV12, YU12, RGB3, GREY; a CSI camera is named rpicam",
        names.join(", ")
    )
}

/// What a device offers of what can be used here.
pub(super) fn offers(device: &File, path: &Path) -> Result<Vec<Offer>, CameraError> {
    let bad =
        |why: &str| CameraError::Source { text: path.display().to_string(), why: why.to_owned() };
    let capability = sys::capability(device).map_err(|_| bad("this is no V4L2 device"))?;
    let caps = match capability.capabilities & sys::CAP_DEVICE_CAPS {
        0 => capability.capabilities,
        _ => capability.device_caps,
    };
    if caps & sys::CAP_VIDEO_CAPTURE == 0 {
        return Err(bad("it gives no pictures (many cameras have a second device for data)"));
    }
    if caps & sys::CAP_STREAMING == 0 {
        return Err(bad("its driver cannot stream"));
    }
    let usable = formats(device).filter_map(|format| Some((format, layout_of(format)?)));
    Ok(usable.map(|(format, layout)| offer(device, format, layout)).collect())
}

pub(super) fn offer(device: &File, format: [u8; 4], layout: Layout) -> Offer {
    let mut listed = Vec::new();
    for index in 0..MOST {
        let Ok(size) = sys::frame_size(device, format, index) else { break };
        let [a, b, c, d, e, f] = size.sizes;
        if size.kind != sys::DISCRETE {
            let sizes = Sizes::Range { width: [a, b, c], height: [d, e, f] };
            return Offer { layout, sizes, fps: Vec::new() };
        }
        listed.push((a, b));
    }
    if listed.is_empty() {
        // Older drivers do not list sizes; the one that is set is offered at least.
        let current = sys::current_format(device).map(|set| (set.width, set.height));
        listed.extend(current.ok());
    }
    let fps = |size| {
        let rates = (0..MOST).map_while(|index| {
            let interval = sys::frame_interval(device, format, size, index).ok()?;
            let [numerator, denominator, ..] = interval.intervals;
            Some(f64::from(denominator) / f64::from(numerator.max(1)))
        });
        rates.reduce(f64::max)
    };
    let fps = listed.iter().filter_map(|&size| Some((size, fps(size)?))).collect();
    Offer { layout, sizes: Sizes::Listed(listed), fps }
}

/// A device under `/dev` and what it is, for `kinglet doctor`.
#[derive(Debug)]
pub struct Device {
    /// Its path.
    pub path: PathBuf,
    /// Its name and its modes in words, or why it cannot be used.
    pub what: Result<String, CameraError>,
}

/// All V4L2 devices of this machine, in the order of their numbers.
#[must_use]
pub fn devices() -> Vec<Device> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let number = |path: &Path| -> Option<u32> {
        path.file_name()?.to_str()?.strip_prefix("video")?.parse().ok()
    };
    let mut paths: Vec<_> = entries.filter_map(|e| Some((number(&e.path())?, e.path()))).collect();
    paths.sort();
    let describe = |path: &Path| -> Result<String, CameraError> {
        let device = open(path)?;
        let offers = offers(&device, path)?;
        if offers.is_empty() {
            let (text, why) = (path.display().to_string(), nothing_usable(&device));
            return Err(CameraError::Source { text, why });
        }
        let card = sys::capability(&device).map(|c| c.card).unwrap_or_default();
        let end = card.iter().position(|b| *b == 0).unwrap_or(card.len());
        let mut text = String::from_utf8_lossy(&card[..end]).into_owned();
        for offer in &offers {
            text.push_str(&format!("; {}", offer.layout));
            match &offer.sizes {
                Sizes::Listed(sizes) => {
                    for (width, height) in sizes {
                        text.push_str(&format!(" {width}x{height}"));
                        let rate = offer.fps.iter().find(|(size, _)| size == &(*width, *height));
                        if let Some((_, fps)) = rate {
                            text.push_str(&format!("@{fps:.0}"));
                        }
                    }
                }
                Sizes::Range { width, height } => text.push_str(&format!(
                    " {}x{} to {}x{}",
                    width[0], height[0], width[1], height[1]
                )),
            }
        }
        Ok(text)
    };
    paths.into_iter().map(|(_, path)| Device { what: describe(&path), path }).collect()
}
