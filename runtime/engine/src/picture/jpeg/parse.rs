//! The headers: what the decoder needs, or that the file is none for it.

use image::metadata::Orientation;

use super::Other;
use super::huffman::Tables;

/// A component of the picture.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Component {
    id: u8,
    /// Blocks of it in an MCU, across and down.
    pub(super) across: usize,
    pub(super) down: usize,
    /// Which quantization table, and which Huffman tables.
    pub(super) quantization: usize,
    pub(super) dc: usize,
    pub(super) ac: usize,
}

/// What the headers say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Blocks of luma in an MCU, across and down; those of chroma are one by one.
    pub(super) across: usize,
    pub(super) down: usize,
    /// 1 or 3.
    pub(super) count: usize,
    components: [Component; 3],
    /// MCUs from one restart marker to the next, or 0.
    pub(super) restart: usize,
    /// Where the entropy-coded data begins.
    pub(super) data: usize,
    /// What the EXIF data say, if there are any that say something.
    pub(super) orientation: Option<Orientation>,
}

impl Frame {
    pub(super) fn components(&self) -> &[Component] {
        &self.components[..self.count]
    }
}

/// Reads the segments up to the first scan.
pub(super) fn parse(bytes: &[u8], tables: &mut Tables) -> Result<Frame, Other> {
    let mut frame = Frame::default();
    tables.forget();
    let mut seen = Seen::default();
    let mut at = 2;
    loop {
        // No stray bytes here; fill bytes are.
        while bytes.get(at..at + 2).ok_or(Other)? == [0xff, 0xff] {
            at += 1;
        }
        let [0xff, marker, high, low] =
            *bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Other)?
        else {
            return Err(Other);
        };
        let length = usize::from(u16::from_be_bytes([high, low])).checked_sub(2).ok_or(Other)?;
        let segment = bytes.get(at + 4..at + 4 + length).ok_or(Other)?;
        at += 4 + length;
        match marker {
            0xc0 | 0xc1 if frame.count == 0 => start_of_frame(segment, &mut frame)?,
            0xc4 => tables.huffman(segment)?,
            0xdb => tables.quantization(segment)?,
            0xdd => frame.restart = u16::from_be_bytes(*exact(segment)?).into(),
            0xe0 => seen.jfif |= segment.starts_with(b"JFIF\0"),
            0xe1 if segment.starts_with(b"Exif\0\0") => {
                // Which of two would count is for the general decoder to say.
                if seen.exif {
                    return Err(Other);
                }
                seen.exif = true;
                frame.orientation = Orientation::from_exif_chunk(&segment[6..]);
            }
            0xee if segment.starts_with(b"Adobe") => {
                seen.adobe = Some(*segment.get(11).ok_or(Other)?);
            }
            0xe1..=0xef | 0xfe => {}
            0xda => {
                start_of_scan(segment, &mut frame)?;
                seen.check_colors(&frame)?;
                frame.data = at;
                return if tables.complete(frame.components()) { Ok(frame) } else { Err(Other) };
            }
            _ => return Err(Other),
        }
    }
}

/// The application segments that were seen.
#[derive(Default)]
struct Seen {
    exif: bool,
    jfif: bool,
    /// The transform in Adobe's segment.
    adobe: Option<u8>,
}

impl Seen {
    /// Only YCbCr and grey, and only where there is no doubt.
    fn check_colors(&self, frame: &Frame) -> Result<(), Other> {
        let ids = frame.components.map(|component| component.id);
        let known = match self.adobe {
            Some(transform) => transform == 1 && (self.jfif || ids == [1, 2, 3]),
            None => self.jfif || ids == [1, 2, 3],
        };
        if known || (frame.count == 1 && self.adobe.is_none()) { Ok(()) } else { Err(Other) }
    }
}

fn exact<const N: usize>(segment: &[u8]) -> Result<&[u8; N], Other> {
    segment.try_into().map_err(|_| Other)
}

fn start_of_frame(segment: &[u8], frame: &mut Frame) -> Result<(), Other> {
    let [8, h0, h1, w0, w1, count @ (1 | 3), components @ ..] = segment else { return Err(Other) };
    let (components, rest) = components.as_chunks::<3>();
    if components.len() != usize::from(*count) || !rest.is_empty() {
        return Err(Other);
    }
    frame.height = u16::from_be_bytes([*h0, *h1]).into();
    frame.width = u16::from_be_bytes([*w0, *w1]).into();
    frame.count = components.len();
    for (to, &[id, sampling, quantization]) in frame.components.iter_mut().zip(components) {
        let (across, down) = (usize::from(sampling >> 4), usize::from(sampling & 15));
        let quantization = usize::from(quantization);
        *to = Component { id, across, down, quantization, dc: 0, ac: 0 };
    }
    if frame.count == 1 {
        // A scan of one component is not interleaved: its MCU is a block.
        (frame.components[0].across, frame.components[0].down) = (1, 1);
    }
    let [luma, chroma @ ..] = &frame.components;
    (frame.across, frame.down) = (luma.across, luma.down);
    let small = frame.count == 1 || chroma.iter().all(|c| (c.across, c.down) == (1, 1));
    let sampling = matches!((frame.across, frame.down), (1, 1) | (2, 1) | (2, 2));
    let sized = frame.width > 0 && frame.height > 0;
    if small && sampling && sized { Ok(()) } else { Err(Other) }
}

/// One scan of all components from the first coefficient to the last.
fn start_of_scan(segment: &[u8], frame: &mut Frame) -> Result<(), Other> {
    let [count, components @ .., 0, 63, 0] = segment else { return Err(Other) };
    let (components, rest) = components.as_chunks::<2>();
    let counted = components.len() == usize::from(*count) && components.len() == frame.count;
    if !counted || !rest.is_empty() || frame.count == 0 {
        return Err(Other);
    }
    for (to, &[id, tables]) in frame.components.iter_mut().zip(components) {
        if to.id != id {
            return Err(Other);
        }
        (to.dc, to.ac) = (usize::from(tables >> 4), usize::from(tables & 15));
    }
    Ok(())
}
