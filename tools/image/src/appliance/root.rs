//! What is in the appliance: the read-only root and the initramfs, as trees of files.

use super::modules::Module;
use crate::CardError;
use crate::deb::Entry;
use crate::tree::Tree;

/// The scripts, as they lie in `targets/appliance/`, with their places.
const SCRIPTS: [(&str, &str); 8] = [
    ("common", include_str!("../../../../targets/appliance/common.sh")),
    ("start", include_str!("../../../../targets/appliance/start.sh")),
    ("service", include_str!("../../../../targets/appliance/service.sh")),
    ("watchdog", include_str!("../../../../targets/appliance/watchdog.sh")),
    ("network", include_str!("../../../../targets/appliance/network.sh")),
    ("lease", include_str!("../../../../targets/appliance/lease.sh")),
    ("ssh", include_str!("../../../../targets/appliance/ssh.sh")),
    ("stop", include_str!("../../../../targets/appliance/stop.sh")),
];
const INITTAB: &str = include_str!("../../../../targets/appliance/inittab");
const INITRAMFS: &str = include_str!("../../../../targets/appliance/initramfs-init.sh");
/// The configuration where none is given.
pub(super) const CONFIGURATION: &str = include_str!("../../../../targets/appliance/kinglet.toml");

/// Programs of busybox that the root has names for.
const APPLETS: &str = "[ ash awk base64 basename blockdev cat chgrp chmod chown clear cmp cp cut date dd df \
    dirname dmesg du echo egrep env expr false fgrep find findfs fsfreeze free grep gunzip gzip halt head hexdump \
    hostname hwclock id ifconfig init insmod ip kill killall less ln losetup ls lsmod md5sum mkdir mkfifo mktemp \
    more mount mv nc netstat nproc nslookup ntpd od pidof ping poweroff printf ps pwd readlink realpath reboot \
    rm rmdir rmmod route sed seq sh sha256sum sleep sort stat stty switch_root sync sysctl tail tar tee test time \
    timeout top touch tr true tty udhcpc umount uname uniq uptime usleep vi watch watchdog wc wget which xargs zcat";

/// What goes into a root.
pub(super) struct Parts<'p> {
    /// The program, static.
    pub(super) program: &'p [u8],
    /// The factory's model.
    pub(super) model: &'p [u8],
    /// `kinglet.toml`.
    pub(super) configuration: &'p str,
    /// busybox, static.
    pub(super) busybox: &'p [u8],
    /// e2fsck, static.
    pub e2fsck: &'p [u8],
    /// Kernel modules in the order of loading.
    pub(super) modules: &'p [Module],
    /// dropbear and its libraries, by path.
    pub(super) ssh: &'p [(String, Entry)],
    /// Keys that may log in, a line each.
    pub(super) keys: &'p [String],
    /// Public key of updates.
    pub(super) public_key: Option<&'p [u8]>,
    /// The host's name.
    pub(super) hostname: &'p str,
    /// The data partition as it is made first, gzipped.
    pub(super) data: Vec<u8>,
}

/// The read-only root.
///
/// # Errors
/// A package has not what is expected of it.
pub(super) fn root(parts: &Parts<'_>) -> Result<Tree, CardError> {
    let mut tree = Tree::default();
    for folder in [
        "boot",
        "data",
        "dev",
        "etc/kinglet",
        "proc",
        "root",
        "run",
        "sys",
        "var/lib/kinglet",
        "var/log/kinglet",
        "mnt",
    ] {
        tree.dir(folder, 0o755);
    }
    tree.dir("root", 0o700);
    tree.dir("tmp", 0o1777);
    tree.link("var/run", "../run");
    tree.file("bin/busybox", 0o755, parts.busybox);
    for applet in APPLETS.split_whitespace() {
        tree.link(&format!("bin/{applet}"), "busybox");
    }
    tree.link("sbin/init", "../bin/busybox");
    tree.link("sbin/reboot", "../bin/busybox");
    tree.file("sbin/e2fsck", 0o755, parts.e2fsck);
    tree.file("usr/bin/kinglet", 0o755, parts.program);
    tree.file("usr/lib/kinglet/model.onnx", 0o644, parts.model);
    tree.file("usr/share/kinglet/kinglet.toml", 0o644, parts.configuration.as_bytes());
    if let Some(key) = parts.public_key {
        tree.file("usr/share/kinglet/kinglet.pub", 0o644, key);
    }
    for (name, text) in SCRIPTS {
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        tree.file(&format!("usr/lib/appliance/{name}"), mode, text.as_bytes());
    }
    tree.file("usr/lib/appliance/data.ext4.gz", 0o644, parts.data.clone());
    for (path, text) in [
        ("etc/inittab", INITTAB),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/shells", "/bin/sh\n"),
        ("etc/hosts", "127.0.0.1 localhost\n"),
        ("etc/profile", "export PATH=/usr/bin:/bin:/sbin:/usr/sbin\n"),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"),
    ] {
        tree.file(path, 0o644, text.as_bytes());
    }
    tree.file("etc/shadow", 0o600, *b"root:*:19723:0:99999:7:::\n");
    tree.file("etc/hostname", 0o644, format!("{}\n", parts.hostname).into_bytes());
    tree.link("etc/resolv.conf", "../run/resolv.conf");
    modules(&mut tree, "lib/modules", parts.modules);
    for (path, entry) in parts.ssh {
        match entry {
            Entry::File(bytes) => {
                let mode =
                    if path.contains("bin/") || path.contains("/ld-") { 0o755 } else { 0o644 };
                tree.file(path, mode, bytes.as_slice());
            }
            Entry::Link(target) => tree.link(path, target),
        }
    }
    if !parts.keys.is_empty() {
        tree.dir("root/.ssh", 0o700);
        tree.file("root/.ssh/authorized_keys", 0o600, (parts.keys.join("\n") + "\n").into_bytes());
    }
    Ok(tree)
}

/// What the kernel unpacks first.
#[must_use]
pub(super) fn initramfs(busybox: &[u8], order: &[Module]) -> Tree {
    let mut tree = Tree::default();
    for folder in ["dev", "proc", "sys", "slot", "root"] {
        tree.dir(folder, 0o755);
    }
    tree.file("bin/busybox", 0o755, busybox);
    tree.link("bin/sh", "busybox");
    tree.file("init", 0o755, INITRAMFS.as_bytes());
    modules(&mut tree, "modules", order);
    tree
}

fn modules(tree: &mut Tree, folder: &str, order: &[Module]) {
    let mut list = String::new();
    for (name, bytes) in order {
        tree.file(&format!("{folder}/{name}.ko"), 0o644, std::sync::Arc::clone(bytes));
        list += name;
        list.push('\n');
    }
    tree.file(&format!("{folder}/order"), 0o644, list.into_bytes());
}
