//! From a laptop to a board: boards as data, building for them, running and measuring on them, pushing to them.
//!
//! A board is one TOML file; adding a board is adding a file. Start with [`Board::find`]; [`build`] makes the program,
//! [`runner`] runs one there, [`ssh`] is the way to it.

pub mod bench;
pub mod board;
pub mod build;
pub mod elf;
pub mod files;
pub mod hash;
pub mod programs;
pub mod push;
mod put;
pub mod runner;
pub mod sign;
pub mod ssh;
pub mod workspace;

pub use board::{Board, BoardError, Cpu, Image, Kernels, Rates, Reference, Speed};
