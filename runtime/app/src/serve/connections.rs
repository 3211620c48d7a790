//! Connections, as many as are allowed, and no longer than is needed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::metrics::Metrics;

/// How long a request's head may take to arrive, and a connection may be silent.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head.
const MAX_HEAD: usize = 32 << 10;
/// How long requests that are being answered have at the end.
const LAST_ANSWERS: Duration = Duration::from_millis(1500);
/// How long to wait when no connection can be taken (too many files are open).
const PAUSE: Duration = Duration::from_millis(100);
/// What the ones too many hear.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";

/// Takes connections.
pub(super) struct Connections {
    room: Arc<Semaphore>,
    metrics: Metrics,
}

/// Resolves when the program is asked to stop.
///
/// # Errors
/// The signals cannot be listened to.
pub(super) fn stopped() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

impl Connections {
    /// At most `most` at a time.
    pub(super) fn new(most: usize, metrics: Metrics) -> Self {
        Self { room: Arc::new(Semaphore::new(most)), metrics }
    }

    /// Answers until `stop`, and then what has been asked already.
    pub(super) async fn run(
        &self,
        listener: TcpListener,
        router: Router,
        stop: impl Future<Output = ()>,
    ) {
        let graceful = GracefulShutdown::new();
        tokio::pin!(stop);
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(_) => {
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
                () = &mut stop => break,
            };
            self.take(stream, &router, &graceful);
        }
        drop(listener);
        let _ = tokio::time::timeout(LAST_ANSWERS, graceful.shutdown()).await;
    }

    fn take(&self, stream: TcpStream, router: &Router, graceful: &GracefulShutdown) {
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            self.metrics.refused();
            // Its buffer is empty; if not, it hears nothing.
            let _ = stream.try_write(FULL);
            return;
        };
        // Answers are small: they should not wait for more.
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        let metrics = self.metrics.clone();
        metrics.connections().inc();
        tokio::spawn(async move {
            // A client that breaks off is no error of ours.
            let _ = connection.await;
            metrics.connections().dec();
            drop(permit);
        });
    }
}
