//! Measured beside what others published for the same board.

use serde::Serialize;

use super::Report;
use crate::board::{Board, Reference};

/// A published latency, and what was measured beside it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison<'a> {
    /// What was published.
    pub reference: &'a Reference,
    /// The model that was measured: of the same network, on as many threads.
    pub model: Option<String>,
    /// Its type.
    pub precision: Option<String>,
    /// Its median, ms.
    pub median_ms: Option<f64>,
    /// Measured as a multiple of what was published.
    pub ratio: Option<f64>,
}

/// Every reference of a board, each with the models that match it; those of the same type first.
#[must_use]
pub fn compare<'a>(board: &'a Board, report: &Report) -> Vec<Comparison<'a>> {
    let mut all = Vec::new();
    for reference in &board.references {
        let network = plain(&reference.model);
        let mut found: Vec<Comparison<'_>> = Vec::new();
        for model in report.models.iter().filter(|m| plain(&m.name).contains(&network)) {
            let valid = |r: &&super::Run| r.threads == reference.threads && r.invalid.is_empty();
            let Some(run) = model.runs.iter().find(valid) else { continue };
            found.push(Comparison {
                reference,
                model: Some(model.name.clone()),
                precision: Some(model.precision.clone()),
                median_ms: Some(run.median),
                ratio: Some(run.median / reference.latency_ms),
            });
        }
        if found.is_empty() {
            let none = Comparison {
                reference,
                model: None,
                precision: None,
                median_ms: None,
                ratio: None,
            };
            found.push(none);
        }
        found.sort_by_key(|c| c.precision.as_deref() != Some(&reference.precision));
        all.extend(found);
    }
    all
}

/// Letters and digits alone, in small letters: `EfficientNet-B0` and `efficientnet_b0` are one.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}
