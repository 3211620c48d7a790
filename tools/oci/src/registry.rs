//! Images to a registry and models from it, over OCI's distribution protocol.

use std::path::Path;
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::{OciDescriptor, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use crate::image::{INDEX, Image, LAYER, MANIFEST};
use crate::tarball::{digest, unpack};
use crate::{OciError, auth, model, program};

/// Longest wait for a registry to say anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to reach a registry.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Name and password; without, those of `docker login` or `podman login`, else none.
    pub login: Option<(String, String)>,
    /// HTTP without encryption. Registries on this machine (127.0.0.1, localhost) are spoken to so always.
    pub plain_http: bool,
}

/// Looks at a model and its signature, if it has one, and says why it must not be written.
pub type Check<'a> = dyn Fn(&[u8], Option<&[u8]>) -> Result<(), String> + 'a;

/// A name in a registry, and the way there.
pub struct Registry {
    name: Reference,
    auth: RegistryAuth,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Registry {
    /// Prepares for one image's name, `registry/path:tag` or `registry/path@sha256:…`.
    ///
    /// # Errors
    /// [`OciError::Name`] for what is no name; [`OciError::Registry`] where the client cannot be made.
    pub fn new(name: &str, settings: &Settings) -> Result<Self, OciError> {
        let reference: Reference = name
            .parse()
            .map_err(|e| OciError::Name { name: name.to_owned(), why: format!("{e}") })?;
        let registry = reference.registry().to_owned();
        let failed = |why: String| OciError::Registry { registry: registry.clone(), why };
        let host = registry.rsplit_once(':').map_or(registry.as_str(), |(host, _)| host);
        let here = ["127.0.0.1", "localhost", "[::1]"].contains(&host);
        let protocol =
            if here || settings.plain_http { ClientProtocol::Http } else { ClientProtocol::Https };
        // The only cryptography that is built in; where it was chosen before, that is the one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(ClientConfig {
            protocol,
            use_monolithic_push: true,
            connect_timeout: Some(Duration::from_secs(10)),
            read_timeout: Some(PATIENCE),
            user_agent: "kinglet",
            ..ClientConfig::default()
        })
        .map_err(|e| failed(e.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let auth = match &settings.login {
            Some((user, password)) => RegistryAuth::Basic(user.clone(), password.clone()),
            None => auth::from_logins(&registry),
        };
        Ok(Self { name: reference, auth, client, runtime })
    }

    /// Sends an image; what is there already is not sent again. `progress` gets bytes as they are done.
    /// Returns the name with the digest, which stays the same whatever the tag becomes.
    ///
    /// # Errors
    /// [`OciError::Registry`] with what the registry said.
    pub fn push(&self, image: &Image, progress: &dyn Fn(u64)) -> Result<String, OciError> {
        if self.name.digest().is_some() {
            let why = "it is pushed under a tag, not a digest".to_owned();
            return Err(OciError::Name { name: self.name.to_string(), why });
        }
        self.runtime.block_on(async {
            let operation = oci_client::RegistryOperation::Push;
            let login = self.client.auth(&self.name, &self.auth, operation).await;
            login.map_err(|e| self.failed(&e))?;
            for blob in &image.blobs {
                let there = self.client.blob_exists(&self.name, &blob.digest).await;
                if !there.unwrap_or(false) {
                    let sent =
                        self.client.push_blob(&self.name, blob.bytes.clone(), &blob.digest).await;
                    sent.map_err(|e| self.failed(&e))?;
                }
                progress(blob.bytes.len() as u64);
            }
            let tag = self.name.tag().unwrap_or("latest");
            let (registry, path) = (self.name.registry(), self.name.repository());
            for blob in image.manifests.iter().filter(|m| m.digest != image.top.digest) {
                let digest = blob.digest.clone();
                let at = Reference::with_digest(registry.into(), path.into(), digest);
                self.put_manifest(&at, &blob.bytes, MANIFEST).await?;
            }
            let at = Reference::with_tag(registry.into(), path.into(), tag.into());
            self.put_manifest(&at, &image.top.bytes, &image.top.media_type).await?;
            progress(image.manifests.iter().map(|m| m.bytes.len() as u64).sum());
            Ok(format!("{registry}/{path}@{}", image.top.digest))
        })
    }

    async fn put_manifest(&self, at: &Reference, bytes: &[u8], kind: &str) -> Result<(), OciError> {
        let kind = kind.parse().map_err(|_| self.content("no media type"))?;
        let sent = self.client.push_manifest_raw(at, bytes.to_vec(), kind).await;
        sent.map(|_| ()).map_err(|e| self.failed(&e))
    }

    /// Fetches a model's image and writes `model.onnx`, and its signature if there is one, into `folder`,
    /// each whole or not at all. Both are checked against the manifest's hashes; whether the signature is
    /// right, says [`Registry`] not: `check` gets both before anything is written.
    ///
    /// # Errors
    /// [`OciError::Registry`], [`OciError::Content`] for what is no model's image or is too large, what
    /// `check` said, or that a file cannot be written.
    pub fn pull_model(
        &self,
        folder: &Path,
        check: &Check<'_>,
    ) -> Result<Vec<std::path::PathBuf>, OciError> {
        let layer = self.runtime.block_on(self.fetch_layer())?;
        let names = [(model::NAME, program::MODEL), (model::SIGNATURE, model::SIGNATURE_SIZE)];
        let mut files = unpack(&layer, &names).map_err(|e| self.content(&e.to_string()))?;
        drop(layer);
        let file = |name: &str| files.iter().find(|(n, _)| *n == name).map(|(_, b)| b.as_slice());
        let Some(onnx) = file(model::NAME) else {
            return Err(self.content("there is no model.onnx in it"));
        };
        check(onnx, file(model::SIGNATURE)).map_err(|why| self.content(&why))?;
        // The signature first: a model that is there has its own.
        files.sort_by_key(|(name, _)| *name == model::NAME);
        let mut written = Vec::new();
        for (name, bytes) in files {
            let path = folder.join(name);
            write_whole(&path, &bytes).map_err(OciError::write(&path))?;
            written.push(path);
        }
        Ok(written)
    }

    async fn fetch_layer(&self) -> Result<Vec<u8>, OciError> {
        let accepted = [MANIFEST, INDEX];
        let pulled = self.client.pull_manifest_raw(&self.name, &self.auth, &accepted).await;
        let (bytes, _) = pulled.map_err(|e| self.failed(&e))?;
        let manifest: OciManifest = serde_json::from_slice(&bytes)
            .map_err(|e| self.content(&format!("its manifest is none: {e}")))?;
        let OciManifest::Image(manifest) = manifest else {
            return Err(self.content("it is an image of several platforms, not a model"));
        };
        if manifest.artifact_type.as_deref() != Some(model::ARTIFACT) {
            return Err(self.content("it is no model; `kinglet-tools oci push` makes such"));
        }
        let [layer] = manifest.layers.as_slice() else {
            return Err(self.content("a model has one layer"));
        };
        if layer.media_type != LAYER {
            return Err(self.content(&format!("a layer of type {}", layer.media_type)));
        }
        self.fetch_blob(layer).await
    }

    async fn fetch_blob(&self, layer: &OciDescriptor) -> Result<Vec<u8>, OciError> {
        use futures_util::StreamExt;
        let size = u64::try_from(layer.size).unwrap_or(u64::MAX);
        if size > program::MODEL {
            return Err(self.content(&format!("its layer says it has {} bytes", layer.size)));
        }
        let stream = self.client.pull_blob_stream(&self.name, layer).await;
        let mut stream = stream.map_err(|e| self.failed(&e))?.stream;
        let mut bytes = Vec::new();
        while let Some(part) = stream.next().await {
            let part = part.map_err(|e| self.content(&format!("its layer: {e}")))?;
            if (bytes.len() + part.len()) as u64 > size {
                return Err(self.content("its layer is longer than its manifest says"));
            }
            bytes.extend_from_slice(&part);
        }
        if digest(&bytes) != layer.digest {
            return Err(self.content("its layer is damaged: its hash is another"));
        }
        Ok(bytes)
    }

    fn failed(&self, error: &dyn std::error::Error) -> OciError {
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let inner_text = inner.to_string();
            if !why.contains(&inner_text) {
                why = format!("{why}: {inner_text}");
            }
            cause = inner.source();
        }
        OciError::Registry { registry: self.name.registry().to_owned(), why }
    }

    fn content(&self, why: &str) -> OciError {
        OciError::Content { name: self.name.to_string(), why: why.to_owned() }
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.persist(path).map_err(|e| e.error)?;
    std::fs::File::open(folder)?.sync_all()
}
