//! `GET /v1/collection.zip`: all pictures as one file, written while it is sent: it is never in memory
//! as a whole, nor on the disk.

use std::io::{self, Write};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::NICE;
use super::collection::Collection;
use crate::http::Refusal;

/// Downloads at a time.
const AT_A_TIME: usize = 2;
/// Bytes that are handed over at once, and how many such pieces wait.
const PIECE: usize = 32 << 10;
const WAITING: usize = 2;

/// The collection, and who downloads it.
#[derive(Clone)]
pub(super) struct Downloads {
    collection: Arc<Collection>,
    room: Arc<Semaphore>,
}

impl Downloads {
    pub(super) fn new(collection: &Arc<Collection>) -> Self {
        Self { collection: Arc::clone(collection), room: Arc::new(Semaphore::new(AT_A_TIME)) }
    }
}

/// Answers with the file.
pub(super) async fn all(State(downloads): State<Downloads>) -> Result<Response, Refusal> {
    let room = downloads.room.try_acquire_owned();
    let permit = room.map_err(|_| Refusal::NotNow("it is being downloaded already"))?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let pieces = Pieces { piece: Vec::with_capacity(PIECE), sender, _permit: permit };
    let collection = downloads.collection;
    let write = move || {
        kinglet_device::lower_priority(NICE);
        let sender = pieces.sender.clone();
        if let Err(error) = write(&collection, pieces) {
            tracing::debug!("a download broke off: {error}");
            // The client shall not think that it has all.
            let _ = sender.blocking_send(Err(io::Error::other("it broke off")));
        }
    };
    std::thread::Builder::new()
        .name("http download".into())
        .spawn(write)
        .map_err(|error| Refusal::Failed(error.to_string()))?;
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
        Some((receiver.recv().await?, receiver))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/zip"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"collection.zip\""),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

/// Writes all pictures, as they are: JPEG is compressed already.
fn write(collection: &Collection, pieces: Pieces) -> zip::result::ZipResult<()> {
    let mut zip = ZipWriter::new_stream(pieces);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, path) in collection.files() {
        // One that was thrown away meanwhile is left out.
        let Ok(mut file) = std::fs::File::open(path) else { continue };
        zip.start_file(name, options)?;
        io::copy(&mut file, &mut zip)?;
    }
    zip.finish()?.into_inner().flush()?;
    Ok(())
}

/// What is written goes to the one who reads, who is waited for.
struct Pieces {
    piece: Vec<u8>,
    sender: mpsc::Sender<io::Result<Bytes>>,
    _permit: OwnedSemaphorePermit,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let sent = self.sender.blocking_send(Ok(piece.into()));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
