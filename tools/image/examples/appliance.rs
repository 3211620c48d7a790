//! `appliance BOARD PROGRAM MODEL CONFIG OUT [PACKAGES]`: an appliance's image without building all of kinglet-tools; for
//! tests/emulated/appliance.sh.
#![allow(clippy::print_stdout)]

use kinglet_deploy::Board;
use kinglet_image::appliance::{Options, plan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, board, program, model, config, out, rest @ ..] = args.as_slice() else {
        return Err("appliance BOARD PROGRAM MODEL CONFIG OUT [PACKAGES]".into());
    };
    let options = Options {
        board: Board::named(Board::built_in()?, board, "targets".as_ref())?,
        program: program.into(),
        model: model.into(),
        packages: rest.first().filter(|p| !p.is_empty()).map(Into::into),
        configuration: Some(config.into()),
        cache: std::env::temp_dir().join("kinglet-debian"),
        modules: if board == "pi3" { vec!["vivid".to_owned()] } else { Vec::new() },
        hostname: "kinglet".to_owned(),
        ssh_keys: Vec::new(),
        public_key: None,
        size_mib: None,
    };
    let plan = plan(&options, &|doing| println!("{doing}"))?;
    for (path, bytes) in plan.listing() {
        println!("{bytes:>10}  {path}");
    }
    plan.write(out.as_ref())?;
    println!("{} bytes", plan.bytes());
    Ok(())
}
