//! minisign's public keys and signatures, read strictly, and a file verified as it goes by.
//!
//! The cryptography is minisign-verify's. What is added is that there is one way to write each: what a
//! lenient reader would skip (more lines, other line ends, a key that names another algorithm) is refused.

use std::path::Path;

use minisign_verify::{PublicKey, StreamVerifier};

use crate::error::UpdateError;
use crate::release::Release;

/// Largest file of a signature, bytes; the comments are what may be long.
pub const MAX_SIGNATURE_BYTES: usize = 4096;
/// Largest file of a public key, bytes.
const MAX_KEY_BYTES: u64 = 4096;

/// A public key that releases are verified with.
#[derive(Debug, Clone)]
pub struct Key(PublicKey);

impl Key {
    /// Reads a key's file: a comment, and the key as minisign writes it.
    ///
    /// # Errors
    /// [`UpdateError::Key`]: there is no such file, or it holds no key.
    pub fn read(path: &Path) -> Result<Self, UpdateError> {
        let failed = |why: String| UpdateError::Key { path: path.to_owned(), why };
        // Before it is opened: opening a pipe waits for a writer.
        let info = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?;
        if !info.is_file() || info.len() > MAX_KEY_BYTES {
            return Err(failed("no file of a minisign public key".into()));
        }
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        Self::parse(&text).map_err(failed)
    }

    /// Reads the text of a key's file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some([comment, key]) = lines(text) else {
            return Err("not two lines, a comment and a key".into());
        };
        if !comment.starts_with("untrusted comment: ") {
            return Err("its first line is no 'untrusted comment: …'".into());
        }
        // The algorithm, Ed, is the first 16 bits; the library also takes that of signatures.
        let plain = key.as_bytes().starts_with(b"RW")
            && key.as_bytes().get(2).is_some_and(|c| (b'Q'..=b'T').contains(c));
        if !plain {
            return Err("its second line is no minisign public key".into());
        }
        PublicKey::from_base64(key).map(Self).map_err(|error| error.to_string())
    }
}

/// A detached signature that was read and not yet verified: what it says is not to be believed.
#[derive(Clone)]
pub struct Signature {
    inner: minisign_verify::Signature,
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature that says '{}'", self.inner.trusted_comment())
    }
}

impl Signature {
    /// Reads the bytes of a `.minisig`.
    ///
    /// # Errors
    /// [`UpdateError::Signature`]: they are none.
    pub fn parse(bytes: &[u8]) -> Result<Self, UpdateError> {
        let refused = |why: &str| UpdateError::Signature(why.to_owned());
        if bytes.len() > MAX_SIGNATURE_BYTES {
            return Err(refused(&format!("it has more than {MAX_SIGNATURE_BYTES} bytes")));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| refused("it is no text"))?;
        let [untrusted, _, trusted, _] =
            lines(text).ok_or_else(|| refused("it is no minisign signature of four lines"))?;
        if !untrusted.starts_with("untrusted comment: ")
            || !trusted.starts_with("trusted comment: ")
        {
            return Err(refused("it has not minisign's two comments"));
        }
        let inner = minisign_verify::Signature::decode(text)
            .map_err(|error| UpdateError::Signature(error.to_string()))?;
        Ok(Self { inner })
    }

    /// Begins to verify a file with a key.
    ///
    /// # Errors
    /// [`UpdateError::Signature`]: it is of another key, or of minisign's old form that cannot be verified as
    /// a file goes by.
    pub fn verify<'a>(&'a self, key: &'a Key) -> Result<Verifier<'a>, UpdateError> {
        let inner = key.0.verify_stream(&self.inner).map_err(|error| {
            UpdateError::Signature(match error {
                minisign_verify::Error::UnexpectedKeyId => "it was made with another key".into(),
                minisign_verify::Error::UnsupportedLegacyMode => {
                    "it is of minisign's old form; sign without -l".into()
                }
                other => other.to_string(),
            })
        })?;
        Ok(Verifier { inner, comment: self.inner.trusted_comment() })
    }

    /// Verifies bytes that are at hand.
    ///
    /// # Errors
    /// As [`Self::verify`] and [`Verifier::finish`].
    pub fn verify_bytes(&self, key: &Key, bytes: &[u8]) -> Result<Release, UpdateError> {
        let mut verifier = self.verify(key)?;
        verifier.update(bytes);
        verifier.finish()
    }
}

/// A file that goes by.
pub struct Verifier<'a> {
    inner: StreamVerifier<'a>,
    comment: &'a str,
}

impl Verifier<'_> {
    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
    }

    /// That was all of them. Only now is there a release: what was signed, by the key.
    ///
    /// # Errors
    /// [`UpdateError::Signature`]: file or comment are not those that were signed;
    /// [`UpdateError::Release`]: they are, but the comment is of something else.
    pub fn finish(mut self) -> Result<Release, UpdateError> {
        self.inner
            .finalize()
            .map_err(|_| UpdateError::Signature("it is not of this file, or was changed".into()))?;
        Release::parse(self.comment)
    }
}

/// The lines of a text of exactly so many, each ended by a line feed, the last one perhaps not.
fn lines<const N: usize>(text: &str) -> Option<[&str; N]> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let plain = |line: &&str| !line.chars().any(|c| c.is_control() && c != '\t');
    let found: Vec<&str> = text.split('\n').filter(plain).collect();
    let all = text.bytes().filter(|b| *b == b'\n').count() + 1;
    (found.len() == all).then_some(found)?.try_into().ok()
}
