//! `kinglet serve`: classifies pictures that come over HTTP. What it answers, and how, is in
//! [`crate::http`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::exit::{Done, Outcome};
use crate::http::{self, Door, Metrics, Models, Settings};
use crate::load::ModelArgs;

/// How long requests that are being answered have at the end.
const LAST_ANSWERS: Duration = Duration::from_millis(1500);

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
    /// Certificate (PEM, with those that lead to its issuer) for HTTPS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Pictures that may wait for each model; further ones are answered 503.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    queue: u16,
    /// Connections at a time.
    #[arg(long, default_value_t = 2048, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
}

/// Runs `serve`.
pub(crate) fn run(args: &Args) -> Outcome {
    kinglet_device::settle_heap();
    let door = Door::new(Settings {
        listen: args.listen,
        token_file: args.token_file.clone(),
        clients: args.clients.into(),
        tls: args.tls_cert.clone().zip(args.tls_key.clone()),
        last_answers: LAST_ANSWERS,
    })?;
    let metrics = Metrics::default();
    let models = Models::load(&args.model, &args.also, args.queue.into(), &metrics)?;
    let names = models.names().collect::<Vec<_>>().join(", ");
    let stop = door.stopped()?;
    println!("listening on {} ({names})", door.url);
    door.open(models, metrics, http::classifying, stop);
    Ok(Done::Well)
}
