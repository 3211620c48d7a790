//! `kinglet serve`: classifies pictures that come over HTTP.
//!
//! One thread speaks HTTP; each model has a thread of its own with a short queue (`models.rs`), so a
//! slow model never builds up work: what does not fit is answered 503 at once. Start with
//! `routes.rs`: what is answered to which request.

mod access;
mod answer;
mod connections;
mod metrics;
mod models;
mod routes;
mod upload;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use crate::exit::{Done, Outcome};
use crate::load::ModelArgs;
use access::Access;
use connections::Connections;
use metrics::Metrics;
use models::Models;
use upload::Uploads;

/// Options of `serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    kinglet serve\n  \
    curl --data-binary @photo.jpg http://127.0.0.1:8080/v1/classify\n  \
    curl --form image=@photo.jpg 'http://127.0.0.1:8080/v1/classify?top=3'\n  \
    kinglet serve --listen 0.0.0.0:8080 --token-file /etc/kinglet/token\n  \
    kinglet serve --model birds.onnx --also flowers=flowers-int8.onnx")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Another model, asked for with `?model=NAME`; may be given several times. Without a name, that of
    /// the file.
    #[arg(long, value_name = "[NAME=]FILE")]
    also: Vec<String>,
    /// Where to listen. Port 0 takes any that is free.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// A file that holds the token which requests must bring (`Authorization: Bearer TOKEN`). Needed to
    /// listen on any address but this machine's own.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Pictures that may wait for each model; further ones are answered 503.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    queue: u16,
    /// Connections at a time.
    #[arg(long, default_value_t = 2048, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
}

/// What requests share.
struct Server {
    models: Models,
    uploads: Uploads,
    access: Access,
    metrics: Metrics,
}

/// Runs `serve`.
pub(crate) fn run(args: &Args) -> Outcome {
    let access = Access::new(args.token_file.as_deref(), args.listen)?;
    let metrics = Metrics::default();
    let models = Models::load(&args.model, &args.also, args.queue.into(), &metrics)?;
    let names = models.names().collect::<Vec<_>>().join(", ");
    let server = Arc::new(Server { models, uploads: Uploads::default(), access, metrics });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen)
            .await
            .with_context(|| format!("cannot listen on {}", args.listen))?;
        println!("listening on http://{} ({names})", listener.local_addr()?);
        let connections = Connections::new(args.clients.into(), server.metrics.clone());
        connections.run(listener, routes::router(server), connections::stopped()?).await;
        Ok(Done::Well)
    })
}
