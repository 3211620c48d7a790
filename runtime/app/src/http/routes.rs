//! What is answered to which request: a table of routes, and what stands before all of them.

use std::sync::Arc;

use axum::extract::{MatchedPath, RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde::Serialize;

use super::answer::{Answer, Refusal};
use super::{Core, Metrics};

/// Classes in an answer, where the request does not say.
const TOP: usize = 5;
/// All paths of all servers.
const DESCRIPTION: &str = include_str!("openapi.json");

type Shared = State<Arc<Core>>;

/// What is answered on one path.
pub(crate) struct Route {
    path: &'static str,
    /// Whether it is answered without the token.
    open: bool,
    answer: MethodRouter,
}

impl Route {
    /// For those who bring the token, if one is needed.
    pub(crate) fn new<S>(path: &'static str, state: &S, answer: MethodRouter<S>) -> Self
    where
        S: Clone + Send + Sync + 'static,
    {
        Self { path, open: false, answer: answer.with_state(state.clone()) }
    }

    /// For everybody.
    pub(crate) fn open<S>(path: &'static str, state: &S, answer: MethodRouter<S>) -> Self
    where
        S: Clone + Send + Sync + 'static,
    {
        Self { open: true, ..Self::new(path, state, answer) }
    }
}

/// Pictures in, scores out.
pub(crate) fn classifying(core: &Arc<Core>) -> Vec<Route> {
    vec![
        Route::new("/v1/classify", core, post(classify)),
        Route::new("/v1/models", core, get(models)),
    ]
}

/// What every server answers.
fn usual(core: &Arc<Core>) -> Vec<Route> {
    vec![
        Route::new("/metrics", core, get(metrics)),
        Route::open("/healthz", core, get(|| async { "ok\n" })),
        Route::open("/readyz", core, get(ready)),
    ]
}

/// All paths.
pub(super) fn router(core: &Arc<Core>, mut routes: Vec<Route>) -> Router {
    // A server that says itself when it is ready is right.
    let own: Vec<_> = routes.iter().map(|route| route.path).collect();
    routes.extend(usual(core).into_iter().filter(|route| !own.contains(&route.path)));
    let mut paths: Vec<_> = routes.iter().map(|route| route.path).collect();
    paths.push("/openapi.json");
    let text: Arc<str> = description(&paths).into();
    let describe = move || {
        let text = Arc::clone(&text);
        async move { ([(header::CONTENT_TYPE, "application/json")], text.to_string()) }
    };
    routes.push(Route::open("/openapi.json", core, get(describe)));
    let (mut all, mut guarded) = (Router::new(), Router::new());
    for Route { path, open, answer } in routes {
        let router = if open { &mut all } else { &mut guarded };
        *router = std::mem::take(router).route(path, answer);
    }
    if guarded.has_routes() {
        guarded = guarded.route_layer(middleware::from_fn_with_state(core.clone(), guard));
    }
    all.merge(guarded)
        .layer(middleware::from_fn_with_state(core.clone(), receive))
        .layer(middleware::from_fn_with_state(core.clone(), count))
}

/// The description of some paths. One that nobody has described is there, and empty.
fn description(paths: &[&str]) -> String {
    let mut all: serde_json::Value = serde_json::from_str(DESCRIPTION).unwrap_or_default();
    let own = paths.iter().map(|path| ((*path).to_owned(), all["paths"][path].take()));
    all["paths"] = serde_json::Value::Object(own.collect());
    all.to_string()
}

/// Lets only those in who may ask.
async fn guard(State(core): Shared, request: Request, next: Next) -> Response {
    if core.access.allows(request.headers()) {
        next.run(request).await
    } else {
        Refusal::Unauthorized.into_response()
    }
}

/// Sends away what is not meant for us, and says to browsers what they may do with an answer.
async fn receive(State(core): Shared, request: Request, next: Next) -> Response {
    let admitted = core.access.admits(request.method(), request.headers());
    let mut response = match admitted {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Counts the answers. Paths that there are not count as one.
async fn count(
    State(core): Shared,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    let path = path.as_ref().map_or("other", MatchedPath::as_str);
    core.metrics.answered(path, response.status().as_u16());
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
    State(core): Shared,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Json<Answer>, Refusal> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let model = core.models.find(query.model)?;
    if !model.has_room() {
        return Err(Refusal::Busy);
    }
    let (head, body) = request.into_parts();
    let upload = core.uploads.read(&head.headers, body).await?;
    model.classify(upload, query.top.unwrap_or(TOP)).await.map(Json)
}

async fn models(State(core): Shared) -> impl IntoResponse {
    #[derive(Serialize)]
    struct Names {
        models: Vec<String>,
    }
    Json(Names { models: core.models.names().map(|name| name.to_string()).collect() })
}

async fn ready(State(core): Shared) -> (StatusCode, String) {
    match core.models.iter().find(|model| !model.works()) {
        None => (StatusCode::OK, "ready\n".into()),
        Some(model) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("model '{}' has stopped\n", model.name()))
        }
    }
}

async fn metrics(State(core): Shared) -> Response {
    match core.metrics.encode(&core.models) {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
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
