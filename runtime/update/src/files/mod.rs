//! What the store asks of a file system.
//!
//! Paths are names joined by `/`, from the store's folder on; no part of them comes from outside. What is
//! promised after a loss of power is little: a file's bytes last after [`Files::sync`], names in a folder
//! after [`Files::sync_folder`] of it, and a rename shows the old file or the new one.

use std::io::{Read, Result};

mod real;
#[cfg(test)]
pub(crate) mod simulated;

pub use real::RealFiles;

/// A file system, seen from the store's folder.
pub trait Files {
    /// A file that is written.
    type File;
    /// A file that is read.
    type Reader: Read;
    /// A lock that is held.
    type Lock;

    /// Waits until nobody else holds this folder's lock, and takes it. `None`: somebody holds it, and `wait`
    /// is false.
    ///
    /// # Errors
    /// There is no such folder.
    fn lock(&self, folder: &str, wait: bool) -> Result<Option<Self::Lock>>;

    /// Makes a folder, if there is none.
    ///
    /// # Errors
    /// It cannot be, or something else has its name.
    fn make_folder(&self, path: &str) -> Result<()>;

    /// Makes a file that was not there before.
    ///
    /// # Errors
    /// Something has its name: a link is not followed.
    fn create(&self, path: &str) -> Result<Self::File>;

    /// Sets room aside for a file.
    ///
    /// # Errors
    /// There is not so much.
    fn reserve(&self, file: &mut Self::File, bytes: u64) -> Result<()>;

    /// Appends to a file.
    ///
    /// # Errors
    /// As the system says.
    fn write(&self, file: &mut Self::File, bytes: &[u8]) -> Result<()>;

    /// A file that anybody may run.
    ///
    /// # Errors
    /// As the system says.
    fn make_executable(&self, file: &mut Self::File) -> Result<()>;

    /// From here on the file's bytes last.
    ///
    /// # Errors
    /// As the system says.
    fn sync(&self, file: &mut Self::File) -> Result<()>;

    /// From here on the names in a folder last; the store's own is the empty path.
    ///
    /// # Errors
    /// As the system says.
    fn sync_folder(&self, path: &str) -> Result<()>;

    /// Gives a file or link another name, whatever had that before.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// Makes a link that was not there before.
    ///
    /// # Errors
    /// Something has its name.
    fn symlink(&self, target: &str, path: &str) -> Result<()>;

    /// Where a link points; `None`: nothing is there, or something else.
    ///
    /// # Errors
    /// As the system says.
    fn read_link(&self, path: &str) -> Result<Option<String>>;

    /// Opens a regular file, through no link; gives its length too. `None`: nothing is there.
    ///
    /// # Errors
    /// Something else is there, or as the system says.
    fn open(&self, path: &str) -> Result<Option<(Self::Reader, u64)>>;

    /// Removes a file or a link; well if nothing is there.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, path: &str) -> Result<()>;
}
