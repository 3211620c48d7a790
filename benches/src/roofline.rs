//! `kinglet-benches roofline`: each layer shape of EfficientNet-Lite0 against its roof.
//!
//! The roof of a layer is the lower of two: the peak of the arithmetic that its kernel does, and
//! the speed at which its bytes (input, weights as int8, output; each once) can be read from the
//! smallest level that holds them. "Of roof" is the layer's rate over that.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, bail};
use kinglet_benches::machine;
use kinglet_benches::measure::{self, Rate, Reading};
use kinglet_kernels::catalogue::{Entry, Layer, Op, SEVEN_BITS, efficientnet_lite0};
use kinglet_kernels::{InputCodes, Isa, peak};
use serde::Serialize;

/// Time each layer of EfficientNet-Lite0, against what the core can do at most
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Instruction set of the kernels; all that this CPU has: `all` [default: the best]
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// Least number of timed runs of each layer
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The input's codes are promised to span seven bits, not eight
    #[arg(long)]
    seven_bits: bool,
    /// One JSON object a line and instruction set
    #[arg(long)]
    json: bool,
    /// Also write roofline-ISA.md and .svg into benches/results/CPU/
    #[arg(long)]
    out: bool,
}

/// One layer shape.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    times: usize,
    kernel: &'static str,
    macs: u64,
    us: f64,
    gmac_per_s: f64,
    /// The loop or the level of memory that bounds it.
    bound: String,
    roof_gmac_per_s: f64,
    of_roof: f64,
}

/// All layers of one operation, or of the network.
#[derive(Debug, Serialize)]
struct Sum {
    name: String,
    us: f64,
    /// The time it would take at the roof.
    roof_us: f64,
    of_roof: f64,
}

/// Everything about one instruction set.
#[derive(Debug, Serialize)]
struct Report {
    cpu: String,
    isa: &'static str,
    layers: Vec<Row>,
    sums: Vec<Sum>,
}

/// Runs `roofline`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let available = Isa::available();
    let isas = match args.isa.as_deref() {
        None => vec![Isa::select()?],
        Some("all") => available,
        Some(name) => match available.iter().find(|isa| isa.name() == name) {
            Some(isa) => vec![*isa],
            None => bail!("this CPU has {}, not {name}", names(&available)),
        },
    };
    let (peaks, reading) = (measure::arithmetic(), measure::reading());
    for isa in isas {
        let report = report(isa, args, &peaks, &reading)?;
        if args.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print!("{}", text(&report));
        }
        if args.out {
            write(&report)?;
        }
    }
    Ok(())
}

fn names(isas: &[Isa]) -> String {
    isas.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

fn report(isa: Isa, args: &Args, peaks: &[Rate], reading: &[Reading]) -> anyhow::Result<Report> {
    let codes = if args.seven_bits { SEVEN_BITS } else { InputCodes::any(128) };
    let mut layers = Vec::new();
    for entry in efficientnet_lite0() {
        let mut layer = Layer::new(isa, &entry, codes)?;
        let wait = Duration::from_millis(20);
        let us = 1e6 * measure::least(args.runs as usize, wait, || layer.run());
        let kernel = layer.kernel();
        let (bound, roof) = roof(kernel, &entry, peaks, reading);
        let rate = entry.macs() as f64 / us / 1e3;
        layers.push(Row {
            times: entry.count,
            kernel,
            macs: entry.macs(),
            us,
            gmac_per_s: rate,
            bound,
            roof_gmac_per_s: roof,
            of_roof: rate / roof,
            name: entry.name,
        });
    }
    let sums = sums(&layers);
    Ok(Report { cpu: machine::cpu_name(), isa: isa.name(), layers, sums })
}

/// What bounds a layer, and its rate there in GMAC/s.
fn roof(kernel: &str, entry: &Entry, peaks: &[Rate], reading: &[Reading]) -> (String, f64) {
    let bytes = bytes(entry);
    let level = reading.iter().find(|level| level.bytes >= bytes).or(reading.last());
    let memory = level.map(|level| {
        let rate = level.gb_per_s * entry.macs() as f64 / bytes as f64;
        (level.level.clone(), rate)
    });
    let peak = peak::bound_of(kernel).and_then(|name| peaks.iter().find(|peak| peak.name == name));
    let peak = peak.map(|peak| (peak.name.to_owned(), peak.gmac_per_s));
    let bounds = [memory, peak].into_iter().flatten();
    bounds.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_else(|| ("none".to_owned(), f64::INFINITY))
}

/// Bytes of input, int8 weights and output.
fn bytes(entry: &Entry) -> usize {
    let g = &entry.geometry;
    let taps = g.kernel_h * g.kernel_w;
    match entry.op {
        Op::Conv | Op::Linear => g.input_len() + g.output_len() + taps * g.in_c * g.out_c,
        Op::Depthwise => g.input_len() + g.output_len() + taps * g.in_c,
        Op::Add => 3 * g.input_len(),
        Op::Pool => g.input_len() + g.in_c,
    }
}

/// Sums by operation, in the order of the network, and the whole at the end.
fn sums(layers: &[Row]) -> Vec<Sum> {
    let mut sums: Vec<Sum> = Vec::new();
    let mut add = |name: &str, row: &Row| {
        let us = row.us * row.times as f64;
        let at = sums.iter().position(|sum| sum.name == name).unwrap_or_else(|| {
            sums.push(Sum { name: name.to_owned(), us: 0.0, roof_us: 0.0, of_roof: 0.0 });
            sums.len() - 1
        });
        sums[at].us += us;
        sums[at].roof_us += us * row.of_roof;
        sums[at].of_roof = sums[at].roof_us / sums[at].us;
    };
    for row in layers {
        add(operation(&row.name), row);
    }
    for row in layers {
        add("total", row);
    }
    sums
}

/// `depthwise` of `depthwise3s2_56x56_96`.
fn operation(name: &str) -> &str {
    let names = ["conv", "pointwise", "depthwise", "linear", "add", "pool"];
    names.into_iter().find(|operation| name.starts_with(operation)).unwrap_or(name)
}

fn text(report: &Report) -> String {
    let mut out = format!("{}, {}, one core\n", report.cpu, report.isa);
    for row in &report.layers {
        let _ = writeln!(
            out,
            "{:28} x{} {:30} {:8.1} us {:7.1} GMAC/s {:4.0} % of {}",
            row.name,
            row.times,
            row.kernel,
            row.us,
            row.gmac_per_s,
            100.0 * row.of_roof,
            row.bound
        );
    }
    for sum in &report.sums {
        let (ms, roof) = (sum.us / 1e3, sum.roof_us / 1e3);
        let of_roof = 100.0 * sum.of_roof;
        let _ = writeln!(
            out,
            "{:10} {ms:7.3} ms, {roof:7.3} ms at the roof: {of_roof:3.0} %",
            sum.name
        );
    }
    out
}

fn markdown(report: &Report) -> String {
    let mut out = format!(
        "# Roofline of EfficientNet-Lite0 int8: {}, {}, one core\n\n\
         Least times. The roof is the lower of the arithmetic's peak and the speed of reading.\n\n\
         ![each layer against its roof](roofline-{}.svg)\n\n\
         | operation | ms | ms at the roof | of roof |\n|---|---|---|---|\n",
        report.cpu, report.isa, report.isa
    );
    for sum in &report.sums {
        let (ms, roof, of_roof) = (sum.us / 1e3, sum.roof_us / 1e3, 100.0 * sum.of_roof);
        let _ = writeln!(out, "| {} | {ms:.3} | {roof:.3} | {of_roof:.0} % |", sum.name);
    }
    out.push_str("\n| layer | times | kernel | us | GMAC/s | of roof | bound |\n");
    out.push_str("|---|---|---|---|---|---|---|\n");
    for row in &report.layers {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.1} | {:.1} | {:.0} % | {} |",
            row.name,
            row.times,
            row.kernel,
            row.us,
            row.gmac_per_s,
            100.0 * row.of_roof,
            row.bound
        );
    }
    out
}

/// One bar a layer: as long as the layer takes in the network, dark as far as the roof says.
fn svg(report: &Report) -> String {
    let (left, width, line) = (210.0, 560.0, 16);
    let total = |row: &Row| row.us * row.times as f64;
    let longest = report.layers.iter().map(total).fold(0.0, f64::max);
    let height = line * (report.layers.len() + 2);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"840\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"840\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"4\" y=\"13\">{}, {}: microseconds of each layer; dark: what the roof \
         allows</text>\n",
        report.cpu.replace('&', "&amp;").replace('<', "&lt;"),
        report.isa
    );
    for (i, row) in report.layers.iter().enumerate() {
        let (y, us) = (line * (i + 1) + 4, total(row));
        let bar = us / longest * width;
        let roof = bar * row.of_roof.min(1.0);
        let _ = writeln!(
            out,
            "<text x=\"4\" y=\"{}\">{} x{}</text>\
             <rect x=\"{left}\" y=\"{y}\" width=\"{bar:.1}\" height=\"12\" fill=\"#bcd\"/>\
             <rect x=\"{left}\" y=\"{y}\" width=\"{roof:.1}\" height=\"12\" fill=\"#357\"/>\
             <text x=\"{:.1}\" y=\"{}\">{us:.0}</text>",
            y + 10,
            row.name,
            row.times,
            left + bar + 4.0,
            y + 10
        );
    }
    out.push_str("</svg>\n");
    out
}

fn write(report: &Report) -> anyhow::Result<()> {
    let folder = machine::results_folder();
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    for (extension, content) in [("md", markdown(report)), ("svg", svg(report))] {
        let path = folder.join(format!("roofline-{}.{extension}", report.isa));
        std::fs::write(&path, content)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEAKS: [Rate; 1] = [Rate { name: "i16_vpmaddwd_avx2", gmac_per_s: 50.0 }];

    fn reading() -> Vec<Reading> {
        let level = |level: &str, bytes, gb_per_s| Reading { level: level.into(), bytes, gb_per_s };
        vec![level("L1", 16 << 10, 200.0), level("memory", 64 << 20, 10.0)]
    }

    fn entry(name: &str) -> Entry {
        efficientnet_lite0().into_iter().find(|entry| entry.name == name).expect("in the list")
    }

    #[test]
    fn arithmetic_bounds_convolutions_and_memory_the_classifier() {
        let roof = |kernel, name| roof(kernel, &entry(name), &PEAKS, &reading());
        let pointwise = roof("pointwise_u8s16_avx2_6x16", "pointwise_14x14_112_672");
        assert_eq!(pointwise, ("i16_vpmaddwd_avx2".to_owned(), 50.0));
        let (bound, rate) = roof("linear_u8s8_avx2_4x16", "linear_1280_1000");
        assert_eq!(bound, "memory");
        assert!((9.9..10.0).contains(&rate), "a byte of weights each, and a little: {rate}");
        let (bound, rate) = roof("add_u8_avx2_32", "add_7x7_192");
        assert_eq!(bound, "memory");
        assert!((rate - 10.0 / 3.0).abs() < 1e-9, "three bytes each: {rate}");
    }

    #[test]
    fn sums_weigh_layers_by_their_time() {
        let row = |name: &str, times, us, of_roof| Row {
            name: name.into(),
            times,
            kernel: "k",
            macs: 1,
            us,
            gmac_per_s: 1.0,
            bound: "b".into(),
            roof_gmac_per_s: 1.0,
            of_roof,
        };
        let rows = [row("conv3s2_a", 1, 10.0, 0.5), row("depthwise3s1_b", 3, 10.0, 0.1)];
        let sums = sums(&rows);
        let of = |name| sums.iter().find(|sum| sum.name == name).map(|sum| (sum.us, sum.of_roof));
        assert_eq!(of("conv"), Some((10.0, 0.5)));
        assert_eq!(of("depthwise"), Some((30.0, 0.1)));
        assert_eq!(of("total"), Some((40.0, 0.2)));
    }
}
