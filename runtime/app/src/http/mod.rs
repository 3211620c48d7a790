//! HTTP: what `serve` and the server inside `watch` share.
//!
//! One thread speaks HTTP; models have threads of their own (`models.rs`), so a slow model never
//! builds up work: what does not fit is answered 503 at once. Start with `routes.rs`: what is
//! answered to which request, and who may ask.

mod access;
mod answer;
mod connections;
mod metrics;
mod models;
mod routes;
mod stall;
mod tls;
mod upload;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use access::Access;
pub(crate) use answer::Refusal;
pub(crate) use metrics::{Metrics, times};
pub(crate) use models::{Load, Models, stem};
pub(crate) use routes::{Route, classifying};
use tls::Tls;
use upload::Uploads;

/// Files that are open besides connections, at most.
const OTHER_FILES: u64 = 128;

/// Where and to whom.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The address; port 0 takes any that is free.
    pub(crate) listen: SocketAddr,
    /// Holds the token that requests must bring.
    pub(crate) token_file: Option<PathBuf>,
    /// Connections at a time.
    pub(crate) clients: usize,
    /// Certificate and key, PEM files.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// How long requests that are being answered have at the end.
    pub(crate) last_answers: Duration,
}

/// What requests share.
pub(crate) struct Core {
    pub(crate) models: Models,
    pub(crate) metrics: Metrics,
    access: Access,
    uploads: Uploads,
}

/// A socket that is listened to, and the runtime that will answer there.
pub(crate) struct Door {
    runtime: Runtime,
    listener: TcpListener,
    tls: Option<Tls>,
    access: Access,
    settings: Settings,
    /// `http://127.0.0.1:8080`
    pub(crate) url: String,
}

impl Door {
    /// Listens; answers wait for [`Self::open`].
    ///
    /// # Errors
    /// The token, the certificate or the address cannot be had, or other machines could ask without
    /// a token.
    pub(crate) fn new(settings: Settings) -> anyhow::Result<Self> {
        let (access, tls) = read(&settings)?;
        kinglet_device::allow_open_files(settings.clients as u64 + OTHER_FILES);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .thread_keep_alive(Duration::from_secs(2))
            .thread_name("http files")
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            connections::listen(settings.listen)
                .with_context(|| format!("cannot listen on {}", settings.listen))?
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr()?);
        Ok(Self { runtime, listener, tls, access, settings, url })
    }

    /// Whether there is nothing wrong with settings but, maybe, their address.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn check(settings: &Settings) -> anyhow::Result<()> {
        read(settings).map(drop)
    }

    /// Resolves when the program is asked to stop.
    ///
    /// # Errors
    /// The signals cannot be listened to.
    pub(crate) fn stopped(&self) -> std::io::Result<impl Future<Output = ()> + use<>> {
        let _inside = self.runtime.enter();
        connections::stopped()
    }

    /// Answers until `stop`, with these models and, besides them, what `more` makes of the core.
    pub(crate) fn open(
        self,
        models: Models,
        metrics: Metrics,
        more: impl FnOnce(&Arc<Core>) -> Vec<Route>,
        stop: impl Future<Output = ()>,
    ) {
        let Self { runtime, listener, tls, access, settings, .. } = self;
        let core = Arc::new(Core { models, metrics, access, uploads: Uploads::default() });
        let more = more(&core);
        let connections = connections::Connections::new(&settings, tls, core.metrics.clone());
        let router = routes::router(&core, more);
        runtime.block_on(connections.run(listener, router, stop));
        // A thread that is at a file has no time left.
        runtime.shutdown_background();
    }
}

/// Reads the token and the certificate.
fn read(settings: &Settings) -> anyhow::Result<(Access, Option<Tls>)> {
    let access = Access::new(settings.token_file.as_deref(), settings.listen)?;
    let tls = settings.tls.as_ref().map(|(cert, key)| Tls::new(cert, key)).transpose()?;
    Ok((access, tls))
}
