//! The line of a model's history: all that the result depends on.

use super::QuantizeOptions;
use super::treat::Treated;

/// What is written of a run.
pub(super) struct Record {
    /// SHA-256 of the float model's file.
    pub parent: String,
    /// The step.
    pub step: String,
}

/// The record of a run. `pictures` is the SHA-256 of the calibration pictures.
pub(super) fn record(
    options: &QuantizeOptions,
    treated: &Treated<'_>,
    parent: &str,
    pictures: &str,
) -> Record {
    let on = |on: bool| if on { "on" } else { "off" };
    let judged = treated.score.pictures;
    let against =
        if options.labelled.is_some() { "labelled" } else { "of them held out of all cures" };
    let mut step = format!(
        "compress --int8 (kinglet-tools {}, seed {}, {} calibration pictures, {judged} {against}, \
         sha256 of the folder's pictures {pictures}; weights of {} bits a channel, {}{} activations{}, \
         ranges by {}, weight search {}, bias correction {}",
        env!("CARGO_PKG_VERSION"),
        options.seed,
        treated.bench.calibration.pictures,
        options.weight_bits,
        if options.symmetric { "symmetric " } else { "" },
        if options.signed { "int8" } else { "uint8" },
        if options.pointwise_bits == 7 { ", 7 bits into pointwise convolutions" } else { "" },
        treated.calibrator.name(),
        on(options.search_weights),
        on(options.correct_bias),
    );
    for cure in treated.steps.iter().skip(1).filter(|s| s.kept) {
        step = format!("{step}; {}", cure.what);
    }
    step += ")";
    Record { parent: parent.to_owned(), step }
}
