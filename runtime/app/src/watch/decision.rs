//! What was decided about one picture, or one region of it.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use crate::decide::State;

/// One decision; a line of JSON.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Decision {
    /// Wall clock, when it was made.
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: SystemTime,
    /// The frame's number.
    pub(crate) frame: u64,
    /// The picture's file, if it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) file: String,
    /// The region's name, if there are regions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<String>,
    /// A label (or `class 17` without labels), `unknown`, or null: no class is sure enough.
    pub(crate) decision: Option<String>,
    /// The class's index, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<usize>,
    /// Whether it differs from the decision before.
    pub(crate) changed: bool,
    /// The camera is lost, and with it what was decided.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) lost: bool,
    /// The best smoothed scores.
    pub(crate) top: Vec<Entry>,
    /// From the frame's capture to the decision, ms.
    pub(crate) latency_ms: f64,
    /// Preprocessing alone, ms.
    pub(crate) prepare_ms: f64,
    /// The model alone, ms.
    pub(crate) model_ms: f64,
}

/// One class.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    /// Its index.
    pub(crate) index: usize,
    /// Its name.
    pub(crate) label: String,
    /// Its smoothed score, 0..=1.
    pub(crate) score: f32,
}

impl Default for Decision {
    fn default() -> Self {
        Self {
            time: SystemTime::now(),
            frame: 0,
            file: String::new(),
            region: None,
            decision: None,
            index: None,
            changed: false,
            lost: false,
            top: Vec::new(),
            latency_ms: 0.0,
            prepare_ms: 0.0,
            model_ms: 0.0,
        }
    }
}

impl Decision {
    /// What was decided.
    pub(crate) fn state(&self) -> State {
        match (self.index, &self.decision) {
            (Some(index), _) => State::Class(index),
            (None, Some(_)) => State::Unknown,
            (None, None) => State::Nothing,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = format_time(self.time);
        write!(f, "{}  ", &time[11..23])?;
        if !self.file.is_empty() {
            write!(f, "{}: ", self.file)?;
        }
        if let Some(region) = &self.region {
            write!(f, "{region}: ")?;
        }
        write!(f, "{}", self.decision.as_deref().unwrap_or("-"))?;
        if self.lost {
            return write!(f, "  (the camera is lost)");
        }
        for (place, entry) in self.top.iter().enumerate() {
            let between = if place == 0 { "  [" } else { ", " };
            write!(f, "{between}{} {:.1} %", entry.label, entry.score * 100.0)?;
        }
        let end = if self.top.is_empty() { "" } else { "]" };
        write!(f, "{end}  {:.1} ms", self.prepare_ms + self.model_ms)
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_time(*time))
}

/// `2026-11-24T18:00:00.000Z`. Before 1970 and after 9999 it is a time that cannot be.
pub(crate) fn format_time(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Howard Hinnant's civil_from_days, for days from 1970 on.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = (year_of_era + era * 400 + u64::from(month <= 2)).min(9999);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_796_083_201, "2026-12-01T00:00:01"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            let time = format_time(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(time, format!("{expected}.000Z"));
        }
    }

    #[test]
    fn a_line_says_what_where_and_how_sure() {
        let decision = Decision {
            time: UNIX_EPOCH + Duration::from_millis(1),
            frame: 3,
            region: Some("left".into()),
            decision: Some("tabby".into()),
            index: Some(281),
            top: vec![Entry { index: 281, label: "tabby".into(), score: 0.5 }],
            model_ms: 2.0,
            ..Decision::default()
        };
        assert_eq!(decision.to_string(), "00:00:00.001  left: tabby  [tabby 50.0 %]  2.0 ms");
        let json = serde_json::to_string(&decision).unwrap();
        assert!(
            json.starts_with(r#"{"time":"1970-01-01T00:00:00.001Z","frame":3,"region":"left","#)
        );
        assert!(!json.contains("lost"));
    }
}
