//! What a model is, from `kinglet inspect --json`.

/// What matters of it here.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// The type that most of its multiply-accumulates run in.
    pub precision: String,
    /// Multiply-accumulates, millions.
    pub mmacs: f64,
}

impl Kind {
    /// Reads the program's answer.
    pub(super) fn parse(answer: &str) -> Result<Self, String> {
        let json: serde_json::Value = serde_json::from_str(answer).map_err(|e| e.to_string())?;
        let layers = json["layers"].as_array().ok_or("it has no layers")?;
        let macs = json["macs"].as_f64().ok_or("it has no macs")?;
        let mut sums: Vec<(&str, f64)> = Vec::new();
        for layer in layers {
            let Some(kind) = layer["data_type"].as_str() else { continue };
            let macs = layer["macs"].as_f64().unwrap_or(0.0);
            match sums.iter_mut().find(|(name, _)| *name == kind) {
                Some((_, sum)) => *sum += macs,
                None => sums.push((kind, macs)),
            }
        }
        let most = sums.iter().max_by(|a, b| a.1.total_cmp(&b.1)).ok_or("it has no layers")?;
        Ok(Self { precision: most.0.to_owned(), mmacs: macs / 1e6 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_that_of_most_of_the_work() {
        let text = r#"{"macs": 3000000, "layers": [{"data_type": "f32", "macs": 1000000},
            {"data_type": "int8", "macs": 1200000}, {"data_type": "int8", "macs": 800000}]}"#;
        assert_eq!(Kind::parse(text).unwrap(), Kind { precision: "int8".into(), mmacs: 3.0 });
        for bad in ["", "{}", r#"{"macs": 1, "layers": []}"#, r#"{"layers": [1]}"#] {
            assert!(Kind::parse(bad).is_err(), "{bad}");
        }
    }
}
