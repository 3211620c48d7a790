//! What a release says of itself, in the part of its signature that is signed too.

use std::fmt;

use crate::error::UpdateError;

/// Largest number of a release: numbers made of a date and a time fit.
pub const MAX_NUMBER: u64 = 999_999_999_999_999;
/// Characters of a release's name.
const LONGEST_NAME: usize = 64;

/// What a release replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The model, an ONNX file.
    Model,
    /// The program itself.
    App,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Model, Self::App];

    /// As it stands in signatures and on the command line; the folder of the track.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::App => "app",
        }
    }

    /// The file in a slot.
    #[must_use]
    pub fn payload(self) -> &'static str {
        match self {
            Self::Model => "model.onnx",
            Self::App => "kinglet",
        }
    }

    /// Largest file, bytes.
    #[must_use]
    pub fn max_bytes(self) -> u64 {
        match self {
            Self::Model => 1 << 30,
            Self::App => 256 << 20,
        }
    }

    /// The kind of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What a release is: the trusted comment `kinglet kind=model release=12 name=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// What it replaces.
    pub kind: Kind,
    /// Grows from release to release, 1 to [`MAX_NUMBER`].
    pub number: u64,
    /// For people: 1 to 64 letters, digits, `.`, `_`, `+` and `-`, no dot first.
    pub name: String,
}

impl Release {
    /// A release that can be signed.
    ///
    /// # Errors
    /// [`UpdateError::Release`]: number or name is out of range.
    pub fn new(kind: Kind, number: u64, name: &str) -> Result<Self, UpdateError> {
        let refused = |why: String| Err(UpdateError::Release(why));
        if !(1..=MAX_NUMBER).contains(&number) {
            return refused(format!("its number is {number}, not 1 to {MAX_NUMBER}"));
        }
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"._+-".contains(&c);
        if name.is_empty()
            || name.len() > LONGEST_NAME
            || name.starts_with('.')
            || !name.bytes().all(plain)
        {
            return refused(format!(
                "its name is not 1 to {LONGEST_NAME} letters, digits, '.', '_', '+' and '-', no dot first"
            ));
        }
        Ok(Self { kind, number, name: name.to_owned() })
    }

    /// Reads a trusted comment; nothing but the one way to write it is understood.
    ///
    /// # Errors
    /// [`UpdateError::Release`] saying what is missing.
    pub fn parse(comment: &str) -> Result<Self, UpdateError> {
        let refused = |why: &str| UpdateError::Release(why.to_owned());
        let form = || {
            let mut words = comment.split(' ');
            let kinglet = words.next()?;
            let kind = words.next()?.strip_prefix("kind=")?;
            let number = words.next()?.strip_prefix("release=")?;
            let name = words.next()?.strip_prefix("name=")?;
            (kinglet == "kinglet" && words.next().is_none()).then_some((kind, number, name))
        };
        let (kind, number, name) = form().ok_or_else(|| {
            refused("its trusted comment is not 'kinglet kind=… release=… name=…'")
        })?;
        let kind =
            Kind::parse(kind).ok_or_else(|| refused("its kind is neither 'model' nor 'app'"))?;
        let digits = number.len() <= 15 && number.bytes().all(|c| c.is_ascii_digit());
        let number = match number.parse() {
            Ok(number) if digits && !number_has_other_form(comment, number) => number,
            _ => return Err(refused("its number is no plain number")),
        };
        Self::new(kind, number, name)
    }
}

/// Whether a comment writes its number in another way, with zeros before it.
fn number_has_other_form(comment: &str, number: u64) -> bool {
    !comment.contains(&format!(" release={number} "))
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, number, name } = self;
        write!(f, "kinglet kind={} release={number} name={name}", kind.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_read_as_it_is_written() {
        let release = Release::new(Kind::Model, 12, "birds-v2.onnx").unwrap();
        assert_eq!(release.to_string(), "kinglet kind=model release=12 name=birds-v2.onnx");
        assert_eq!(Release::parse(&release.to_string()).unwrap(), release);
        let largest = Release::new(Kind::App, MAX_NUMBER, &"x".repeat(64)).unwrap();
        assert_eq!(Release::parse(&largest.to_string()).unwrap(), largest);
    }

    #[test]
    fn nothing_else_is_read() {
        for comment in [
            "",
            "timestamp:1633700835\tfile:test\tprehashed",
            "kinglet kind=model release=12",
            "kinglet kind=model release=12 name=",
            "kinglet kind=model release=12 name=x ",
            "kinglet kind=model release=12 name=x more",
            " kinglet kind=model release=12 name=x",
            "kinglet  kind=model release=12 name=x",
            "kinglet kind=Model release=12 name=x",
            "kinglet kind=firmware release=12 name=x",
            "kinglet kind=model release=0 name=x",
            "kinglet kind=model release=012 name=x",
            "kinglet kind=model release=+12 name=x",
            "kinglet kind=model release=-1 name=x",
            "kinglet kind=model release=1e3 name=x",
            "kinglet kind=model release= name=x",
            "kinglet kind=model release=1000000000000000 name=x",
            "kinglet kind=model release=99999999999999999999999 name=x",
            "kinglet release=12 kind=model name=x",
            "kinglet kind=model release=12 name=../x",
            "kinglet kind=model release=12 name=.x",
            "kinglet kind=model release=12 name=a/b",
            "kinglet kind=model release=12 name=a\0b",
            "kinglet kind=model release=12 name=a\u{202e}b",
            "kinglet\tkind=model release=12 name=x",
        ] {
            assert!(Release::parse(comment).is_err(), "{comment:?}");
        }
        assert!(
            Release::parse(&format!("kinglet kind=app release=1 name={}", "x".repeat(65))).is_err()
        );
    }
}
