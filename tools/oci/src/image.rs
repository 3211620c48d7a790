//! An image in memory: blobs and the manifests that name them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::tarball::{Layer, digest};

/// Media types of the OCI image format.
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A processor that an image's program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Platform {
    /// PCs.
    Amd64,
    /// 64-bit boards.
    Arm64,
    /// 32-bit boards.
    ArmV7,
}

impl Platform {
    /// As OCI names it: `os/architecture`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "linux/amd64",
            Self::Arm64 => "linux/arm64",
            Self::ArmV7 => "linux/arm/v7",
        }
    }

    pub(crate) fn json(self) -> Value {
        match self {
            Self::Amd64 => json!({"architecture": "amd64", "os": "linux"}),
            Self::Arm64 => json!({"architecture": "arm64", "os": "linux"}),
            Self::ArmV7 => json!({"architecture": "arm", "os": "linux", "variant": "v7"}),
        }
    }
}

/// Bytes, and what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its media type.
    pub media_type: String,
    /// `sha256:…` of the bytes.
    pub digest: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Self { media_type: media_type.to_owned(), digest: digest(&bytes), bytes }
    }

    /// As JSON with sorted keys.
    pub(crate) fn json(media_type: &str, value: &impl Serialize) -> Self {
        // Values that serde_json made itself.
        Self::new(media_type, serde_json::to_vec(value).unwrap_or_default())
    }

    /// The line that names it in a manifest.
    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// An image: one manifest, or several with an index over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Configurations and layers, each once.
    pub blobs: Vec<Blob>,
    /// Manifests of single images.
    pub manifests: Vec<Blob>,
    /// What a name stands for: the only manifest, or the index of all.
    pub top: Blob,
}

/// The parts of one platform's image.
pub(crate) struct Part {
    pub(crate) platform: Option<Platform>,
    /// The `config` of OCI's image configuration.
    pub(crate) config: Value,
    pub(crate) layers: Vec<Layer>,
    /// `artifactType`, for what is no program.
    pub(crate) artifact_type: Option<&'static str>,
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Image {
    /// Puts parts together. There is at least one; several have a platform each.
    pub(crate) fn new(parts: Vec<Part>) -> Self {
        let mut blobs: Vec<Blob> = Vec::new();
        let mut manifests: Vec<Blob> = Vec::new();
        let mut entries = Vec::new();
        for part in parts {
            // An image without a program has no platform; the format wants one all the same.
            let mut config = part.platform.unwrap_or(Platform::Arm64).json();
            let unpacked: Vec<&str> =
                part.layers.iter().map(|l| l.unpacked_digest.as_str()).collect();
            config["config"] = part.config;
            config["rootfs"] = json!({"type": "layers", "diff_ids": unpacked});
            let config = Blob::json(CONFIG, &config);
            let layers: Vec<Blob> =
                part.layers.into_iter().map(|l| Blob::new(LAYER, l.gzip)).collect();
            let mut manifest = json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config.descriptor(),
                "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
            });
            if !part.annotations.is_empty() {
                manifest["annotations"] = json!(part.annotations);
            }
            if let Some(kind) = part.artifact_type {
                manifest["artifactType"] = json!(kind);
            }
            let manifest = Blob::json(MANIFEST, &manifest);
            let mut entry = manifest.descriptor();
            if let Some(platform) = part.platform {
                entry["platform"] = platform.json();
            }
            entries.push(entry);
            for blob in std::iter::once(config).chain(layers) {
                if !blobs.iter().any(|b| b.digest == blob.digest) {
                    blobs.push(blob);
                }
            }
            manifests.push(manifest);
        }
        let top = match manifests.as_slice() {
            [only] if entries[0].get("platform").is_none() => only.clone(),
            _ => Blob::json(
                INDEX,
                &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}),
            ),
        };
        Self { blobs, manifests, top }
    }

    /// Bytes that are stored: configurations, layers and manifests.
    pub fn size(&self) -> u64 {
        let all = self.blobs.iter().chain(&self.manifests).chain([&self.top]);
        all.map(|blob| blob.bytes.len() as u64).sum()
    }
}
