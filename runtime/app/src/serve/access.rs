//! Who may ask: a token, and no address but this machine's own without one.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use axum::http::{HeaderMap, header};

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
}

/// Compares in a time that does not depend on where two texts of one length differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_token_opens() {
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
}
