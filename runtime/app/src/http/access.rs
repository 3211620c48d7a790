//! Who may ask: a token, no address but this machine's own without one, and no other web site
//! through a browser.
//!
//! A browser on this machine would carry any site's requests to a server on loopback. It says where
//! a request comes from (`Sec-Fetch-Site`, `Origin`), so those of other sites are refused; and a
//! site that gives its own name our address (DNS rebinding) is known by the name in `Host`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use axum::http::{HeaderMap, Method, header};

use super::Refusal;

/// Shortest token, characters.
const MIN_TOKEN: usize = 16;

/// What requests must bring.
pub(super) struct Access {
    token: Option<Vec<u8>>,
}

impl Access {
    /// Reads the token.
    ///
    /// # Errors
    /// The file cannot be read or holds no token, or the address needs one.
    pub(super) fn new(file: Option<&Path>, listen: SocketAddr) -> anyhow::Result<Self> {
        let Some(file) = file else {
            if !listen.ip().is_loopback() {
                bail!(
                    "--listen {listen}: other machines could ask; name a token with --token-file \
                     (make one with: head -c 24 /dev/urandom | base64 > token)"
                );
            }
            return Ok(Self { token: None });
        };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the token {}", file.display()))?;
        let token = text.trim();
        let usable = token.len() >= MIN_TOKEN && token.bytes().all(|b| b.is_ascii_graphic());
        ensure!(
            usable,
            "{}: a token is one line of at least {MIN_TOKEN} printable characters",
            file.display()
        );
        Ok(Self { token: Some(token.as_bytes().to_owned()) })
    }

    /// Whether a request brings the token, if one is needed.
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let given = given.and_then(|value| {
            let (scheme, token) = value.split_at_checked("Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
        });
        given.is_some_and(|given| equal(given, token))
    }

    /// Whether a request can be meant for us.
    ///
    /// # Errors
    /// Another web site sent it, or believes that we are it.
    pub(super) fn admits(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
        let host = text(header::HOST).unwrap_or_default();
        // Where there is a token, a site with our address still does not have it.
        if self.token.is_none() && !is_this_machine(host) {
            return Err(Refusal::ForeignHost(host.chars().take(64).collect()));
        }
        let own = match text(header::HeaderName::from_static("sec-fetch-site")) {
            Some("same-origin" | "none") => true,
            // A link may be followed.
            Some(_) => {
                let mode = text(header::HeaderName::from_static("sec-fetch-mode"));
                method == Method::GET && mode == Some("navigate")
            }
            None => match text(header::ORIGIN) {
                Some(origin) => origin.split_once("://").is_some_and(|(_, from)| from == host),
                // No browser.
                None => true,
            },
        };
        if own { Ok(()) } else { Err(Refusal::ForeignSite) }
    }
}

/// Whether a `Host` names this machine alone.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Compares in a time that does not depend on where two texts of one length differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn only_the_token_opens() {
        let bearer = |value: &str| headers(&[("authorization", value)]);
        let access = Access { token: Some(b"0123456789abcdef".to_vec()) };
        assert!(access.allows(&bearer("Bearer 0123456789abcdef")));
        assert!(access.allows(&bearer("bearer 0123456789abcdef")));
        for wrong in ["Bearer 0123456789abcdeg", "Bearer 0123456789abcde", "Bearer ", "Basic x"] {
            assert!(!access.allows(&bearer(wrong)), "{wrong}");
        }
        assert!(!access.allows(&bearer("Bearer 0123456789abcdef0")));
        assert!(!access.allows(&HeaderMap::new()));
        assert!(Access { token: None }.allows(&HeaderMap::new()));
    }

    #[test]
    fn other_machines_need_a_token() {
        assert!(Access::new(None, "127.0.0.1:80".parse().unwrap()).is_ok());
        assert!(Access::new(None, "[::1]:80".parse().unwrap()).is_ok());
        for open in ["0.0.0.0:80", "[::]:80", "192.168.1.5:80"] {
            assert!(Access::new(None, open.parse().unwrap()).is_err(), "{open}");
        }
    }

    #[test]
    fn a_name_that_is_not_ours_is_refused_without_a_token() {
        let access = Access { token: None };
        let asks = |host: &str| access.admits(&Method::GET, &headers(&[("host", host)])).is_ok();
        for own in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.3.2.1", "[::1]:80"] {
            assert!(asks(own), "{own}");
        }
        for other in
            ["", "evil.example", "evil.example:8080", "192.168.1.5", "[::2]", "localhost.x"]
        {
            assert!(!asks(other), "{other}");
        }
        let access = Access { token: Some(b"0123456789abcdef".to_vec()) };
        assert!(access.admits(&Method::GET, &headers(&[("host", "kinglet.local")])).is_ok());
    }

    #[test]
    fn other_sites_may_link_and_nothing_else() {
        let access = Access { token: None };
        let host = ("host", "localhost:8080");
        let asks = |method, more: &[(&'static str, &str)]| {
            access.admits(&method, &headers(&[&[host], more].concat())).is_ok()
        };
        for method in [Method::GET, Method::POST, Method::DELETE] {
            assert!(asks(method.clone(), &[]), "no browser");
            assert!(asks(method.clone(), &[("sec-fetch-site", "same-origin")]));
            assert!(asks(method.clone(), &[("sec-fetch-site", "none")]));
            assert!(!asks(method.clone(), &[("sec-fetch-site", "cross-site")]));
            assert!(!asks(method.clone(), &[("sec-fetch-site", "same-site")]));
            assert!(asks(method.clone(), &[("origin", "http://localhost:8080")]));
            assert!(!asks(method.clone(), &[("origin", "http://localhost:8081")]));
            assert!(!asks(method.clone(), &[("origin", "null")]));
            let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
            assert_eq!(asks(method.clone(), &link), method == Method::GET);
        }
    }
}
