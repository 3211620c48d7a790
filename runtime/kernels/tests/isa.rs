//! `KINGLET_ISA` forces an instruction set, and a wrong value is an error that names the right ones.
#![allow(missing_docs)]
// The test runs itself as a child process, which an emulator of one process cannot do.
#![cfg(not(target_arch = "aarch64"))]

use kinglet_kernels::Isa;

/// Not a test of its own: what the child processes do.
#[test]
#[ignore = "run by the other test with its environment"]
fn child() {
    let result = match Isa::select() {
        Ok(isa) => isa.name().to_owned(),
        Err(error) => error.to_string(),
    };
    assert_eq!(result, std::env::var("EXPECTED").unwrap());
}

#[test]
fn the_environment_selects_the_instruction_set() {
    let available = Isa::available().iter().map(|isa| isa.name()).collect::<Vec<_>>();
    let names = available.join(", ");
    let unavailable =
        format!("instruction set neon-dot is not available on this CPU; available: {names}");
    let unknown = format!(
        "unknown instruction set \"sse9\"; known names: scalar, avx2, avx512-vnni, neon32, neon, neon-dot, \
         neon-fp16; available on this CPU: {names}"
    );
    let mut cases = vec![
        (None, Isa::best().name().to_owned()),
        (Some(""), Isa::best().name().to_owned()),
        (Some("neon-dot"), unavailable),
        (Some("sse9"), unknown),
    ];
    cases.extend(available.iter().map(|&name| (Some(name), name.to_owned())));
    for (value, expected) in cases {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "child", "--ignored"]).env("EXPECTED", &expected);
        match value {
            Some(value) => child.env("KINGLET_ISA", value),
            None => child.env_remove("KINGLET_ISA"),
        };
        let output = child.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "KINGLET_ISA={value:?}: {text}");
        assert!(text.contains("1 passed"), "{text}");
    }
}
