//! The system's files, seen through one open folder.
//!
//! Each folder on the way is opened by its name in the one before, and no link is followed: whoever can write
//! to a part of the store cannot lead it elsewhere. Where a release is put in by root and used by a service
//! with a user of its own, what is made belongs to the owner of the store.

use std::fs::File;
use std::io::{self, Result, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::Files;

/// Folder flags: a folder itself, no link to one.
const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A store's folder.
#[derive(Debug)]
pub struct RealFiles {
    root: OwnedFd,
    path: PathBuf,
    /// User and group of what is made, where we are root and the store is somebody else's.
    owner: Option<(u32, u32)>,
}

impl RealFiles {
    /// Opens the folder of a store.
    ///
    /// # Errors
    /// There is none, or it is not ours to read.
    pub fn open(path: &Path) -> Result<Self> {
        // Links on the way to the store are the system's own (/var/lib/private of systemd).
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(path, flags, Mode::empty())?;
        let info = fs::fstat(&root)?;
        let root_user = rustix::process::geteuid().is_root();
        let owner = (root_user && info.st_uid != 0).then_some((info.st_uid, info.st_gid));
        Ok(Self { root, path: path.to_owned(), owner })
    }

    /// The same; where there is no such folder, it is made, as its parent's owner's.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn open_or_make(path: &Path) -> Result<Self> {
        match std::fs::create_dir(path) {
            Ok(()) => {
                let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
                let parent = parent.unwrap_or(Path::new("."));
                let above = Self::open(parent)?;
                let made = Self::open(path)?;
                above.adopt(&made.root)?;
                File::from(above.root).sync_all()?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Self::open(path)
    }

    /// The path of something in the store, for messages and for programs that are to look at it.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        self.path.join(inside)
    }

    fn adopt(&self, file: &OwnedFd) -> Result<()> {
        if let Some((user, group)) = self.owner {
            let (user, group) = (fs::Uid::from_raw(user), fs::Gid::from_raw(group));
            fs::fchown(file, Some(user), Some(group))?;
        }
        Ok(())
    }

    /// The folder of that path.
    fn folder(&self, path: &str) -> Result<OwnedFd> {
        let mut at = self.root.try_clone()?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = fs::openat(&at, name, FOLDER, Mode::empty())?;
        }
        Ok(at)
    }

    /// The folder that something is in, and its name there.
    fn place<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str)> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.folder(folder)?, name))
    }
}

impl Files for RealFiles {
    type File = File;
    type Reader = File;
    type Lock = OwnedFd;

    fn lock(&self, folder: &str, wait: bool) -> Result<Option<OwnedFd>> {
        // Opened anew: locks belong to what was opened, not to the process.
        let folder = match folder {
            "" => fs::openat(&self.root, ".", FOLDER, Mode::empty())?,
            other => self.folder(other)?,
        };
        let how = match wait {
            true => FlockOperation::LockExclusive,
            false => FlockOperation::NonBlockingLockExclusive,
        };
        loop {
            match fs::flock(&folder, how) {
                Ok(()) => return Ok(Some(folder)),
                Err(Errno::WOULDBLOCK) if !wait => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn make_folder(&self, path: &str) -> Result<()> {
        let (folder, name) = self.place(path)?;
        match fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.adopt(&fs::openat(&folder, name, FOLDER, Mode::empty())?),
            // It must be a folder.
            Err(Errno::EXIST) => Ok(fs::openat(&folder, name, FOLDER, Mode::empty()).map(drop)?),
            Err(error) => Err(error.into()),
        }
    }

    fn create(&self, path: &str) -> Result<File> {
        let (folder, name) = self.place(path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&folder, name, flags, Mode::from_raw_mode(0o644))?;
        self.adopt(&file)?;
        Ok(file.into())
    }

    fn reserve(&self, file: &mut File, bytes: u64) -> Result<()> {
        match fs::fallocate(&*file, FallocateFlags::KEEP_SIZE, 0, bytes) {
            // Not every file system can; then it is seen later that there is too little room.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            other => Ok(other?),
        }
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> Result<()> {
        file.write_all(bytes)
    }

    fn make_executable(&self, file: &mut File) -> Result<()> {
        Ok(fs::fchmod(file.as_fd(), Mode::from_raw_mode(0o755))?)
    }

    fn sync(&self, file: &mut File) -> Result<()> {
        file.sync_all()
    }

    fn sync_folder(&self, path: &str) -> Result<()> {
        Ok(fs::fsync(self.folder(path)?)?)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let ((from_folder, from), (to_folder, to)) = (self.place(from)?, self.place(to)?);
        Ok(fs::renameat(&from_folder, from, &to_folder, to)?)
    }

    fn symlink(&self, target: &str, path: &str) -> Result<()> {
        let (folder, name) = self.place(path)?;
        Ok(fs::symlinkat(target, &folder, name)?)
    }

    fn read_link(&self, path: &str) -> Result<Option<String>> {
        let (folder, name) = match self.place(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match fs::readlinkat(&folder, name, Vec::new()) {
            Ok(target) => Ok(target.into_string().ok()),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, path: &str) -> Result<Option<(File, u64)>> {
        let (folder, name) = match self.place(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        // Opening a pipe without this would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match fs::openat(&folder, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(io::Error::other("it is a link")),
            other => other?,
        };
        let info = fs::fstat(&file)?;
        if FileType::from_raw_mode(info.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Some((file.into(), u64::try_from(info.st_size).unwrap_or(u64::MAX))))
    }

    fn remove(&self, path: &str) -> Result<()> {
        let (folder, name) = self.place(path)?;
        match fs::unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
