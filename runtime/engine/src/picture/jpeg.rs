//! A decoder for what cameras write: baseline JPEG with one interleaved scan, grey or YCbCr, chroma
//! at full size, at half width, or at half width and height. It decodes as little as it is asked
//! for.
//!
//! Samples are those of libjpeg (and so of Pillow) bit for bit. Whatever else a file holds, or
//! whatever is wrong with it, is [`Other`]'s affair: the caller then asks the general decoder, which
//! decodes it or says why not. What lies outside the wanted part is passed over without being
//! transformed, and what comes after it is not read.
//!
//! Source: ITU-T T.81 (the format), T.871 (JFIF: the colours); libjpeg's rules where these leave
//! freedom (inverse transform, upsampling, where the last row and column are repeated).

mod huffman;
mod parse;

use image::metadata::Orientation;
use kinglet_kernels::Isa;
use kinglet_kernels::jpeg::{Block, Jpeg, Spread};
use kinglet_kernels::yuv::{Coefficients, YuvToRgb};

use super::error::Format;
use super::header::Header;
use crate::frame::YuvMatrix;
use huffman::{Bits, Tables};
use parse::Frame;

/// The file is none that this decoder takes, or is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Other;

/// A part of a picture, pixels; not empty, within the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) left: u32,
    pub(crate) top: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// A decoder with its buffers, to be used again.
#[derive(Debug)]
pub(crate) struct JpegDecoder {
    steps: Jpeg,
    color: YuvToRgb,
    tables: Tables,
    frame: Frame,
    planes: [Plane; 3],
    /// A row of sums or samples with a neighbour at each end, and what it spreads to.
    sums: Vec<u16>,
    spread: [Vec<u8>; 2],
}

/// A band of a component's samples: those of a row of MCUs, and the last rows before it.
#[derive(Debug, Default)]
struct Plane {
    samples: Vec<u8>,
    stride: usize,
    /// Row of the component that is the first in `samples`.
    top: usize,
    /// Rows in `samples`.
    rows: usize,
    /// Column of the component that is the first in `samples`.
    left: usize,
}

/// Rows kept from the row of MCUs before: what upsampling looks back to.
const KEPT: usize = 2;

impl Plane {
    /// A row of the component, from a column on.
    fn row(&self, y: usize, x: usize) -> &[u8] {
        &self.samples[(y - self.top) * self.stride + x - self.left..]
    }

    /// Makes room for the next `rows` rows.
    fn advance(&mut self, rows: usize) {
        let kept = self.rows.min(KEPT);
        let from = (self.rows - kept) * self.stride;
        self.samples.copy_within(from..self.rows * self.stride, 0);
        self.top += self.rows - kept;
        self.rows = kept + rows;
    }
}

impl JpegDecoder {
    pub(crate) fn new(isa: Isa) -> Result<Self, kinglet_kernels::KernelError> {
        // libjpeg takes 0.34414 for U's share of green, which rounds the other way.
        let coefficients = Coefficients { green_u: -22554, ..YuvMatrix::Bt601Full.coefficients() };
        Ok(Self {
            steps: Jpeg::new(isa)?,
            color: YuvToRgb::new(isa, coefficients)?,
            tables: Tables::default(),
            frame: Frame::default(),
            planes: Default::default(),
            sums: Vec::new(),
            spread: Default::default(),
        })
    }

    /// Reads the headers of a file whose structure [`super::header::check`] has accepted; gives
    /// what is to be done with the decoded picture.
    pub(crate) fn start(&mut self, bytes: &[u8], header: &Header) -> Result<Orientation, Other> {
        if header.format != Format::Jpeg || header.scans != 1 {
            return Err(Other);
        }
        self.frame = parse::parse(bytes, &mut self.tables)?;
        let size = (self.frame.width as u32, self.frame.height as u32);
        if size != (header.width, header.height) {
            return Err(Other);
        }
        Ok(self.frame.orientation.unwrap_or(Orientation::NoTransforms))
    }

    /// Decodes a part of the file that was started last into rows of RGB without padding.
    pub(crate) fn decode(
        &mut self,
        bytes: &[u8],
        part: Part,
        rgb: &mut Vec<u8>,
    ) -> Result<(), Other> {
        let frame = self.frame;
        let mcu = [frame.across * 8, frame.down * 8];
        let [left, top, width, height] =
            [part.left, part.top, part.width, part.height].map(|side| side as usize);
        // Upsampling looks at the neighbours of a pixel that share the next sample of chroma.
        let needed = |first: usize, count: usize, side: usize, mcu: usize| {
            (first.saturating_sub(2) / mcu, (first + count + 1).min(side - 1) / mcu + 1)
        };
        let columns = needed(left, width, frame.width, mcu[0]);
        let rows = needed(top, height, frame.height, mcu[1]);
        let components = frame.components();
        for (plane, component) in self.planes.iter_mut().zip(components) {
            plane.stride = (columns.1 - columns.0) * component.across * 8;
            plane.left = columns.0 * component.across * 8;
            plane.top = rows.0 * component.down * 8;
            plane.rows = 0;
            let length = plane.stride * (component.down * 8 + KEPT);
            plane.samples.resize(length, 0);
        }
        rgb.resize(width * height * 3, 0);
        let mut bits = Bits::new(&bytes[frame.data..]);
        let mut scan = Scan { predictions: [0; 3], left: frame.restart, number: 0 };
        let (whole, mut next) = (frame.width.div_ceil(mcu[0]), 0);
        for row in 0..rows.1 {
            let wanted = if row >= rows.0 { columns } else { (0, 0) };
            if row >= rows.0 {
                for (plane, component) in self.planes.iter_mut().zip(self.frame.components()) {
                    plane.advance(component.down * 8);
                }
            }
            for column in 0..whole {
                if self.frame.restart > 0 {
                    scan.before_mcu(&mut bits, self.frame.restart)?;
                }
                if (wanted.0..wanted.1).contains(&column) {
                    self.mcu(&mut bits, &mut scan, column - wanted.0)?;
                } else {
                    self.pass_over(&mut bits, &mut scan)?;
                }
            }
            if bits.overrun() {
                return Err(Other);
            }
            while next < height && self.available(top + next, row + 1) {
                let to = &mut rgb[next * width * 3..(next + 1) * width * 3];
                self.row(top + next, left, to);
                next += 1;
            }
        }
        if next == height { Ok(()) } else { Err(Other) }
    }

    /// Decodes the blocks of one MCU, column `column` of those that are wanted.
    fn mcu(&mut self, bits: &mut Bits<'_>, scan: &mut Scan, column: usize) -> Result<(), Other> {
        for (i, component) in self.frame.components().iter().enumerate() {
            let plane = &mut self.planes[i];
            let top = plane.rows - component.down * 8;
            for y in 0..component.down {
                for x in 0..component.across {
                    let mut block: Block = [0; 64];
                    let only_dc =
                        self.tables.block(bits, component, &mut scan.predictions[i], &mut block)?;
                    let at = (column * component.across + x) * 8;
                    let to = &mut plane.samples[(top + y * 8) * plane.stride + at..];
                    if only_dc {
                        let value = ((i32::from(block[0]) + 4) >> 3) + 128;
                        let value = value.clamp(0, 255) as u8;
                        to.chunks_mut(plane.stride).take(8).for_each(|row| row[..8].fill(value));
                    } else {
                        self.steps.inverse(&block, to, plane.stride);
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the blocks of one MCU and keeps nothing but its share in the next one's.
    fn pass_over(&self, bits: &mut Bits<'_>, scan: &mut Scan) -> Result<(), Other> {
        for (component, prediction) in self.frame.components().iter().zip(&mut scan.predictions) {
            for _ in 0..component.across * component.down {
                self.tables.pass_over(bits, component, prediction)?;
            }
        }
        Ok(())
    }

    /// Whether `rows` rows of MCUs suffice for row `y` of the picture.
    fn available(&self, y: usize, rows: usize) -> bool {
        let lowest = match self.frame.down {
            1 => y,
            _ => (y + 1).min(self.frame.height - 1),
        };
        lowest < rows * self.frame.down * 8
    }

    /// One row of the picture, from column `left` on, as RGB.
    fn row(&mut self, y: usize, left: usize, rgb: &mut [u8]) {
        let width = rgb.len() / 3;
        let [luma, chroma @ ..] = &self.planes;
        let luma = &luma.row(y, left)[..width];
        if self.frame.count == 1 {
            for (to, &sample) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(luma) {
                *to = [sample; 3];
            }
            return;
        }
        if self.frame.across == 1 {
            let [u, v] = [0, 1].map(|i| &chroma[i].row(y, left)[..width]);
            return self.color.row(luma, u, v, rgb);
        }
        let side = [self.frame.width.div_ceil(2), self.frame.height.div_ceil(2)];
        let (first, last) = (left / 2, (left + width - 1) / 2);
        for (plane, to) in chroma.iter().zip(&mut self.spread) {
            if side[0] <= 2 {
                // So little chroma is repeated and not interpolated.
                let row = plane.row(y / self.frame.down, first);
                to.clear();
                to.extend(row[..=last - first].iter().flat_map(|sample| [*sample; 2]));
                continue;
            }
            self.sums.resize(last - first + 3, 0);
            to.resize((last - first + 1) * 2, 0);
            // The columns that are there; at the picture's sides one repeats.
            let (from, until) = (first.max(1) - 1, (last + 1).min(side[0] - 1));
            let inner = from + 1 - first..until + 2 - first;
            let how = if self.frame.down == 2 {
                let near = y / 2;
                let far =
                    if y.is_multiple_of(2) { near.max(1) - 1 } else { (near + 1).min(side[1] - 1) };
                let [near, far] = [near, far].map(|y| &plane.row(y, from)[..until - from + 1]);
                self.steps.sums(near, far, &mut self.sums[inner]);
                Spread::SUMS
            } else {
                let row = &plane.row(y, from)[..until - from + 1];
                for (to, &sample) in self.sums[inner].iter_mut().zip(row) {
                    *to = sample.into();
                }
                Spread::SAMPLES
            };
            if first == 0 {
                self.sums[0] = self.sums[1];
            }
            let end = self.sums.len() - 1;
            if last + 1 == side[0] {
                self.sums[end] = self.sums[end - 1];
            }
            self.steps.spread(how, &self.sums, to);
        }
        let [u, v] = [0, 1].map(|i| &self.spread[i][left % 2..][..width]);
        self.color.row(luma, u, v, rgb);
    }
}

/// What carries over from one MCU to the next.
struct Scan {
    predictions: [i32; 3],
    /// MCUs until the next restart marker.
    left: usize,
    /// The next restart marker's number.
    number: u8,
}

impl Scan {
    /// Takes a restart marker where one is due.
    fn before_mcu(&mut self, bits: &mut Bits<'_>, interval: usize) -> Result<(), Other> {
        if self.left == 0 {
            bits.restart(self.number)?;
            self.number = (self.number + 1) % 8;
            self.predictions = [0; 3];
            self.left = interval;
        }
        self.left -= 1;
        Ok(())
    }
}
