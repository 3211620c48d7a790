//! Where Debian's packages come from: a folder of them, or apt with a configuration of its own.
//!
//! apt verifies Debian's signatures. It needs no root and does not touch the system's own lists: state, cache and sources
//! lie in a folder of ours.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::CardError;

const MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What the kernel's package is called, whatever its version: `linux-image-6.1.0-50-arm64`.
pub(super) const KERNEL: &str = "linux-image-arm64";

/// Package names with their files.
pub(super) type Packages = BTreeMap<String, PathBuf>;

/// Finds packages in a folder; of several versions the last by name.
///
/// # Errors
/// [`CardError::Package`] naming those that are missing, with the command that fetches them.
pub(super) fn find(folder: &Path, names: &[&str]) -> Result<Packages, CardError> {
    let mut files: Vec<String> = fs::read_dir(folder)
        .map_err(CardError::file(folder))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".deb"))
        .collect();
    files.sort();
    let mut found = Packages::new();
    let mut missing = Vec::new();
    for name in names {
        let matches = |file: &&String| {
            let package = file.split('_').next().unwrap_or("");
            if *name == KERNEL { is_kernel(package) } else { package == *name }
        };
        match files.iter().rfind(matches) {
            Some(file) => {
                found.insert((*name).to_owned(), folder.join(file));
            }
            None => missing.push(*name),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    Err(CardError::Package {
        name: missing.join(", "),
        what: format!("not in {}; without --packages apt fetches them", folder.display()),
    })
}

/// `linux-image-6.1.0-50-arm64`, but not its variants for clouds or real time.
fn is_kernel(package: &str) -> bool {
    let version = package.strip_prefix("linux-image-").and_then(|v| v.strip_suffix("-arm64"));
    version.is_some_and(|v| {
        v.starts_with(|c: char| c.is_ascii_digit()) && !v.ends_with("-cloud") && !v.ends_with("-rt")
    })
}

/// Fetches packages for arm64 of Debian 12 into a folder, and returns where they are.
///
/// # Errors
/// [`CardError::Program`] where apt is missing or cannot reach the mirror.
pub(super) fn fetch(folder: &Path, names: &[&str]) -> Result<Packages, CardError> {
    let apt = Apt::new(folder)?;
    apt.run("apt-get", &["update", "-q"])?;
    let kernel = apt.run("apt-cache", &["depends", KERNEL])?;
    let kernel = kernel
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| is_kernel(name))
        .ok_or_else(|| CardError::Package {
            name: KERNEL.to_owned(),
            what: "apt does not know which kernel it stands for".to_owned(),
        })?;
    let real: Vec<&str> = names.iter().map(|n| if *n == KERNEL { kernel } else { *n }).collect();
    let mut arguments = vec!["download", "-q"];
    arguments.extend(&real);
    apt.run("apt-get", &arguments)?;
    arguments.insert(1, "--print-uris");
    // 'http://…' busybox-static_1%3a1.35.0-4_arm64.deb 822236 SHA256:…; nothing where it is there already.
    let uris = apt.run("apt-get", &arguments)?;
    let mut found = find(folder, names)?;
    for line in uris.lines() {
        let Some(file) = line.split(' ').nth(1) else { continue };
        let package = file.split('_').next().unwrap_or("");
        if let Some(at) = real.iter().position(|name| *name == package) {
            found.insert(names[at].to_owned(), folder.join(file));
        }
    }
    Ok(found)
}

/// apt with state, cache and sources in one folder.
struct Apt {
    folder: PathBuf,
    configuration: PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self, CardError> {
        let state = folder.join("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = state.join(part);
            fs::create_dir_all(&part).map_err(CardError::file(part))?;
        }
        let put = |name: &str, text: String| {
            let path = state.join(name);
            fs::write(&path, text).map_err(CardError::file(path))
        };
        let stanza = |uri: &str, suite: &str| {
            format!("deb [arch=arm64 signed-by={KEYRING}] {uri} {suite} main non-free-firmware\n")
        };
        let security = MIRROR.to_owned() + "-security";
        let sources = stanza(MIRROR, "bookworm")
            + &stanza(MIRROR, "bookworm-updates")
            + &stanza(&security, "bookworm-security");
        put("sources.list", sources)?;
        put("status", String::new())?;
        let at = fs::canonicalize(&state).map_err(CardError::file(&state))?;
        let at = at.display();
        put(
            "apt.conf",
            format!(
                "APT::Architecture \"arm64\";\nAPT::Architectures {{ \"arm64\"; }};\n\
                 APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n\
                 Dir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
                 Dir::State \"{at}\";\nDir::State::lists \"{at}/lists\";\n\
                 Dir::State::status \"{at}/status\";\nDir::Cache \"{at}/cache\";\n"
            ),
        )?;
        Ok(Self { folder: folder.to_owned(), configuration: state.join("apt.conf") })
    }

    fn run(&self, program: &'static str, arguments: &[&str]) -> Result<String, CardError> {
        let configuration =
            fs::canonicalize(&self.configuration).map_err(CardError::file(&self.configuration))?;
        let output = Command::new(program)
            .args(arguments)
            .env("APT_CONFIG", configuration)
            .env("LC_ALL", "C")
            .current_dir(&self.folder)
            .output()
            .map_err(|e| CardError::Program {
                program,
                what: format!(
                    "{e}; on another system than Debian give the packages with --packages DIR"
                ),
            })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let why = said.lines().find(|l| l.starts_with("E:")).unwrap_or("it failed");
        Err(CardError::Program {
            program,
            what: format!("{why}; offline, give the packages with --packages DIR"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_found_whatever_its_version() {
        let folder = tempfile::tempdir().unwrap();
        for file in [
            "linux-image-6.1.0-47-arm64_6.1.1_arm64.deb",
            "linux-image-6.1.0-50-arm64_6.1.2_arm64.deb",
            "linux-image-6.1.0-50-cloud-arm64_6.1.2_arm64.deb",
            "linux-image-6.1.0-50-rt-arm64_6.1.2_arm64.deb",
            "busybox-static_1%3a1.35_arm64.deb",
            "linux-image-arm64_6.1_arm64.deb",
        ] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let found = find(folder.path(), &[KERNEL, "busybox-static"]).unwrap();
        assert!(found[KERNEL].ends_with("linux-image-6.1.0-50-arm64_6.1.2_arm64.deb"));
        let error = find(folder.path(), &[KERNEL, "raspi-firmware"]).unwrap_err().to_string();
        assert!(error.contains("raspi-firmware") && !error.contains(KERNEL), "{error}");
    }
}
