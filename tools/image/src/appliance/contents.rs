//! What is taken out of Debian's packages: kernel, firmware, single programs.

use std::path::Path;

use kinglet_deploy::Image;

use super::modules::Modules;
use crate::CardError;
use crate::deb::{self, Entry};
use crate::tree::Tree;

/// Packages of dropbear and what it loads.
pub(super) const SSH: [&str; 7] =
    ["dropbear-bin", "libc6", "libcrypt1", "libtomcrypt1", "libtommath1", "libgmp10", "zlib1g"];

/// What of these packages is needed.
pub(super) fn ssh_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or("");
    let libraries = [
        "libc.so.",
        "ld-linux",
        "libcrypt.so.",
        "libtomcrypt.so.",
        "libtommath.so.",
        "libgmp.so.",
        "libz.so.",
    ];
    matches!(path, "usr/sbin/dropbear" | "usr/bin/dropbearkey")
        || (path.contains("lib/") && libraries.iter().any(|l| name.starts_with(l)))
}

/// What the kernel's package has.
pub(super) struct Kernel {
    pub(super) image: Vec<u8>,
    pub(super) modules: Modules,
    pub(super) trees: Vec<(String, Vec<u8>)>,
}

impl Kernel {
    pub(super) fn read(path: &Path, card: &Image) -> Result<Self, CardError> {
        let wanted = |name: &str| {
            let file = name.rsplit('/').next().unwrap_or("");
            name.starts_with("boot/vmlinuz-")
                || name.ends_with(".ko")
                || (name.contains("/broadcom/") && card.dtb.iter().any(|t| t == file))
        };
        let mut kernel = Self { image: Vec::new(), modules: Modules::default(), trees: Vec::new() };
        for (name, entry) in deb::read(path, &wanted)? {
            let Entry::File(bytes) = entry else { continue };
            let file = name.rsplit('/').next().unwrap_or("");
            if name.starts_with("boot/") {
                kernel.image = bytes;
            } else if name.ends_with(".ko") {
                kernel.modules.add(file, bytes);
            } else {
                kernel.trees.push((file.to_owned(), bytes));
            }
        }
        let package = |what: &str| CardError::Package {
            name: path.display().to_string(),
            what: what.to_owned(),
        };
        // "ARM\x64" at 56. Source: the kernel's Documentation/arm64/booting.rst.
        if kernel.image.get(56..60) != Some(b"ARM\x64") {
            return Err(package("it has no kernel for arm64"));
        }
        if let Some(tree) = card.dtb.iter().find(|t| kernel.trees.iter().all(|(n, _)| n != *t)) {
            return Err(package(&format!("it has no device tree {tree}")));
        }
        Ok(kernel)
    }
}

/// What Raspberry Pi's firmware needs on the first partition and in each slot.
pub(super) fn firmware(
    package: &Path,
    card: &Image,
    start: &mut Tree,
    slot: &mut Tree,
) -> Result<(), CardError> {
    let names = &card.firmware;
    let files = deb::read(package, &|path| {
        path.starts_with("usr/lib/raspi-firmware/")
            && names.iter().any(|n| path.ends_with(&format!("/{n}")))
    })?;
    for name in names {
        let file = files.iter().find(|(path, _)| path.ends_with(&format!("/{name}")));
        let Some((_, Entry::File(bytes))) = file else {
            return Err(CardError::Package {
                name: package.display().to_string(),
                what: format!("it has no {name}"),
            });
        };
        // The first stage, where it is not in a chip, looks for itself on the first partition only.
        let place = if name == "bootcode.bin" { &mut *start } else { &mut *slot };
        place.file(name, 0o644, bytes.as_slice());
    }
    // Which slot starts: one byte of a file, and `reboot '0 tryboot'` tries the other one once.
    start.file(
        "autoboot.txt",
        0o644,
        *b"[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n",
    );
    slot.file(
        "config.txt",
        0o644,
        *b"arm_64bit=1\nenable_uart=1\nupstream_kernel=1\nkernel=kernel8.img\ninitramfs initramfs.gz followkernel\n\
           disable_splash=1\nboot_delay=0\n",
    );
    Ok(())
}

/// One file of a package.
pub(super) fn one(package: &Path, path: &str) -> Result<Vec<u8>, CardError> {
    let mut files = deb::read(package, &|p| p == path || p == format!("usr/{path}"))?;
    match files.pop() {
        Some((_, Entry::File(bytes))) => Ok(bytes),
        _ => Err(CardError::Package {
            name: package.display().to_string(),
            what: format!("it has no {path}"),
        }),
    }
}
