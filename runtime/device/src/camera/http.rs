//! A camera that sends JPEG pictures over HTTP, one after the other in one answer
//! (`multipart/x-mixed-replace`), as most network cameras and mjpg-streamer do.
//!
//! Pictures are told apart by their own markers, so neither boundaries nor lengths of parts matter.
//! Not for HTTPS: ffmpeg reads that.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::bytes::{Got, got, wait};
use super::error::CameraError;

/// How long connecting and asking may take.
const CONNECT: Duration = Duration::from_millis(1500);
/// The largest head of an answer, bytes.
const MOST_HEAD: usize = 16 << 10;

/// A connection on which a camera answers.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// What has been read of the head, then what of the body came with it.
    read: Vec<u8>,
    body: bool,
    chunks: Option<Chunks>,
}

/// Where to ask.
#[derive(Debug, PartialEq)]
struct Url<'a> {
    user: Option<&'a str>,
    host: &'a str,
    port: u16,
    path: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("http://")?;
        let (place, path) = rest.find('/').map_or((rest, "/"), |i| rest.split_at(i));
        let (user, place) = place.rsplit_once('@').map_or((None, place), |(u, p)| (Some(u), p));
        // An IPv6 address stands in brackets.
        let colon = place.rfind(':').filter(|&i| !place[i..].contains(']'));
        let (host, port) = match colon {
            Some(i) => (&place[..i], place[i + 1..].parse().ok()?),
            None => (place, 80),
        };
        let plain = !text.bytes().any(|b| b.is_ascii_control() || b == b' ');
        (!host.is_empty() && plain).then_some(Self { user, host, port, path })
    }
}

/// Whether a text is a URL that [`Connection::open`] understands.
pub(super) fn is_url(text: &str) -> bool {
    Url::parse(text).is_some()
}

impl Connection {
    /// Connects and asks.
    pub(super) fn open(url: &str) -> Result<Self, CameraError> {
        let Url { user, host, port, path } = Url::parse(url).ok_or_else(|| {
            CameraError::Source { text: url.to_owned(), why: "this is no http:// URL".into() }
        })?;
        let cannot = |e| CameraError::system(format!("connecting to {host}:{port}"))(e);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = (bare, port).to_socket_addrs().map_err(cannot)?;
        let mut result = Err(std::io::Error::other("the name has no address"));
        for address in addresses.take(4) {
            result = TcpStream::connect_timeout(&address, CONNECT);
            if result.is_ok() {
                break;
            }
        }
        let mut stream = result.map_err(cannot)?;
        let login = user.map(|user| format!("Authorization: Basic {}\r\n", STANDARD.encode(user)));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: kinglet\r\n\
             Accept: multipart/x-mixed-replace, image/jpeg\r\n{}Connection: close\r\n\r\n",
            login.unwrap_or_default()
        );
        stream.set_write_timeout(Some(CONNECT)).map_err(cannot)?;
        stream.write_all(request.as_bytes()).map_err(cannot)?;
        stream.set_nonblocking(true).map_err(cannot)?;
        Ok(Self { stream, read: Vec::new(), body: false, chunks: None })
    }

    /// Reads of the answer's body.
    pub(super) fn read(&mut self, to: &mut [u8], deadline: Instant) -> Result<Got, CameraError> {
        loop {
            let got = if self.body && !self.read.is_empty() {
                let n = to.len().min(self.read.len());
                to[..n].copy_from_slice(&self.read[..n]);
                self.read.drain(..n);
                Got::Bytes(n)
            } else {
                if !wait(self.stream.as_fd(), None, deadline)?.0 {
                    return Ok(Got::Wait);
                }
                got(self.stream.read(to), "the HTTP camera")?
            };
            let Got::Bytes(n) = got else { return Ok(got) };
            if !self.body {
                self.read.extend_from_slice(&to[..n]);
                self.read_head()?;
                continue;
            }
            let n = match &mut self.chunks {
                Some(chunks) => chunks.unpack(&mut to[..n]).map_err(garbage)?,
                None => n,
            };
            if n > 0 {
                return Ok(Got::Bytes(n));
            }
        }
    }

    /// Understands the head once it is whole.
    fn read_head(&mut self) -> Result<(), CameraError> {
        let Some(end) = self.read.windows(4).position(|w| w == b"\r\n\r\n") else {
            if self.read.len() > MOST_HEAD {
                return Err(garbage("an answer without an end of its head"));
            }
            return Ok(());
        };
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        self.read.drain(..end + 4);
        self.body = true;
        let mut lines = head.lines();
        let status = lines.next().unwrap_or("");
        let code = status.split(' ').nth(1).unwrap_or("");
        let field = |name: &str| {
            head.lines().filter_map(|l| l.split_once(':')).find_map(|(key, value)| {
                key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_ascii_lowercase())
            })
        };
        let refused = |why: String| CameraError::Ended { what: "the HTTP camera".into(), why };
        match code {
            "200" => {}
            "401" | "403" => {
                let how = "the URL may name them, http://USER:PASSWORD@HOST/…";
                return Err(refused(format!("it wants user and password ('{status}'): {how}")));
            }
            _ if !status.starts_with("HTTP/") => return Err(garbage("this is no HTTP")),
            _ => {
                let place = field("location").map(|l| format!(", see {l}")).unwrap_or_default();
                return Err(refused(format!("it answers '{status}'{place}")));
            }
        }
        let kind = field("content-type").unwrap_or_default();
        // ffmpeg's own server says octet-stream.
        let usable = ["multipart/", "image/jp", "application/octet-stream"];
        if !kind.is_empty() && !usable.iter().any(|usable| kind.starts_with(usable)) {
            let why = format!("it sends {kind}, no pictures; for video, name it ffmpeg:URL");
            return Err(garbage(&why));
        }
        let chunked = field("transfer-encoding").is_some_and(|value| value.contains("chunked"));
        self.chunks = chunked.then(Chunks::default);
        Ok(())
    }
}

fn garbage(why: impl Into<String>) -> CameraError {
    CameraError::Garbage { what: "the HTTP camera".into(), why: why.into() }
}

/// Takes an answer in chunks apart.
///
/// Source: RFC 9112, section 7.1.
#[derive(Debug, Default)]
struct Chunks {
    /// Bytes of the chunk that are still to come.
    left: usize,
    /// The line with the next chunk's size.
    line: Vec<u8>,
}

impl Chunks {
    /// Leaves the content alone at the front of `bytes`, and says how much it is.
    fn unpack(&mut self, bytes: &mut [u8]) -> Result<usize, &'static str> {
        let (mut from, mut to) = (0, 0);
        while from < bytes.len() {
            if self.left > 0 {
                let n = self.left.min(bytes.len() - from);
                bytes.copy_within(from..from + n, to);
                (from, to, self.left) = (from + n, to + n, self.left - n);
                continue;
            }
            let byte = bytes[from];
            from += 1;
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() > 1000 {
                    return Err("a chunk without a size");
                }
                continue;
            }
            let text = String::from_utf8_lossy(&self.line);
            let size = text.split(';').next().unwrap_or("").trim();
            // An empty line is the end of the chunk before.
            if !size.is_empty() {
                self.left =
                    usize::from_str_radix(size, 16).map_err(|_| "a chunk without a size")?;
            }
            self.line.clear();
        }
        Ok(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_have_their_parts() {
        let url = |text| Url::parse(text);
        let expected = Url { user: Some("a:b"), host: "cam", port: 8080, path: "/s?x=1" };
        assert_eq!(url("http://a:b@cam:8080/s?x=1"), Some(expected));
        let expected = Url { user: None, host: "[::1]", port: 80, path: "/" };
        assert_eq!(url("http://[::1]"), Some(expected));
        for bad in ["https://x/", "http://", "http://x:port/", "http://x/a b", "http://x/\r\nY: z"]
        {
            assert_eq!(url(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn chunks_are_put_together_whatever_the_pieces(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 1..8),
            piece in 1usize..30,
        ) {
            let mut stream = Vec::new();
            for chunk in &chunks {
                stream.extend(format!("{:x};name=value\r\n", chunk.len()).bytes());
                stream.extend(chunk);
                stream.extend(b"\r\n");
            }
            let (mut parser, mut content) = (Chunks::default(), Vec::new());
            for bytes in stream.chunks_mut(piece) {
                let n = parser.unpack(bytes).unwrap();
                content.extend_from_slice(&bytes[..n]);
            }
            prop_assert_eq!(content, chunks.concat());
        }
    }
}
