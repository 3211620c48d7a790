//! The part of the kernel's V4L2 interface that a camera needs: structures, and one safe function
//! for each request. All `unsafe` of cameras is here.
//!
//! Written by hand, because the bindings that there are want libclang where a program is built.
//!
//! Source: include/uapi/linux/videodev2.h; the test compares the request numbers, which hold the
//! sizes of the structures, with those of a compiled C program.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Setter, Updater, ioctl, opcode};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A capture device with one plane a buffer.
pub(super) const VIDEO_CAPTURE: u32 = 1;
/// Buffers that are mapped into memory.
const MEMORY_MMAP: u32 = 1;
/// In [`Capability::device_caps`].
pub(super) const CAP_VIDEO_CAPTURE: u32 = 1;
/// In [`Capability::device_caps`].
pub(super) const CAP_STREAMING: u32 = 0x0400_0000;
/// In [`Capability::capabilities`]: `device_caps` is filled in.
pub(super) const CAP_DEVICE_CAPS: u32 = 0x8000_0000;
/// In [`Buffer::flags`]: the data is damaged.
pub(super) const BUFFER_ERROR: u32 = 0x40;
/// [`FrameSize::kind`] and [`FrameInterval::kind`]: one value, not a range.
pub(super) const DISCRETE: u32 = 1;

/// `v4l2_capability`
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Capability {
    pub(super) driver: [u8; 16],
    pub(super) card: [u8; 32],
    pub(super) bus_info: [u8; 32],
    pub(super) version: u32,
    pub(super) capabilities: u32,
    pub(super) device_caps: u32,
    reserved: [u32; 3],
}

/// `v4l2_fmtdesc`
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FormatDescription {
    pub(super) index: u32,
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) description: [u8; 32],
    pub(super) pixel_format: [u8; 4],
    mbus_code: u32,
    reserved: [u32; 3],
}

/// `v4l2_frmsizeenum`
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FrameSize {
    pub(super) index: u32,
    pub(super) pixel_format: [u8; 4],
    pub(super) kind: u32,
    /// Width and height; or least, largest and step of the width, then of the height.
    pub(super) sizes: [u32; 6],
    reserved: [u32; 2],
}

/// `v4l2_frmivalenum`
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FrameInterval {
    pub(super) index: u32,
    pub(super) pixel_format: [u8; 4],
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) kind: u32,
    /// Numerator and denominator of seconds; or those of the least, the largest, and the step.
    pub(super) intervals: [u32; 6],
    reserved: [u32; 2],
}

/// `v4l2_pix_format`
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PixFormat {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixel_format: [u8; 4],
    pub(super) field: u32,
    pub(super) bytes_per_line: u32,
    pub(super) size_image: u32,
    pub(super) colorspace: u32,
    pub(super) private: u32,
    pub(super) flags: u32,
    pub(super) ycbcr_enc: u32,
    pub(super) quantization: u32,
    pub(super) xfer_func: u32,
}

/// `v4l2_format`; the union is as long as its largest member, and aligned as a pointer.
#[repr(C)]
#[derive(Clone, Copy)]
struct Format {
    kind: u32,
    union: FormatUnion,
}

#[repr(C)]
#[derive(Clone, Copy)]
union FormatUnion {
    pix: PixFormat,
    bytes: [u8; 200],
    pointer: usize,
}

/// `v4l2_streamparm`
#[repr(C)]
#[derive(Clone, Copy)]
struct StreamParameters {
    kind: u32,
    capability: u32,
    capture_mode: u32,
    /// Numerator and denominator of seconds.
    time_per_frame: [u32; 2],
    rest: [u32; 46],
}

/// `v4l2_requestbuffers`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RequestBuffers {
    count: u32,
    kind: u32,
    memory: u32,
    capabilities: u32,
    flags: u32,
}

/// `v4l2_buffer`
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Buffer {
    pub(super) index: u32,
    kind: u32,
    pub(super) bytes_used: u32,
    pub(super) flags: u32,
    field: u32,
    timestamp: [i64; 2],
    timecode: [u32; 4],
    sequence: u32,
    memory: u32,
    /// A union: the offset for mmap.
    offset: usize,
    length: u32,
    reserved: [u32; 2],
}

const QUERYCAP: u32 = opcode::read::<Capability>(b'V', 0);
const ENUM_FMT: u32 = opcode::read_write::<FormatDescription>(b'V', 2);
const G_FMT: u32 = opcode::read_write::<Format>(b'V', 4);
const S_FMT: u32 = opcode::read_write::<Format>(b'V', 5);
const REQBUFS: u32 = opcode::read_write::<RequestBuffers>(b'V', 8);
const QUERYBUF: u32 = opcode::read_write::<Buffer>(b'V', 9);
const QBUF: u32 = opcode::read_write::<Buffer>(b'V', 15);
const DQBUF: u32 = opcode::read_write::<Buffer>(b'V', 17);
const STREAMON: u32 = opcode::write::<u32>(b'V', 18);
const STREAMOFF: u32 = opcode::write::<u32>(b'V', 19);
const S_PARM: u32 = opcode::read_write::<StreamParameters>(b'V', 22);
const ENUM_FRAMESIZES: u32 = opcode::read_write::<FrameSize>(b'V', 74);
const ENUM_FRAMEINTERVALS: u32 = opcode::read_write::<FrameInterval>(b'V', 75);

/// A request that the kernel answers in the structure that it was given. Private, and called below
/// with the structure that the request number was made from.
fn update<const REQUEST: u32, T>(fd: impl AsFd, value: &mut T) -> io::Result<()> {
    // SAFETY: REQUEST was made from T (above), so the kernel reads and writes size_of::<T>() bytes,
    // all of them plain numbers for which every bit pattern is a value.
    unsafe { ioctl(fd, Updater::<REQUEST, T>::new(value)) }.map_err(Into::into)
}

/// `VIDIOC_QUERYCAP`
pub(super) fn capability(fd: impl AsFd) -> io::Result<Capability> {
    let mut value = Capability::default();
    update::<QUERYCAP, _>(fd, &mut value).map(|()| value)
}

/// `VIDIOC_ENUM_FMT`: the format of this number; an error after the last.
pub(super) fn format(fd: impl AsFd, index: u32) -> io::Result<FormatDescription> {
    let mut value = FormatDescription { index, kind: VIDEO_CAPTURE, ..Default::default() };
    update::<ENUM_FMT, _>(fd, &mut value).map(|()| value)
}

/// `VIDIOC_ENUM_FRAMESIZES`: the size of this number; an error after the last.
pub(super) fn frame_size(
    fd: impl AsFd,
    pixel_format: [u8; 4],
    index: u32,
) -> io::Result<FrameSize> {
    let mut value = FrameSize { index, pixel_format, ..Default::default() };
    update::<ENUM_FRAMESIZES, _>(fd, &mut value).map(|()| value)
}

/// `VIDIOC_ENUM_FRAMEINTERVALS`: the interval of this number; an error after the last.
pub(super) fn frame_interval(
    fd: impl AsFd,
    pixel_format: [u8; 4],
    (width, height): (u32, u32),
    index: u32,
) -> io::Result<FrameInterval> {
    let mut value = FrameInterval { index, pixel_format, width, height, ..Default::default() };
    update::<ENUM_FRAMEINTERVALS, _>(fd, &mut value).map(|()| value)
}

/// `VIDIOC_S_FMT`: asks for a format and says what it became. The fields that matter are width,
/// height, pixel format.
pub(super) fn set_format(fd: impl AsFd, wanted: PixFormat) -> io::Result<PixFormat> {
    let mut value = Format { kind: VIDEO_CAPTURE, union: FormatUnion { bytes: [0; 200] } };
    value.union.pix = wanted;
    update::<S_FMT, _>(fd, &mut value)?;
    // SAFETY: all members are numbers; the kernel has filled in `pix` for this kind.
    Ok(unsafe { value.union.pix })
}

/// `VIDIOC_G_FMT`: the format that is set.
pub(super) fn current_format(fd: impl AsFd) -> io::Result<PixFormat> {
    let mut value = Format { kind: VIDEO_CAPTURE, union: FormatUnion { bytes: [0; 200] } };
    update::<G_FMT, _>(fd, &mut value)?;
    // SAFETY: as in `set_format`.
    Ok(unsafe { value.union.pix })
}

/// `VIDIOC_S_PARM`: asks for seconds a frame as a fraction and says what it became.
pub(super) fn set_interval(fd: impl AsFd, seconds: [u32; 2]) -> io::Result<[u32; 2]> {
    let mut value = StreamParameters {
        kind: VIDEO_CAPTURE,
        capability: 0,
        capture_mode: 0,
        time_per_frame: seconds,
        rest: [0; 46],
    };
    update::<S_PARM, _>(fd, &mut value).map(|()| value.time_per_frame)
}

/// `VIDIOC_REQBUFS`: asks for buffers, says how many there are.
pub(super) fn request_buffers(fd: impl AsFd, count: u32) -> io::Result<u32> {
    let mut value =
        RequestBuffers { count, kind: VIDEO_CAPTURE, memory: MEMORY_MMAP, ..Default::default() };
    update::<REQBUFS, _>(fd, &mut value).map(|()| value.count)
}

fn buffer(index: u32) -> Buffer {
    Buffer { index, kind: VIDEO_CAPTURE, memory: MEMORY_MMAP, ..Default::default() }
}

/// `VIDIOC_QBUF`: gives a buffer to the driver.
pub(super) fn queue(fd: impl AsFd, index: u32) -> io::Result<()> {
    update::<QBUF, _>(fd, &mut buffer(index))
}

/// `VIDIOC_DQBUF`: takes a filled buffer from the driver.
pub(super) fn dequeue(fd: impl AsFd) -> io::Result<Buffer> {
    let mut value = buffer(0);
    update::<DQBUF, _>(fd, &mut value).map(|()| value)
}

/// `VIDIOC_STREAMON`, `VIDIOC_STREAMOFF`
pub(super) fn stream(fd: impl AsFd, on: bool) -> io::Result<()> {
    // SAFETY: both read one 32-bit number, which is what is passed.
    let result = unsafe {
        if on {
            ioctl(fd, Setter::<STREAMON, u32>::new(VIDEO_CAPTURE))
        } else {
            ioctl(fd, Setter::<STREAMOFF, u32>::new(VIDEO_CAPTURE))
        }
    };
    result.map_err(Into::into)
}

/// A driver's buffer, mapped to be read.
#[derive(Debug)]
pub(super) struct Mapping {
    start: *mut std::ffi::c_void,
    length: usize,
}

// SAFETY: the memory belongs to the mapping alone and is only read.
unsafe impl Send for Mapping {}

impl Mapping {
    /// `VIDIOC_QUERYBUF` and `mmap`.
    pub(super) fn new(fd: impl AsFd, index: u32) -> io::Result<Self> {
        let mut value = buffer(index);
        update::<QUERYBUF, _>(fd.as_fd(), &mut value)?;
        // The union's first 32 bits, on either byte order that Linux boards have.
        let (offset, length) = (value.offset as u32, value.length as usize);
        if length == 0 {
            return Err(io::Error::other("a buffer without memory"));
        }
        // SAFETY: a new mapping where the kernel chooses; nothing else refers to it.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ,
                MapFlags::SHARED,
                fd.as_fd(),
                offset.into(),
            )
        }?;
        Ok(Self { start, length })
    }

    /// What the driver has written. Called between [`dequeue`] and [`queue`] of its buffer, when
    /// the driver does not write.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped with this length until `drop`.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and no slice of it outlives `self`.
        let _ = unsafe { munmap(self.start, self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_kernels_numbers() {
        let numbers = [
            QUERYCAP,
            ENUM_FMT,
            G_FMT,
            S_FMT,
            REQBUFS,
            QUERYBUF,
            QBUF,
            DQBUF,
            STREAMON,
            STREAMOFF,
            S_PARM,
            ENUM_FRAMESIZES,
            ENUM_FRAMEINTERVALS,
        ];
        let expected = [
            0x8068_5600,
            0xc040_5602,
            0xc0d0_5604,
            0xc0d0_5605,
            0xc014_5608,
            0xc058_5609,
            0xc058_560f,
            0xc058_5611,
            0x4004_5612,
            0x4004_5613,
            0xc0cc_5616,
            0xc02c_564a,
            0xc034_564b,
        ];
        assert_eq!(numbers, expected);
        assert_eq!(std::mem::offset_of!(Buffer, offset), 64);
        assert_eq!(std::mem::offset_of!(Format, union), 8);
    }

    #[test]
    fn what_is_no_camera_answers_with_an_error() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(capability(&null).is_err());
        assert!(Mapping::new(&null, 0).is_err());
        assert!(stream(&null, true).is_err());
    }
}
