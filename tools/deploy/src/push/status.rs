//! What a board says of its releases: the answer of `kinglet update status --json`.

use serde::{Deserialize, Serialize};

use super::{Kind, Release};

/// Both tracks of a board.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The model.
    #[serde(default)]
    pub model: Option<Track>,
    /// The program.
    #[serde(default)]
    pub app: Option<Track>,
}

/// What runs of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// `a` or `b`; none before the first release.
    #[serde(default)]
    pub slot: Option<String>,
    /// The release's number; none where what the board was set up with runs.
    #[serde(default)]
    pub release: Option<u64>,
    /// Its hash.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// `trial`, `good`, for a moment `failed`, or `factory`: what the board was set up with.
    #[serde(default)]
    pub state: String,
    /// How often it was begun on trial.
    #[serde(default)]
    pub tries: u32,
    /// What happened last.
    #[serde(default)]
    pub last: Option<Last>,
}

/// What happened last to a track.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// `installed`, `confirmed` or `rolled back`.
    #[serde(default)]
    pub outcome: String,
    /// Why, where there is a reason.
    #[serde(default)]
    pub why: Option<String>,
}

impl Status {
    /// The track of a kind.
    #[must_use]
    pub fn track(&self, kind: Kind) -> Option<&Track> {
        match kind {
            Kind::Model => self.model.as_ref(),
            Kind::App => self.app.as_ref(),
        }
    }
}

impl Track {
    /// Whether it is this very release.
    #[must_use]
    pub fn is(&self, release: &Release) -> bool {
        let same = |hash: &String| hash.eq_ignore_ascii_case(&release.sha256);
        self.release == Some(release.number) && self.sha256.as_ref().is_some_and(same)
    }

    /// Which release, for people.
    #[must_use]
    pub fn what(&self) -> String {
        match (self.release, self.name.as_deref()) {
            (Some(number), Some(name)) => format!("release {number} ({name})"),
            (Some(number), None) => format!("release {number}"),
            _ => "what it was set up with".into(),
        }
    }

    /// In a line, for people.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { state, tries, .. } = self;
        let slot = self.slot.as_deref().unwrap_or("-");
        let hash = self.sha256.as_deref().unwrap_or("-");
        let mut line = self.what();
        if self.release.is_some() {
            line += &format!(", {state}, slot {slot}, sha256 {}", hash.get(..12).unwrap_or(hash));
        }
        if state == "trial" {
            line += &format!(", begun {tries} time(s)");
        }
        if let Some(last) = &self.last {
            line += &format!("; last: {}", last.outcome);
            if let Some(why) = last.why.as_deref().filter(|w| !w.is_empty()) {
                line += &format!(" ({why})");
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_what_is_unknown_in_it_passed_over() {
        let text = r#"{"model":{"slot":"b","release":12,"sha256":"AB","name":"m.onnx","state":"trial","tries":1,
            "since":5,"last":{"outcome":"installed","why":null}},"app":null,"more":1}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        let track = status.track(Kind::Model).unwrap();
        assert!(track.line().contains("release 12 (m.onnx), trial, slot b"), "{}", track.line());
        assert_eq!(status.track(Kind::App), None);
        let text = r#"{"app":{"slot":null,"release":null,"sha256":null,"name":null,"state":"factory","tries":0,
            "highest":3,"last":{"outcome":"rolled back","why":"it does not start"}}}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        let line = status.track(Kind::App).unwrap().line();
        assert_eq!(line, "what it was set up with; last: rolled back (it does not start)");
    }
}
