//! A file system in memory that loses what a real one may lose, and stops wherever it is told to.
//!
//! A file has the bytes that last and those that were written; a folder the names that last, and for each
//! name what it was since the folder was synced. A loss of power chooses for each of them, on its own, what
//! is left: more is lost here than any journal would lose.

use std::collections::BTreeMap;
use std::io::{Cursor, Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard};

use super::Files;

/// Random numbers that a seed decides (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

/// What a loss of power leaves of what was not synced.
#[derive(Debug, Clone)]
pub(crate) enum Loss {
    /// All of it.
    Nothing,
    /// None of it.
    Everything,
    /// For each file and name on its own: the old, the new, or a part.
    Some(Random),
}

#[derive(Debug, Clone)]
enum Node {
    File { lasting: Vec<u8>, now: Vec<u8> },
    Link { target: String, lasting: bool },
    Folder { lasting: Names, now: Names, since: Vec<(String, Option<usize>)> },
}

type Names = BTreeMap<String, usize>;

#[derive(Debug, Clone)]
struct Disk {
    nodes: Vec<Node>,
    /// Writes, syncs, renames and the like so far.
    steps: u64,
    /// The step that is not done, nor any after it.
    stop: Option<u64>,
    locked: Vec<String>,
}

/// It; clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct Simulated(Arc<Mutex<Disk>>);

/// A lock on it.
#[derive(Debug)]
pub(crate) struct Lock(Simulated, String);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.disk().locked.retain(|name| *name != self.1);
    }
}

impl Simulated {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let root = Node::Folder { lasting: Names::new(), now: Names::new(), since: Vec::new() };
        Self::of(Disk { nodes: vec![root], steps: 0, stop: None, locked: Vec::new() })
    }

    fn of(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(disk)))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// Steps so far.
    pub(crate) fn steps(&self) -> u64 {
        self.disk().steps
    }

    /// Another disk that holds the same and stops before that step.
    pub(crate) fn copy_until(&self, stop: u64) -> Self {
        let disk = Disk { stop: Some(stop), locked: Vec::new(), ..self.disk().clone() };
        Self::of(disk)
    }

    /// The disk after a loss of power.
    pub(crate) fn after(&self, mut loss: Loss) -> Self {
        let mut disk = self.disk().clone();
        for node in &mut disk.nodes {
            match node {
                Node::File { lasting, now } => {
                    let left = match &mut loss {
                        Loss::Nothing => now.clone(),
                        Loss::Everything => lasting.clone(),
                        Loss::Some(random) => torn(lasting, now, random),
                    };
                    (*lasting, *now) = (left.clone(), left);
                }
                Node::Link { target, lasting } => {
                    let lost = match &mut loss {
                        Loss::Nothing => false,
                        Loss::Everything => true,
                        Loss::Some(random) => random.below(3) == 0,
                    };
                    if lost && !*lasting {
                        target.clear();
                    }
                    *lasting = true;
                }
                Node::Folder { lasting, now, since } => {
                    let mut left = lasting.clone();
                    for name in since.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>() {
                        let mut all = vec![lasting.get(&name).copied()];
                        all.extend(since.iter().filter(|(n, _)| *n == name).map(|(_, node)| *node));
                        let chosen = match &mut loss {
                            Loss::Nothing => all.len() - 1,
                            Loss::Everything => 0,
                            Loss::Some(random) => random.below(all.len()),
                        };
                        match all[chosen] {
                            Some(node) => left.insert(name, node),
                            None => left.remove(&name),
                        };
                    }
                    (*lasting, *now) = (left.clone(), left);
                    since.clear();
                }
            }
        }
        (disk.steps, disk.stop, disk.locked) = (0, None, Vec::new());
        Self::of(disk)
    }

    /// Changes a file's bytes behind everybody's back.
    pub(crate) fn tamper(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.disk();
        let node = disk.find(path).unwrap();
        let Node::File { lasting, now } = &mut disk.nodes[node] else {
            panic!("{path} is no file")
        };
        change(now);
        *lasting = now.clone();
    }
}

/// What is left of a file.
fn torn(lasting: &[u8], now: &[u8], random: &mut Random) -> Vec<u8> {
    if lasting == now {
        return now.to_vec();
    }
    let cut = random.below(now.len() + 1);
    match random.below(5) {
        0 => lasting.to_vec(),
        1 => now.to_vec(),
        2 => now[..cut].to_vec(),
        // Its length lasts, its blocks do not.
        3 => [&now[..cut], &vec![0; now.len() - cut]].concat(),
        _ => [&vec![0; cut], &now[cut..]].concat(),
    }
}

impl Disk {
    fn step(&mut self) -> Result<()> {
        if self.stop.is_some_and(|stop| self.steps >= stop) {
            return Err(Error::other("the power is gone"));
        }
        self.steps += 1;
        Ok(())
    }

    fn find(&self, path: &str) -> Result<usize> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(0, |at, name| {
            let Node::Folder { now, .. } = &self.nodes[at] else {
                return Err(Error::other("no folder"));
            };
            now.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
        })
    }

    /// Gives a name another node, or none.
    fn set(&mut self, path: &str, node: Option<usize>) -> Result<()> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.find(folder)?;
        let Node::Folder { now, since, .. } = &mut self.nodes[folder] else {
            return Err(Error::other("no folder"));
        };
        match node {
            Some(node) => now.insert(name.to_owned(), node),
            None => now.remove(name),
        };
        since.push((name.to_owned(), node));
        Ok(())
    }

    fn make(&mut self, path: &str, node: Node) -> Result<usize> {
        if self.find(path).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.step()?;
        self.nodes.push(node);
        let made = self.nodes.len() - 1;
        self.set(path, Some(made))?;
        Ok(made)
    }
}

impl Files for Simulated {
    type File = usize;
    type Reader = Cursor<Vec<u8>>;
    type Lock = Lock;

    fn lock(&self, folder: &str, _wait: bool) -> Result<Option<Lock>> {
        let mut disk = self.disk();
        disk.find(folder)?;
        if disk.locked.iter().any(|name| name == folder) {
            return Ok(None);
        }
        disk.locked.push(folder.to_owned());
        Ok(Some(Lock(self.clone(), folder.to_owned())))
    }

    fn make_folder(&self, path: &str) -> Result<()> {
        let mut disk = self.disk();
        if let Ok(there) = disk.find(path) {
            return match disk.nodes[there] {
                Node::Folder { .. } => Ok(()),
                _ => Err(ErrorKind::AlreadyExists.into()),
            };
        }
        let (lasting, now, since) = (Names::new(), Names::new(), Vec::new());
        disk.make(path, Node::Folder { lasting, now, since }).map(drop)
    }

    fn create(&self, path: &str) -> Result<usize> {
        self.disk().make(path, Node::File { lasting: Vec::new(), now: Vec::new() })
    }

    fn reserve(&self, _: &mut usize, _: u64) -> Result<()> {
        Ok(())
    }

    fn write(&self, file: &mut usize, bytes: &[u8]) -> Result<()> {
        let mut disk = self.disk();
        let done = disk.step();
        // A write that is stopped was begun.
        let length = if done.is_ok() { bytes.len() } else { bytes.len() / 2 };
        let Node::File { now, .. } = &mut disk.nodes[*file] else { unreachable!("a file") };
        now.extend_from_slice(&bytes[..length]);
        done
    }

    fn make_executable(&self, _: &mut usize) -> Result<()> {
        self.disk().step()
    }

    fn sync(&self, file: &mut usize) -> Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        let Node::File { lasting, now } = &mut disk.nodes[*file] else { unreachable!("a file") };
        lasting.clone_from(now);
        Ok(())
    }

    fn sync_folder(&self, path: &str) -> Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        let at = disk.find(path)?;
        let Node::Folder { lasting, now, since } = &mut disk.nodes[at] else {
            return Err(Error::other("no folder"));
        };
        lasting.clone_from(now);
        since.clear();
        let inside: Vec<usize> = now.values().copied().collect();
        for node in inside {
            if let Node::Link { lasting, .. } = &mut disk.nodes[node] {
                *lasting = true;
            }
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut disk = self.disk();
        let node = disk.find(from)?;
        disk.step()?;
        disk.set(to, Some(node))?;
        disk.set(from, None)
    }

    fn symlink(&self, target: &str, path: &str) -> Result<()> {
        let link = Node::Link { target: target.to_owned(), lasting: false };
        self.disk().make(path, link).map(drop)
    }

    fn read_link(&self, path: &str) -> Result<Option<String>> {
        let disk = self.disk();
        match disk.find(path).map(|at| &disk.nodes[at]) {
            Ok(Node::Link { target, .. }) => Ok(Some(target.clone())),
            _ => Ok(None),
        }
    }

    fn open(&self, path: &str) -> Result<Option<(Cursor<Vec<u8>>, u64)>> {
        let disk = self.disk();
        match disk.find(path).map(|at| &disk.nodes[at]) {
            Ok(Node::File { now, .. }) => Ok(Some((Cursor::new(now.clone()), now.len() as u64))),
            Ok(_) => Err(Error::other("it is no regular file")),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, path: &str) -> Result<()> {
        let mut disk = self.disk();
        match disk.find(path) {
            Ok(_) => {
                disk.step()?;
                disk.set(path, None)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
