//! `/v1/collect` and `/v1/collection…`: frames that are saved as pictures of a class.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::collection::{Collection, Contents, Saved};
use super::{PATIENCE, Web, download};
use crate::http::{Refusal, Route};

type Kept = State<Arc<Collection>>;

pub(super) fn routes(web: &Arc<Web>, collection: &Arc<Collection>) -> Vec<Route> {
    vec![
        Route::new("/v1/collect", web, post(collect)),
        Route::new("/v1/collection", collection, get(contents)),
        Route::new("/v1/collection/{class}/{file}", collection, delete(remove)),
        Route::new("/v1/collection.zip", &download::Downloads::new(collection), get(download::all)),
    ]
}

/// Runs something that reads or writes files. The server itself is none of its business: it may be
/// over before.
async fn with_files<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let gone = |_| Refusal::Failed("the program ends".into());
    spawn_blocking(work).await.map_err(gone)?
}

#[derive(Deserialize)]
struct What {
    class: String,
    frame: Option<u64>,
}

async fn collect(
    State(web): State<Arc<Web>>,
    what: Result<Query<What>, axum::extract::rejection::QueryRejection>,
) -> Result<(StatusCode, Json<Saved>), Refusal> {
    let Query(what) = what.map_err(|e| Refusal::BadQuery(e.body_text()))?;
    let none = || Refusal::NotFound("nothing is collected here".into());
    let collection = web.collection.clone().ok_or_else(none)?;
    let picture = match what.frame {
        Some(number) => web.pictures.seen(number).ok_or_else(|| {
            Refusal::Gone(format!("frame {number} is no longer kept; look again"))
        })?,
        None => {
            let picture = web.pictures.newer_than(0, PATIENCE).await;
            picture.ok_or(Refusal::NotNow("no frame comes from the camera"))?
        }
    };
    drop(web);
    let save = move || collection.save(&what.class, picture.number, &picture.jpeg);
    Ok((StatusCode::CREATED, Json(with_files(save).await?)))
}

async fn contents(State(collection): Kept) -> Result<Json<Contents>, Refusal> {
    with_files(move || Ok(Json(collection.contents()))).await
}

async fn remove(
    State(collection): Kept,
    Path((class, file)): Path<(String, String)>,
) -> Result<Json<Contents>, Refusal> {
    with_files(move || collection.remove(&class, &file).map(Json)).await
}
