//! `kinglet-benches peak`.

use serde_json::json;

use kinglet_benches::{machine, measure};

/// Measure the most that one core can multiply and read
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
}

/// Runs `peak`.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (arithmetic, reading) = (measure::arithmetic(), measure::reading());
    if args.json {
        let cpu = machine::cpu_name();
        println!("{}", json!({ "cpu": cpu, "arithmetic": arithmetic, "reading": reading }));
        return Ok(());
    }
    println!("{}, one core", machine::cpu_name());
    for rate in arithmetic {
        println!("{:24} {:8.1} GMAC/s", rate.name, rate.gmac_per_s);
    }
    for one in reading {
        let size = one.bytes >> 10;
        println!("read {:8} {size:8} KiB {:8.1} GB/s", one.level, one.gb_per_s);
    }
    Ok(())
}
