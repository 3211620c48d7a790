//! `kinglet-tools inspect`: the table and the JSON.

use std::fmt::Write as _;
use std::path::PathBuf;

use kinglet_compress::inspect::{Inspection, Layer, inspect};
use kinglet_engine::OnnxFile;

/// Show what is in a model file: layers with their shapes, types and work, and the metadata.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kinglet-tools inspect efficientnet-lite0.onnx
  kinglet-tools inspect efficientnet-lite0.onnx --json | jq .macs")]
pub(crate) struct Args {
    /// The model
    model: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let file = OnnxFile::read(&args.model)?;
    let inspection = inspect(&file)?;
    let text = if args.json {
        serde_json::to_string_pretty(&inspection)? + "\n"
    } else {
        table(&inspection) + &summary(&inspection)
    };
    crate::output::print(&text)
}

const HEADINGS: [&str; 9] =
    ["layer", "operator", "input", "output", "kernel", "weights", "activations", "MACs", "params"];

/// One line a layer, columns as wide as they need to be.
fn table(inspection: &Inspection) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(inspection.layers.iter().map(row));
    let mut widths = [0; HEADINGS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (index, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let number = index >= HEADINGS.len() - 2;
            let cell = if number { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line += &cell;
            line += "  ";
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn row(layer: &Layer) -> [String; HEADINGS.len()] {
    let shape = |shape: &Option<Vec<usize>>| match shape {
        Some(dims) => dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
        None => "?".into(),
    };
    let mut kernel = String::new();
    if let Some(sides) = &layer.kernel {
        kernel = sides.iter().map(i64::to_string).collect::<Vec<_>>().join("x");
        if let Some(stride) = layer.stride.as_ref().and_then(|s| s.first()).filter(|&&s| s != 1) {
            _ = write!(kernel, " /{stride}");
        }
        if let Some(group) = layer.group.filter(|&g| g != 1) {
            _ = write!(kernel, " g{group}");
        }
    }
    let count = |n: u64| if n == 0 { String::new() } else { thousands(n) };
    [
        layer.name.clone(),
        layer.operator.clone(),
        layer.inputs.first().map_or_else(String::new, shape),
        shape(&layer.output),
        kernel,
        layer.weights.unwrap_or("").into(),
        layer.activations.unwrap_or("?").into(),
        layer.macs.map_or_else(|| "?".into(), count),
        count(layer.parameters),
    ]
}

fn summary(inspection: &Inspection) -> String {
    let mut text = String::from("\n");
    let mut line = |name: &str, value: String| _ = writeln!(text, "{name:<12}{value}");
    line("MACs", thousands(inspection.macs));
    line(
        "parameters",
        format!(
            "{} ({:.2} MB)",
            thousands(inspection.parameters),
            inspection.parameter_bytes as f64 / 1e6
        ),
    );
    line(
        "file",
        format!("{:.2} MB, opset {}", inspection.file_bytes as f64 / 1e6, inspection.opset),
    );
    let none = || "none".to_owned();
    let metadata = &inspection.metadata;
    let preprocess = metadata.preprocess.as_ref().and_then(|p| serde_json::to_string(p).ok());
    line("preprocess", preprocess.unwrap_or_else(none));
    line("labels", metadata.labels.map_or_else(none, |n| n.to_string()));
    let samples = metadata.golden_samples.map_or_else(none, |n| format!("{n} samples"));
    line("self-test", samples);
    if let Some(least) = metadata.unknown_below {
        line("unknown", format!("best score under {least}"));
    }
    if let Some(provenance) = &metadata.provenance {
        line("name", provenance.name.clone());
        line("source", provenance.source.clone().unwrap_or_else(none));
        line("licence", provenance.licence.clone().unwrap_or_else(none));
        line("parent", provenance.parent_sha256.clone().unwrap_or_else(none));
        for (index, step) in provenance.steps.iter().enumerate() {
            line(if index == 0 { "steps" } else { "" }, step.clone());
        }
        for a in &provenance.accuracy {
            let value =
                format!("top-1 {:.3}, top-5 {:.3}, {} of {}", a.top1, a.top5, a.n, a.dataset);
            line("accuracy", value);
        }
    }
    text
}

/// 1234567 as 1,234,567.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(385_187_552), "385,187,552");
    }
}
