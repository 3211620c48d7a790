//! `GET /v1/stream.mjpg`: the newest frames, one after the other, as browsers and other programs show
//! them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Web;
use crate::http::Refusal;

/// Pictures a second, where the request does not say, and at most.
const RATE: (f64, f64) = (10.0, 30.0);
/// A reader that takes longer for a picture is cut.
const SLOWEST: Duration = Duration::from_secs(8);
/// How long is waited for a frame before it is looked whether all is over.
const GLANCE: Duration = Duration::from_secs(5);
/// What stands between pictures.
const KIND: &str = "multipart/x-mixed-replace; boundary=frame";

/// One who looks.
struct Viewer {
    web: Arc<Web>,
    interval: Duration,
    /// When the next picture may be sent.
    due: Instant,
    seen: u64,
    /// Parts of a picture that are still to be handed over, and since when.
    parts: VecDeque<Bytes>,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

/// Answers with pictures until one of both sides ends.
pub(super) async fn stream(
    State(web): State<Arc<Web>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let rate = rate(query.as_deref().unwrap_or_default())?;
    let room = Arc::clone(&web.streams).try_acquire_owned();
    let permit = room.map_err(|_| Refusal::NotNow("enough clients look already"))?;
    let now = Instant::now();
    let viewer = Viewer {
        web,
        interval: Duration::from_secs_f64(1.0 / rate),
        due: now,
        seen: 0,
        parts: VecDeque::new(),
        since: now,
        _permit: permit,
    };
    let stream = futures_util::stream::unfold(viewer, |mut viewer| async {
        let part = viewer.next().await?;
        Some((Ok::<_, std::convert::Infallible>(part), viewer))
    });
    Ok(([(header::CONTENT_TYPE, KIND)], Body::from_stream(stream)).into_response())
}

/// `fps=N` of a query.
fn rate(query: &str) -> Result<f64, Refusal> {
    let Some(text) = query.split('&').find_map(|pair| pair.strip_prefix("fps=")) else {
        return Ok(RATE.0);
    };
    text.parse().ok().filter(|rate| (0.1..=RATE.1).contains(rate)).ok_or_else(|| {
        let text: String = text.chars().take(32).collect();
        Refusal::BadQuery(format!("fps={text}: 0.1 to {} pictures a second", RATE.1))
    })
}

impl Viewer {
    /// What is sent next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(part) = self.parts.pop_front() {
            return Some(part);
        }
        // We are asked again when there is room: the picture before has been taken.
        if self.since.elapsed() > SLOWEST {
            return None;
        }
        let web = Arc::clone(&self.web);
        tokio::select! {
            () = web.over() => None,
            () = self.look() => {
                self.since = Instant::now();
                self.parts.pop_front()
            }
        }
    }

    /// Waits for the next picture.
    async fn look(&mut self) {
        tokio::time::sleep_until(self.due).await;
        let picture = loop {
            if let Some(picture) = self.web.pictures.newer_than(self.seen, GLANCE).await {
                break picture;
            }
        };
        self.due = (self.due + self.interval).max(Instant::now());
        self.seen = picture.number;
        let length = picture.jpeg.len();
        let head =
            format!("--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n");
        self.parts.extend([head.into(), picture.jpeg.clone(), Bytes::from_static(b"\r\n")]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert!((rate("").unwrap() - RATE.0).abs() < 1e-9);
        assert!((rate("a=1&fps=2.5").unwrap() - 2.5).abs() < 1e-9);
        for bad in ["fps=", "fps=0", "fps=-1", "fps=31", "fps=nan", "fps=x"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
