//! What a board has and how it is doing. Knows no model: frames go out, levels of pins come in.
//!
//! Start with [`Board::read`] for the machine, with [`camera::Feed`] for frames, and with
//! [`gpio::Output`] for pins.

mod board;
pub mod camera;
pub mod display;
pub mod gpio;

pub use board::{
    Board, Throttling, allow_open_files, free_bytes, is_read_only, lower_priority, memory_bytes,
    peak_memory_bytes, settle_heap,
};
