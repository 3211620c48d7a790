//! What is said in JSON: results, and why there is none.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Scores of one picture.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// The best classes, the best first.
    pub top: Vec<Entry>,
    /// Whether it is none of the classes, where the model has a threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<bool>,
    /// From the picture's bytes to scores.
    pub latency_ms: f64,
    /// The model's name.
    pub model: String,
}

/// One class.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    /// Its number.
    pub index: usize,
    /// Its name, if the model has names.
    pub label: Option<String>,
    /// Its probability.
    pub score: f32,
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no valid token: send 'Authorization: Bearer TOKEN'")]
    Unauthorized,
    #[error("asked for as '{0}', which is not this machine; by other names only with a token")]
    ForeignHost(String),
    #[error("another web site sent this request")]
    ForeignSite,
    #[error("{0}")]
    BadQuery(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Gone(String),
    #[error("{0}")]
    Full(String),
    #[error("{0}; try again")]
    NotNow(&'static str),
    #[error("{0}")]
    Failed(String),
    #[error("no model '{name}' here; there are: {known}")]
    UnknownModel { name: String, known: String },
    #[error("top={0} is no number of classes")]
    BadTop(String),
    #[error("a body of {sent} bytes; at most {limit} are read")]
    TooLarge { sent: u64, limit: usize },
    #[error("a body without Content-Length; more than {limit} bytes of such are not read")]
    Unmeasured { limit: usize },
    #[error("the body did not arrive within {0} s")]
    TooSlow(u64),
    #[error("the body broke off: {0}")]
    BrokenOff(String),
    #[error("no picture in the form: name a field 'image'")]
    NoPicture,
    #[error("the form cannot be read: {0}")]
    BadForm(String),
    #[error("no usable picture: {0}")]
    Picture(String),
    #[error("more pictures wait than there is room for; try again")]
    Busy,
    #[error("the model failed: {0}")]
    Model(String),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Refusal::Unauthorized => StatusCode::UNAUTHORIZED,
            Refusal::ForeignHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Refusal::ForeignSite => StatusCode::FORBIDDEN,
            Refusal::UnknownModel { .. } | Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::BadTop(_)
            | Refusal::BadQuery(_)
            | Refusal::NoPicture
            | Refusal::BadForm(_)
            | Refusal::BrokenOff(_) => StatusCode::BAD_REQUEST,
            Refusal::Gone(_) => StatusCode::CONFLICT,
            Refusal::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
            Refusal::TooLarge { .. } | Refusal::Unmeasured { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Refusal::Picture(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Busy | Refusal::NotNow(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Model(_) | Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether what is left of the body will not be read, so that nothing can follow on this connection.
    fn ends_connection(&self) -> bool {
        matches!(
            self,
            Refusal::Unauthorized
                | Refusal::ForeignHost(_)
                | Refusal::ForeignSite
                | Refusal::TooLarge { .. }
                | Refusal::Unmeasured { .. }
                | Refusal::TooSlow(_)
                | Refusal::BrokenOff(_)
                | Refusal::Busy
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: String,
        }
        let mut response = (self.status(), Json(Body { error: self.to_string() })).into_response();
        let headers = response.headers_mut();
        if self.ends_connection() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        match self {
            Refusal::Busy | Refusal::NotNow(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Refusal::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
