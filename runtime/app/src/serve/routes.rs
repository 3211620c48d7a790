//! What is answered to which request.

use std::sync::Arc;

use axum::extract::{MatchedPath, RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;

use super::Server;
use super::answer::{Answer, Refusal};

/// Classes in an answer, where the request does not say.
const TOP: usize = 5;

type Shared = State<Arc<Server>>;

/// All paths.
pub(super) fn router(server: Arc<Server>) -> Router {
    let guarded = Router::new()
        .route("/v1/classify", post(classify))
        .route("/v1/models", get(models))
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(server.clone(), guard));
    Router::new()
        .merge(guarded)
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/openapi.json", get(description))
        .layer(middleware::from_fn_with_state(server.clone(), count))
        .with_state(server)
}

/// Lets only those in who may ask.
async fn guard(State(server): Shared, request: Request, next: Next) -> Response {
    if server.access.allows(request.headers()) {
        next.run(request).await
    } else {
        Refusal::Unauthorized.into_response()
    }
}

/// Counts the answers. Paths that there are not count as one.
async fn count(
    State(server): Shared,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    let path = path.as_ref().map_or("other", MatchedPath::as_str);
    server.metrics.answered(path, response.status().as_u16());
    response
}

/// What a query asks for.
#[derive(Debug, Default, PartialEq)]
struct Query<'a> {
    model: Option<&'a str>,
    top: Option<usize>,
}

impl<'a> Query<'a> {
    /// Names of models and numbers need no escaping; whatever else is there is nobody's.
    fn parse(text: &'a str) -> Result<Self, Refusal> {
        let mut query = Self::default();
        for (key, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
            match key {
                "model" => query.model = Some(value),
                "top" => {
                    let bad = || Refusal::BadTop(value.chars().take(32).collect());
                    query.top = Some(value.parse().map_err(|_| bad())?);
                }
                _ => {}
            }
        }
        Ok(query)
    }
}

async fn classify(
    State(server): Shared,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Json<Answer>, Refusal> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let model = server.models.find(query.model)?;
    if !model.has_room() {
        return Err(Refusal::Busy);
    }
    let (head, body) = request.into_parts();
    let upload = server.uploads.read(&head.headers, body).await?;
    model.classify(upload, query.top.unwrap_or(TOP)).await.map(Json)
}

async fn models(State(server): Shared) -> impl IntoResponse {
    #[derive(Serialize)]
    struct Names {
        models: Vec<String>,
    }
    Json(Names { models: server.models.names().map(str::to_owned).collect() })
}

async fn ready(State(server): Shared) -> (StatusCode, String) {
    match server.models.iter().find(|model| !model.works()) {
        None => (StatusCode::OK, "ready\n".into()),
        Some(model) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("model '{}' has stopped\n", model.name()))
        }
    }
}

async fn metrics(State(server): Shared) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match server.metrics.encode(&server.models) {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let all = Query { model: Some("birds"), top: Some(3) };
        assert_eq!(Query::parse("top=3&model=birds&other=1").unwrap(), all);
        assert_eq!(Query::parse("").unwrap(), Query::default());
        for bad in ["top=", "top=-1", "top=x", "top=99999999999999999999"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }
}
