//! What a student is, in one line: `lite0,width=0.5,depth=0.5,size=128`.

use std::fmt;
use std::str::FromStr;

use kinglet_compress::arch::{self, Arch, Family, Network};

/// Longest line that is looked at, bytes.
const LONGEST: usize = 200;

/// A student: a family member with its width, its depth and its input changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// The member's name in [`kinglet_compress::arch::ALL`].
    pub member: &'static str,
    /// Channels are multiplied by it, 0.1..=4.
    pub width: f64,
    /// Blocks of a stage are multiplied by it, 0.1..=4.
    pub depth: f64,
    /// Side of the input, pixels, 32..=1024.
    pub size: u32,
}

/// Why a line describes no student.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("student '{text}': {why}; an example: lite0,width=0.5,depth=0.5,size=128")]
pub struct SpecError {
    /// The line.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl Spec {
    /// The member, scaled.
    #[must_use]
    pub fn arch(&self) -> Arch {
        let member = Arch::find(self.member).expect("a Spec holds the name of a member");
        member.scaled(self.width, self.depth, self.size)
    }

    /// The network with all its channels.
    #[must_use]
    pub fn network(&self, classes: usize) -> Network {
        self.arch().network(classes)
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { member, width, depth, size } = self;
        write!(f, "{member},width={width},depth={depth},size={size}")
    }
}

impl FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let bad = |why: String| {
            let text: String = text.chars().take(LONGEST).collect();
            SpecError { text, why }
        };
        if text.len() > LONGEST {
            return Err(bad(format!("longer than {LONGEST} bytes")));
        }
        let mut parts = text.split(',').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let member = member(name).map_err(bad)?;
        let size = member.resolution;
        let mut spec = Self { member: member.name, width: 1.0, depth: 1.0, size };
        let mut seen = Vec::new();
        for part in parts {
            let (key, value) =
                part.split_once('=').ok_or_else(|| bad(format!("'{part}' is not KEY=VALUE")))?;
            let (key, value) = (key.trim(), value.trim());
            if seen.contains(&key) {
                return Err(bad(format!("{key} is given twice")));
            }
            let factor = || match value.parse::<f64>() {
                Ok(factor) if (0.1..=4.0).contains(&factor) => Ok(factor),
                _ => Err(bad(format!("{key} '{value}' is no number in 0.1..=4"))),
            };
            match key {
                "width" => spec.width = factor()?,
                "depth" => spec.depth = factor()?,
                "size" => {
                    spec.size =
                        value.parse().ok().filter(|size| (32..=1024).contains(size)).ok_or_else(
                            || bad(format!("size '{value}' is no number in 32..=1024")),
                        )?;
                }
                _ => return Err(bad(format!("'{key}' is none of width, depth, size"))),
            }
            seen.push(key);
        }
        Ok(spec)
    }
}

/// A member by its name, or by its name without `efficientnet-`.
fn member(name: &str) -> Result<&'static Arch, String> {
    let trained = |a: &&Arch| a.family == Family::Lite;
    let found = Arch::find(name).or_else(|| Arch::find(&format!("efficientnet-{name}")));
    let known = || {
        let names = arch::ALL.iter().filter(trained);
        names.map(|a| a.name.trim_start_matches("efficientnet-")).collect::<Vec<_>>().join(", ")
    };
    match found {
        Some(found) if trained(&found) => Ok(found),
        Some(_) => Err(format!("'{name}' cannot be trained here; students are: {}", known())),
        None => Err(format!("there is no '{name}'; students are: {}", known())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_student_is_read_and_written() {
        let spec: Spec = "lite0,width=0.5,depth=0.5,size=128".parse().unwrap();
        assert_eq!(spec.to_string(), "efficientnet-lite0,width=0.5,depth=0.5,size=128");
        assert_eq!(spec.to_string().parse::<Spec>().unwrap(), spec);
        let network = spec.network(2);
        let blocks: Vec<_> = network.blocks.iter().map(|b| b.output).collect();
        assert_eq!(blocks, [8, 16, 24, 40, 40, 56, 56, 96, 96, 160]);
        let whole: Spec = "EfficientNet_Lite0".parse().unwrap();
        assert_eq!((whole.width, whole.depth, whole.size), (1.0, 1.0, 224));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("", "there is no ''"),
            ("lite9", "students are: lite0, lite1"),
            ("b0", "cannot be trained here"),
            ("lite0,width", "'width' is not KEY=VALUE"),
            ("lite0,width=0", "width '0' is no number in 0.1..=4"),
            ("lite0,width=NaN", "no number"),
            ("lite0,depth=1,depth=1", "depth is given twice"),
            ("lite0,size=12", "size '12' is no number in 32..=1024"),
            ("lite0,colour=1", "'colour' is none of width, depth, size"),
        ] {
            let error = text.parse::<Spec>().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(error.contains("an example"), "{error}");
        }
        assert!("lite0,".repeat(1000).parse::<Spec>().is_err());
    }
}
