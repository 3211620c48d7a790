//! Connections, as many as are allowed, and no longer than is needed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Settings;
use super::metrics::Metrics;
use super::stall::Impatient;
use super::tls::Tls;

/// How long a request's head may take to arrive, a handshake may last, and a connection may be
/// silent.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may wait for the other side to take something of it.
const STALL: Duration = Duration::from_secs(8);
/// Most bytes of a request's head.
const MAX_HEAD: usize = 32 << 10;
/// What the system keeps of an answer that is not taken, bytes: little, so that live pictures are
/// new, and so that many slow readers take no memory.
const SEND_BUFFER: u32 = 128 << 10;
/// Connections that wait to be taken.
const BACKLOG: u32 = 1024;
/// How long to wait when no connection can be taken (too many files are open).
const PAUSE: Duration = Duration::from_millis(100);
/// What the ones too many hear.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";

/// Takes connections.
pub(super) struct Connections {
    room: Arc<Semaphore>,
    tls: Option<Tls>,
    last_answers: Duration,
    metrics: Metrics,
}

/// Resolves when the program is asked to stop; to be called inside a runtime.
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

/// Listens; to be called inside a runtime.
///
/// # Errors
/// The address cannot be had.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Connections {
    pub(super) fn new(settings: &Settings, tls: Option<Tls>, metrics: Metrics) -> Self {
        let room = Arc::new(Semaphore::new(settings.clients));
        Self { room, tls, last_answers: settings.last_answers, metrics }
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
            self.take(stream, &router, graceful.watcher());
        }
        drop(listener);
        let _ = timeout(self.last_answers, graceful.shutdown()).await;
    }

    fn take(&self, stream: TcpStream, router: &Router, watcher: Watcher) {
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            self.metrics.refused();
            // Its buffer is empty; if not, it hears nothing.
            let _ = stream.try_write(FULL);
            return;
        };
        // Answers are small: they should not wait for more.
        let _ = stream.set_nodelay(true);
        let stream = Impatient::new(stream, STALL);
        let (metrics, router) = (self.metrics.clone(), router.clone());
        let tls = self.tls.as_ref().map(Tls::acceptor);
        metrics.connections().inc();
        tokio::spawn(async move {
            match tls {
                None => answer(stream, router, watcher).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
                        answer(stream, router, watcher).await;
                    }
                }
            }
            metrics.connections().dec();
            drop(permit);
        });
    }
}

/// Answers what is asked on one connection.
async fn answer<T>(stream: T, router: Router, watcher: Watcher)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A client that breaks off is no error of ours.
    let _ = watcher.watch(connection).await;
}
