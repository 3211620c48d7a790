//! `GET /`: the page. One file without outside resources; what it shows comes from the API.

use std::io::Read as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

use super::Web;
use crate::http::Refusal;

const PAGE: &str = include_str!("page.html");

/// Answers with the page. Its own script and style run by a number that is used once.
pub(super) async fn page(State(web): State<Arc<Web>>) -> Result<Response, Refusal> {
    let nonce = nonce().map_err(|error| Refusal::Failed(format!("/dev/urandom: {error}")))?;
    let token = if web.guarded { "needed" } else { "" };
    let page = PAGE.replace("{nonce}", &nonce).replace("{token}", token);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin".into()),
    ];
    Ok((headers, Html(page)).into_response())
}

/// 128 random bits.
fn nonce() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
