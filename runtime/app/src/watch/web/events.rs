//! `GET /v1/events`: decisions and health as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Web;
use super::live::pulse;
use crate::http::Refusal;

/// When there is nothing to say, this often something is said.
const ALIVE: Duration = Duration::from_secs(10);
/// Bytes that are handed over at once.
const PIECE: usize = 8 << 10;

/// One who listens.
struct Reader {
    web: Arc<Web>,
    /// Number of the last event that was sent.
    seen: u64,
    newest: watch::Receiver<u64>,
    greeted: bool,
    _permit: OwnedSemaphorePermit,
}

/// Answers with events until one of both sides ends.
pub(super) async fn events(
    State(web): State<Arc<Web>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let room = Arc::clone(&web.listeners).try_acquire_owned();
    let permit = room.map_err(|_| Refusal::NotNow("enough clients listen already"))?;
    let newest = web.live.newest();
    let now = *newest.borrow();
    // Who comes back goes on where it was; a number that was not given yet is from an earlier start.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let seen = last.filter(|last| *last <= now).unwrap_or(now);
    let reader = Reader { web, seen, newest, greeted: false, _permit: permit };
    let stream = futures_util::stream::unfold(reader, |mut reader| async {
        let bytes = reader.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(bytes)), reader))
    });
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response())
}

impl Reader {
    /// What is sent next; `None` at the end.
    async fn next(&mut self) -> Option<Vec<u8>> {
        if !std::mem::replace(&mut self.greeted, true) {
            let pulse = serde_json::to_string(&pulse(&self.web)).unwrap_or_default();
            return Some(format!("retry: 2000\nevent: health\ndata: {pulse}\n\n").into_bytes());
        }
        loop {
            self.newest.mark_unchanged();
            let (missed, events) = self.web.live.after(&mut self.seen, PIECE);
            if missed > 0 {
                let lost = format!("event: missed\ndata: {{\"missed\":{missed}}}\n\n");
                return Some([lost.into_bytes(), events].concat());
            }
            if !events.is_empty() {
                return Some(events);
            }
            tokio::select! {
                // It does not end before we do.
                _ = self.newest.changed() => {}
                () = tokio::time::sleep(ALIVE) => return Some(b":\n\n".to_vec()),
                () = self.web.over() => return None,
            }
        }
    }
}
