//! What the server inside `watch` answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kinglet_device::camera;
use serde::Serialize;

use super::super::config::Region;
use super::super::decision::Decision;
use super::live::{Point, Pulse, pulse};
use super::{PATIENCE, Web, collector, events, page, stream};
use crate::decide::State as Decided;
use crate::http::{Core, Refusal, Route, classifying};

/// How long is waited for a frame that is newer than one that has been seen.
const LONGER: Duration = Duration::from_secs(5);

type Shared = State<Arc<Web>>;

/// All paths that others do not have.
pub(super) fn routes(core: &Arc<Core>, web: &Arc<Web>) -> Vec<Route> {
    let mut routes = vec![
        Route::open("/", web, get(page::page)),
        Route::open("/readyz", web, get(ready)),
        Route::new("/v1/state", web, get(state)),
        Route::new("/v1/events", web, get(events::events)),
        Route::new("/v1/snapshot.jpg", web, get(snapshot)),
        Route::new("/v1/stream.mjpg", web, get(stream::stream)),
    ];
    if let Some(collection) = &web.collection {
        routes.extend(collector::routes(web, collection));
    }
    if web.classify {
        routes.extend(classifying(core));
    }
    routes
}

async fn ready(State(web): Shared) -> (StatusCode, String) {
    let status = web.bus.health().camera;
    match status.state {
        camera::State::Running | camera::State::Ended => (StatusCode::OK, "ready\n".into()),
        camera::State::Opening => {
            (StatusCode::SERVICE_UNAVAILABLE, "the camera is being opened\n".into())
        }
        camera::State::Lost => {
            let why = status.last_error.unwrap_or_default();
            (StatusCode::SERVICE_UNAVAILABLE, format!("the camera is lost: {why}\n"))
        }
    }
}

/// The newest frame. With `after=N` a newer one than number N, which is waited for.
async fn snapshot(
    State(web): Shared,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let query = query.unwrap_or_default();
    let after = query.split('&').find_map(|pair| pair.strip_prefix("after="));
    let number = after.map(str::parse).transpose().map_err(|_| {
        Refusal::BadQuery("after: the number of a frame, as in its header Kinglet-Frame".into())
    })?;
    let patience = if after.is_some() { LONGER } else { PATIENCE };
    let picture = web.pictures.newer_than(number.unwrap_or(0), patience).await;
    let Some(picture) = picture else {
        return match number {
            // Whoever waits for the next has not done anything wrong.
            Some(_) => Ok(StatusCode::NO_CONTENT.into_response()),
            None => Err(Refusal::NotNow("no frame comes from the camera")),
        };
    };
    let tag = format!("\"{}\"", picture.number);
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| *known == *tag);
    let facts = [
        (header::CONTENT_TYPE, "image/jpeg".to_owned()),
        (header::HeaderName::from_static("kinglet-frame"), picture.number.to_string()),
        (header::ETAG, tag),
    ];
    Ok(match known {
        true => (StatusCode::NOT_MODIFIED, facts).into_response(),
        false => (facts, picture.jpeg.clone()).into_response(),
    })
}

/// An output and its rule.
#[derive(Serialize)]
struct Output {
    pin: String,
    classes: Vec<String>,
    region: Option<String>,
    mode: &'static str,
}

/// Everything that a page shows at first; what changes comes as events.
#[derive(Serialize)]
struct Page {
    version: &'static str,
    model: String,
    labels: Vec<String>,
    regions: Vec<Region>,
    outputs: Vec<Output>,
    /// Whether frames can be saved.
    collects: bool,
    health: Pulse,
    decisions: Vec<Decision>,
    points: Vec<Point>,
}

async fn state(State(web): Shared) -> impl IntoResponse {
    use kinglet_device::gpio::Pattern;
    let facts = web.facts();
    let class = |state: &Decided| match state {
        Decided::Class(index) => {
            facts.labels.get(*index).cloned().unwrap_or_else(|| format!("class {index}"))
        }
        Decided::Unknown => "unknown".into(),
        Decided::Nothing => "nothing".into(),
    };
    let output = |plan: &super::OutputPlan| Output {
        pin: plan.pin.to_string(),
        classes: plan.states.iter().map(class).collect(),
        region: plan
            .area
            .and_then(|area| facts.regions.get(area))
            .map(|region| region.name.clone()),
        mode: match plan.pattern {
            Pattern::Steady => "steady",
            Pattern::Pulse(_) => "pulse",
            Pattern::Blink(_) => "blink",
        },
    };
    let (decisions, points) = web.live.past();
    Json(Page {
        version: env!("CARGO_PKG_VERSION"),
        model: facts.model.clone(),
        labels: facts.labels.to_vec(),
        regions: facts.regions.clone(),
        outputs: facts.outputs.iter().map(output).collect(),
        collects: web.collection.is_some(),
        health: pulse(&web),
        decisions,
        points,
    })
}
