//! What may be chosen in a training; everything has a default.

use serde::{Deserialize, Serialize};

use crate::error::DistillError;
use crate::spec::{Spec, SpecError};

/// A training that a file describes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// The student, as [`Spec`] is written.
    pub student: Option<String>,
    /// The settings.
    pub training: Config,
}

impl Recipe {
    /// Reads a recipe: TOML.
    ///
    /// # Errors
    /// [`DistillError::Setting`] saying what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, DistillError> {
        let bad = |e: toml::de::Error| DistillError::Setting { what: "recipe", why: e.to_string() };
        toml::from_str(text).map_err(bad)
    }

    /// The student, if the recipe names one.
    ///
    /// # Errors
    /// [`SpecError`] saying what is wrong.
    pub fn spec(&self) -> Result<Option<Spec>, SpecError> {
        self.student.as_deref().map(str::parse).transpose()
    }
}

/// The settings of a training, as they stand in a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Steps of the optimizer, the quantized ones included, 1..=10 million.
    pub steps: usize,
    /// Pictures in a step, 2..=4096.
    pub batch: usize,
    /// Share of unlabelled pictures in a batch, where there are any, 0..1.
    pub unlabelled: f32,
    /// Views made of each picture, 1..=256. The teachers look at each once.
    pub views: usize,
    /// Learning rate after the warm-up, over 0.
    pub rate: f32,
    /// Steps in which the learning rate rises from zero; then it falls along a cosine.
    pub warmup: usize,
    /// Decay of the weights in each step, times the learning rate.
    pub decay: f32,
    /// Temperature of the soft labels, 1..=100.
    pub temperature: f32,
    /// Weight of the labels' loss (cross entropy).
    pub hard: f32,
    /// Weight of the teachers' loss (KL divergence times the squared temperature).
    pub soft: f32,
    /// Weight of the loss against the teachers' features.
    pub hint: f32,
    /// Parameter of the beta distribution that mixes two pictures; 0 mixes none.
    pub mixup: f64,
    /// Share of the old in the moving average of the weights, 0..1.
    pub average: f32,
    /// Share of the steps, at the end, that train on the grids of int8, 0..1.
    pub quantized: f32,
    /// Seed of everything that is random.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            steps: 1000,
            batch: 32,
            unlabelled: 0.25,
            views: 8,
            rate: 1e-3,
            warmup: 50,
            decay: 0.02,
            temperature: 2.0,
            hard: 0.3,
            soft: 1.0,
            hint: 0.1,
            mixup: 0.2,
            average: 0.99,
            quantized: 0.15,
            seed: 0,
        }
    }
}

impl Config {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`DistillError::Setting`] naming the setting.
    pub fn check(&self) -> Result<(), DistillError> {
        let bad = |what, why: String| Err(DistillError::Setting { what, why });
        let counts = [
            ("steps", self.steps, 1, 10_000_000),
            ("batch", self.batch, 2, 4096),
            ("views", self.views, 1, 256),
            ("warmup", self.warmup, 0, 10_000_000),
        ];
        for (what, value, least, most) in counts {
            if !(least..=most).contains(&value) {
                return bad(what, format!("{value} is outside {least}..={most}"));
            }
        }
        let numbers = [
            ("rate", self.rate, f32::MIN_POSITIVE, 10.0),
            ("decay", self.decay, 0.0, 10.0),
            ("temperature", self.temperature, 1.0, 100.0),
            ("hard", self.hard, 0.0, 1e3),
            ("soft", self.soft, 0.0, 1e3),
            ("hint", self.hint, 0.0, 1e3),
            ("mixup", self.mixup as f32, 0.0, 10.0),
            ("average", self.average, 0.0, 0.999_999),
            ("quantized", self.quantized, 0.0, 0.99),
            ("unlabelled", self.unlabelled, 0.0, 0.99),
        ];
        for (what, value, least, most) in numbers {
            if !(least..=most).contains(&value) {
                return bad(what, format!("{value} is outside {least}..={most}"));
            }
        }
        Ok(())
    }

    /// The first step of the quantized phase; [`Config::steps`] where there is none.
    #[must_use]
    pub fn quantized_from(&self) -> usize {
        self.steps - (self.steps as f32 * self.quantized).round() as usize
    }

    /// The learning rate of a step: linear warm-up, then half a cosine down to a hundredth.
    ///
    /// Source: Loshchilov and Hutter, "SGDR", 2017, without restarts.
    #[must_use]
    pub fn rate_of(&self, step: usize) -> f32 {
        let warmup = self.warmup.min(self.steps / 2);
        if step < warmup {
            return self.rate * (step + 1) as f32 / warmup as f32;
        }
        let done = (step - warmup) as f64 / (self.steps - warmup).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        self.rate * (0.01 + 0.99 * cosine) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls() {
        let config = Config { steps: 100, warmup: 10, rate: 1.0, ..Config::default() };
        let rates: Vec<f32> = (0..100).map(|s| config.rate_of(s)).collect();
        assert!(rates[..10].is_sorted() && rates[10..].is_sorted_by(|a, b| a >= b));
        assert!((rates[9] - 1.0).abs() < 1e-6 && rates[99] < 0.02, "{rates:?}");
        assert_eq!(Config { quantized: 0.2, ..config }.quantized_from(), 80);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (text, what) in [
            ("steps = 0", "steps"),
            ("batch = 1", "batch"),
            ("rate = 0.0", "rate"),
            ("temperature = 0.5", "temperature"),
            ("average = 1.0", "average"),
            ("hard = nan", "hard"),
        ] {
            let config: Config = toml::from_str(text).unwrap();
            assert!(config.check().unwrap_err().to_string().starts_with(what), "{text}");
        }
        assert!(toml::from_str::<Config>("stepz = 1").is_err());
    }
}
