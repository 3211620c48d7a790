//! Finding by time what is fastest on a board, once, and keeping it beside the model.
//!
//! Only what changes no bit of a result is chosen ([`crate::choices`]). [`search`] times, [`text`]
//! gives the file [`beside`] the model, and [`crate::Session::load`] takes it up where
//! [`crate::Options::tuned_for`] asks for it.

mod file;
mod search;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kinglet_kernels::Isa;

pub use file::{Conditions, beside, text};
pub use search::search;

use crate::choices::{Choice, Choices};
use crate::session::Options;

/// What was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chosen {
    /// By the layer's name: what was chosen, and the share of its time that it won.
    pub layers: BTreeMap<String, (Choice, f64)>,
    /// The share of its time that a choice had to win: 2 %, or more where times were noisy.
    pub margin: f64,
    /// Least times of one inference without and with what was chosen, ms.
    pub times_ms: [f64; 2],
}

/// What all choices together must win of the whole model's time.
const WHOLE_MARGIN: f64 = 0.005;

impl Chosen {
    /// Whether the whole model is faster with what was chosen.
    #[must_use]
    pub fn pays(&self) -> bool {
        let [usual, tuned] = self.times_ms;
        tuned < usual * (1.0 - WHOLE_MARGIN)
    }

    /// As a plan takes it.
    #[must_use]
    pub fn choices(&self) -> Choices {
        let layers = self.layers.iter().map(|(name, &(choice, _))| (name.clone(), choice));
        Choices { layers: layers.collect(), ..Choices::default() }
    }
}

/// What came of the file beside a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Tuning {
    /// There is none, or it was not looked for.
    #[default]
    None,
    /// Taken up.
    Taken {
        /// The file.
        file: PathBuf,
        /// Layers for which it chooses something.
        layers: usize,
    },
    /// Not taken up.
    Ignored {
        /// The file.
        file: PathBuf,
        /// Why, in words.
        why: String,
    },
}

/// Looks for choices beside a model, and puts them into the options if they are for this machine.
pub(crate) fn take_up(model: &Path, options: &mut Options) -> Tuning {
    let file = beside(model);
    let Some(cpu) = options.tuned_for.as_deref() else { return Tuning::None };
    if std::fs::symlink_metadata(&file).is_err() {
        return Tuning::None;
    }
    // What an unusable instruction set leads to is said where the plan is made.
    let Some(isa) = options.isa.or_else(|| Isa::select().ok()) else { return Tuning::None };
    let now = Conditions::new(model, cpu, isa.name(), options.threads);
    match now.map_err(|e| e.to_string()).and_then(|now| file::read(&file, &now)) {
        Ok(chosen) => {
            options.choices = chosen.choices();
            Tuning::Taken { file, layers: chosen.layers.len() }
        }
        Err(why) => Tuning::Ignored { file, why },
    }
}
