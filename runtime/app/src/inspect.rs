//! `kinglet inspect`: the execution report.

use std::io::Write;
use std::path::PathBuf;

use kinglet_engine::report::Report;
use serde::Serialize;

use crate::exit::{Done, Outcome};
use crate::load::{self, ModelArgs};

/// Options of `inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kinglet inspect model.onnx\n  \
    kinglet inspect --require-int8 --json model.onnx")]
pub(crate) struct Args {
    /// The model; the same as --model.
    #[arg(value_name = "MODEL", conflicts_with = "model")]
    file: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Run once and show the time of each layer.
    #[arg(long)]
    time: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct JsonLayer<'a> {
    name: &'a str,
    operation: &'a str,
    data_type: &'a str,
    kernel: &'a str,
    shape: &'a [usize],
    macs: u64,
    time_us: Option<f64>,
}

/// Runs `inspect`.
pub(crate) fn run(args: &Args) -> Outcome {
    let mut model = args.model.clone();
    model.model = args.file.clone().or(model.model);
    let (path, mut session) = model.load()?;
    let report = if args.time {
        let input = session.sample_input();
        session.run(&input)?;
        session.profile(&input)?
    } else {
        session.report()
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        let mut json = json(&report);
        json["tuned"] = load::tuned_layers(&session).into();
        serde_json::to_writer(&mut out, &json)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", path.display())?;
        print(&mut out, &report)?;
        if let Some(tuned) = load::tuned(&session) {
            writeln!(out, "tuned: {tuned}")?;
        }
    }
    Ok(Done::Well)
}

fn json(report: &Report) -> serde_json::Value {
    let layers: Vec<_> = report
        .layers
        .iter()
        .map(|l| JsonLayer {
            name: &l.name,
            operation: &l.operation,
            data_type: l.data_type,
            kernel: &l.kernel,
            shape: &l.shape,
            macs: l.macs,
            time_us: l.time.map(|t| t.as_secs_f64() * 1e6),
        })
        .collect();
    let (macs, int8_macs) = report.macs();
    serde_json::json!({
        "isa": report.isa, "threads": report.threads, "stored": report.stored,
        "macs": macs, "int8_macs": int8_macs, "arena_bytes": report.arena_bytes,
        "float_convolutions": report.float_convs.iter()
            .map(|(name, why)| serde_json::json!({"name": name, "why": why})).collect::<Vec<_>>(),
        "tract_convolutions": report.tract_convs.iter()
            .map(|(name, why)| serde_json::json!({"name": name, "why": why})).collect::<Vec<_>>(),
        "layers": layers,
    })
}

/// Prints the report: a line a layer, then sums.
pub(crate) fn print(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    let widths = report.layers.iter().fold((5, 9, 6), |(a, b, c), l| {
        (a.max(l.name.len()), b.max(l.operation.len()), c.max(l.kernel.len()))
    });
    let (name, operation, kernel) = widths;
    let timed = report.layers.iter().any(|l| l.time.is_some());
    write!(
        out,
        "{:name$}  {:operation$}  type  {:kernel$}  {:>16}  {:>11}",
        "layer", "operation", "kernel", "output", "MACs"
    )?;
    writeln!(out, "{}", if timed { "      us" } else { "" })?;
    for l in &report.layers {
        let shape: Vec<String> = l.shape.iter().map(usize::to_string).collect();
        write!(
            out,
            "{:name$}  {:operation$}  {:4}  {:kernel$}  {:>16}  {:>11}",
            l.name,
            l.operation,
            l.data_type,
            l.kernel,
            shape.join("x"),
            l.macs
        )?;
        match l.time {
            Some(time) => writeln!(out, "{:8.1}", time.as_secs_f64() * 1e6)?,
            None => writeln!(out)?,
        }
    }
    let (macs, int8) = report.macs();
    writeln!(
        out,
        "{} layers, {:.1} M MACs, {:.1} % of them in int8; kernels: {}; threads: {}; float tensors \
         stored in {}; activations: {} KiB",
        report.layers.len(),
        macs as f64 / 1e6,
        if macs == 0 { 0.0 } else { int8 as f64 / macs as f64 * 100.0 },
        report.isa,
        report.threads,
        report.stored,
        report.arena_bytes / 1024
    )?;
    if !report.tract_convs.is_empty() {
        writeln!(out, "convolutions that tract runs:")?;
        for (name, why) in &report.tract_convs {
            writeln!(out, "  {name}: {why}")?;
        }
    }
    if !report.float_convs.is_empty() && int8 > 0 {
        writeln!(out, "convolutions that stay in float:")?;
        for (name, why) in &report.float_convs {
            writeln!(out, "  {name}: {why}")?;
        }
    }
    Ok(())
}
