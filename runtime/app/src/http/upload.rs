//! A picture's bytes out of a request, within limits.
//!
//! What a client announces is checked before anything is read or allocated. What it does not announce
//! (chunked bodies) may be small only. All bodies together have one budget.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refusal;

/// Largest body, bytes.
const MAX_BODY: usize = 10 << 20;
/// Largest body whose length is not announced, bytes: with what the connection buffers, one that grows
/// without end costs less than 1 MiB.
const MAX_UNMEASURED: usize = 768 << 10;
/// Steps in which room for such a body grows, bytes.
const STEP: usize = 64 << 10;
/// All bodies at a time, bytes.
const BUDGET: usize = 32 << 20;
/// What the budget is counted in, bytes.
const UNIT: usize = 1 << 10;
/// How long a body may take.
const MAX_SECONDS: u64 = 20;

/// The room for bodies.
pub(super) struct Uploads {
    room: Arc<Semaphore>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(BUDGET / UNIT)) }
    }
}

/// Room that is taken.
type Room = OwnedSemaphorePermit;

/// The bytes of a picture file, and the room that they take.
pub(super) struct Upload {
    bytes: Bytes,
    _room: Room,
}

impl Upload {
    /// The file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Uploads {
    /// Reads a picture: the whole body, or a field of a form.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Upload, Refusal> {
        let announced = body.size_hint().exact();
        let most = match announced {
            Some(sent) if sent > MAX_BODY as u64 => {
                return Err(Refusal::TooLarge { sent, limit: MAX_BODY });
            }
            Some(sent) => sent as usize,
            None => MAX_UNMEASURED,
        };
        let read = self.collect(body, most);
        let read = tokio::time::timeout(Duration::from_secs(MAX_SECONDS), read);
        let (bytes, room) = read.await.map_err(|_| Refusal::TooSlow(MAX_SECONDS))??;
        let bytes = match boundary(headers) {
            Some(boundary) => field(bytes, boundary).await?,
            None => bytes,
        };
        Ok(Upload { bytes, _room: room })
    }

    /// The whole body, of at most `most` bytes, and its room: as much as has come, so that who announces
    /// much and sends nothing keeps none from others.
    async fn collect(&self, mut body: Body, most: usize) -> Result<(Bytes, Room), Refusal> {
        let (mut bytes, mut room) = (Vec::<u8>::new(), self.room(0)?);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Refusal::BrokenOff(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > most - bytes.len() {
                return Err(Refusal::Unmeasured { limit: most });
            }
            let units = (bytes.len() + data.len()).div_ceil(UNIT);
            room.merge(self.room(units - room.num_permits())?);
            // Not doubled: the room of a large body would be twice as large.
            if bytes.capacity() - bytes.len() < data.len() {
                bytes.reserve_exact(data.len().max(STEP).min(most - bytes.len()));
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.into(), room))
    }

    fn room(&self, units: usize) -> Result<Room, Refusal> {
        // At most 10 MiB in units of 1 KiB: the number fits.
        self.room.clone().try_acquire_many_owned(units as u32).map_err(|_| Refusal::Busy)
    }
}

/// What separates the fields of a form, if the body is one.
fn boundary(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    multer::parse_boundary(kind).ok()
}

/// The field 'image', or else the first that is a file.
async fn field(form: Bytes, boundary: String) -> Result<Bytes, Refusal> {
    let bad = |error: multer::Error| Refusal::BadForm(error.to_string());
    let stream = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(form)]);
    let mut fields = multer::Multipart::new(stream, boundary);
    let mut file = None;
    while let Some(field) = fields.next_field().await.map_err(bad)? {
        let named = field.name() == Some("image");
        if named || (file.is_none() && field.file_name().is_some()) {
            file = Some(field.bytes().await.map_err(bad)?);
        }
        if named {
            break;
        }
    }
    file.ok_or(Refusal::NoPicture)
}
