//! A tree of files as it will be in a cpio archive or a squashfs image: owner root, time zero.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Write};
use std::sync::Arc;

use backhand::compression::Compressor;
use backhand::{FilesystemCompressor, FilesystemWriter, NodeHeader};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder with its permissions.
    Dir(u16),
    /// A file with its permissions and bytes.
    File(u16, Arc<[u8]>),
    /// A symbolic link to what it names.
    Link(String),
}

/// Files by path, without a slash at the beginning; sorted.
#[derive(Debug, Clone, Default)]
pub struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// Adds an entry and the folders above it; another of that name is replaced.
    pub fn add(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            self.0.entry(path[..at].to_owned()).or_insert(Node::Dir(0o755));
        }
        self.0.insert(path.to_owned(), node);
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u16, bytes: impl Into<Arc<[u8]>>) {
        self.add(path, Node::File(mode, bytes.into()));
    }

    /// Adds an empty folder.
    pub fn dir(&mut self, path: &str, mode: u16) {
        self.add(path, Node::Dir(mode));
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.add(path, Node::Link(target.to_owned()));
    }

    /// Paths with the lengths of files, sorted.
    pub fn list(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().filter_map(|(path, node)| match node {
            Node::File(_, bytes) => Some((path.as_str(), bytes.len() as u64)),
            _ => None,
        })
    }

    /// All entries, sorted by path: folders before what is in them.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// A cpio archive in the form `newc`, which the kernel unpacks.
    /// Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
    #[must_use]
    pub fn cpio(&self) -> Vec<u8> {
        let mut archive = Vec::new();
        for (number, (path, node)) in self.0.iter().enumerate() {
            let (mode, bytes) = match node {
                Node::Dir(mode) => (0o040_000 | u32::from(*mode), &[][..]),
                Node::File(mode, bytes) => (0o100_000 | u32::from(*mode), &bytes[..]),
                Node::Link(target) => (0o120_777, target.as_bytes()),
            };
            let links = if matches!(node, Node::Dir(_)) { 2 } else { 1 };
            entry(&mut archive, number as u32 + 1, mode, links, path, bytes);
        }
        entry(&mut archive, 0, 0, 1, "TRAILER!!!", &[]);
        archive.resize(archive.len().next_multiple_of(512), 0);
        archive
    }

    /// A squashfs image, compressed with gzip.
    ///
    /// # Errors
    /// What the writer says.
    pub fn squashfs(&self) -> io::Result<Vec<u8>> {
        let mut writer = FilesystemWriter::default();
        writer.set_time(0);
        writer.set_root_mode(0o755);
        writer.set_only_root_id();
        writer.set_block_size(128 << 10);
        let failed = |e: backhand::BackhandError| io::Error::other(e.to_string());
        let compressor = FilesystemCompressor::new(Compressor::Gzip, None).map_err(failed)?;
        writer.set_compressor(compressor);
        for (path, node) in &self.0 {
            let header = |mode: u16| NodeHeader::new(mode, 0, 0, 0);
            match node {
                Node::Dir(mode) => writer.push_dir(path, header(*mode)),
                Node::File(mode, bytes) => {
                    writer.push_file(Cursor::new(Arc::clone(bytes)), path, header(*mode))
                }
                Node::Link(target) => writer.push_symlink(target.as_str(), path, header(0o777)),
            }
            .map_err(failed)?;
        }
        let mut image = Cursor::new(Vec::new());
        writer.write(&mut image).map_err(failed)?;
        Ok(image.into_inner())
    }
}

fn entry(archive: &mut Vec<u8>, inode: u32, mode: u32, links: u32, path: &str, bytes: &[u8]) {
    let numbers =
        [inode, mode, 0, 0, links, 0, bytes.len() as u32, 0, 0, 0, 0, path.len() as u32 + 1, 0];
    archive.extend_from_slice(b"070701");
    for number in numbers {
        archive.extend_from_slice(format!("{number:08x}").as_bytes());
    }
    archive.extend_from_slice(path.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(bytes);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// gzip without a time or a name.
///
/// # Errors
/// None: it writes to memory.
pub fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn sample() -> Tree {
        let mut tree = Tree::default();
        tree.file("init", 0o755, *b"#!/bin/sh\n");
        tree.file("usr/lib/x/data", 0o640, vec![9; 300_000]);
        tree.link("bin/sh", "busybox");
        tree.dir("proc", 0o555);
        tree
    }

    #[test]
    fn cpio_unpacks_to_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("cpio")
            .args(["-i", "-d", "--quiet"])
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else { return println!("skipped: no cpio") };
        child.stdin.take().unwrap().write_all(&sample().cpio()).unwrap();
        assert!(child.wait().unwrap().success());
        let at = |path: &str| folder.path().join(path);
        assert_eq!(std::fs::read(at("usr/lib/x/data")).unwrap(), vec![9; 300_000]);
        assert_eq!(std::fs::read_link(at("bin/sh")).unwrap().to_str(), Some("busybox"));
        assert!(at("proc").is_dir());
    }

    #[test]
    fn squashfs_is_the_same_twice_and_another_program_reads_it() {
        let image = sample().squashfs().unwrap();
        assert!(image == sample().squashfs().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root");
        std::fs::write(&path, &image).unwrap();
        match Command::new("unsquashfs").arg("-lln").arg(&path).output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(said.contains("-rw-r----- 0/0"), "{said}");
                assert!(said.contains("bin/sh -> busybox"), "{said}");
            }
            Err(_) => println!("skipped: no unsquashfs"),
        }
    }
}
