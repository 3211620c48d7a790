//! The image that runs: a static program from scratch, with a model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kinglet_deploy::elf::{Elf, Machine};
use serde_json::json;

use crate::image::{Image, Part, Platform};
use crate::tarball::{self, Entry};
use crate::{OciError, read};

/// Largest program, bytes.
const PROGRAM: u64 = 256 << 20;
/// Largest model, bytes.
pub(crate) const MODEL: u64 = 1 << 30;

/// What goes into an image.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Static programs, one an architecture; which, says each file.
    pub programs: Vec<PathBuf>,
    /// The model that runs unless another is mounted and named.
    pub model: PathBuf,
    /// Certificates (PEM) of the authorities that brokers and servers are checked by.
    pub certificates: Option<PathBuf>,
}

/// Makes the image. Inside are `/usr/bin/kinglet` and `/usr/lib/kinglet/model.onnx`; it runs as user
/// 65532, which nobody is, and answers on port 8080 to those who bring the token in
/// `/run/secrets/kinglet/token`.
///
/// # Errors
/// [`OciError`] naming the file that cannot be read or used.
pub fn image(parts: &Parts) -> Result<Image, OciError> {
    let model = read(&parts.model, MODEL)?;
    let certificates = parts.certificates.as_deref().map(|p| read(p, 16 << 20)).transpose()?;
    let mut built: Vec<(Platform, Part)> = Vec::new();
    for path in &parts.programs {
        let wrong = |why: String| OciError::Input { path: path.clone(), why };
        let program = read(path, PROGRAM)?;
        let platform = platform(&program).map_err(wrong)?;
        if built.iter().any(|(other, _)| *other == platform) {
            return Err(wrong(format!("another program for {} was given", platform.name())));
        }
        // The model first: it is the same in all, and stays when the program changes.
        let mut common =
            vec![Entry { path: "usr/lib/kinglet/model.onnx", mode: 0o644, bytes: &model }];
        if let Some(bytes) = &certificates {
            common.push(Entry { path: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, bytes });
        }
        let own = [Entry { path: "usr/bin/kinglet", mode: 0o755, bytes: &program }];
        let layers = [common.as_slice(), &own].map(tarball::pack);
        let layers =
            layers.into_iter().collect::<Result<_, _>>().map_err(|e| wrong(e.to_string()))?;
        built.push((
            platform,
            Part {
                platform: Some(platform),
                config: json!({
                    "User": "65532:65532",
                    "ExposedPorts": {"8080/tcp": {}},
                    "Env": ["PATH=/usr/bin"],
                    "Entrypoint": ["/usr/bin/kinglet"],
                    "Cmd": [
                        "serve", "--model", "/usr/lib/kinglet/model.onnx",
                        "--listen", "0.0.0.0:8080", "--token-file", "/run/secrets/kinglet/token",
                    ],
                    "Labels": {"org.opencontainers.image.title": "kinglet"},
                }),
                layers,
                artifact_type: None,
                annotations: BTreeMap::new(),
            },
        ));
    }
    if built.is_empty() {
        let why = "an image needs a program".to_owned();
        return Err(OciError::Input { path: PathBuf::from("--program"), why });
    }
    built.sort_by_key(|(platform, _)| *platform);
    Ok(Image::new(built.into_iter().map(|(_, part)| part).collect()))
}

/// The platform of a program that needs nothing else, or what is wrong with it.
fn platform(program: &[u8]) -> Result<Platform, String> {
    let elf = Elf::parse(program)?;
    if !elf.is_static() {
        return Err(
            "needs shared libraries, and the image has none; `kinglet-tools build` makes a \
                    static program"
                .into(),
        );
    }
    match elf.machine {
        Machine::X86_64 => Ok(Platform::Amd64),
        Machine::Aarch64 => Ok(Platform::Arm64),
        Machine::Arm => Ok(Platform::ArmV7),
        other => Err(format!("a program for {}; x86_64, aarch64 or arm is needed", other.name())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_amd64_and_needs_libraries() {
        let here = cfg!(all(target_arch = "x86_64", not(target_feature = "crt-static")));
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!here || platform(&program).unwrap_err().contains("shared libraries"));
        assert!(platform(b"#!/bin/sh").is_err());
    }
}
