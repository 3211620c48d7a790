//! The unit itself, and what it does after the end.

use super::*;

/// What the unit does after the end, whatever the end was.
#[test]
fn pins_that_were_in_use_are_known_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("pins");
    let mut command = kinglet();
    command.arg("watch").arg(shipped()).args(["--camera", "test", "--active-low"]);
    command.args(["--led", "gpiochip97:4=unknown"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.env("RUNTIME_DIRECTORY", folder.path()).spawn().unwrap();
    wait_for("the record", || std::fs::read_to_string(&record).ok().filter(|r| !r.is_empty()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(std::fs::read_to_string(&record).unwrap(), "/dev/gpiochip97:4=1\n");
    // The configuration may have become useless meanwhile.
    let config = folder.path().join("k.toml");
    std::fs::write(&config, "not a configuration").unwrap();
    let mut release = kinglet();
    release.args(["watch", "--release-pins", "--config"]).arg(&config);
    let output = release.env("RUNTIME_DIRECTORY", folder.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/dev/gpiochip97"), "there is no such chip here: {said}");
    // Without a record it is the configuration that says which.
    std::fs::write(&config, "[[output]]\npin = 'gpiochip96:1'\nclass = 'x'\n").unwrap();
    let output = release.env_remove("RUNTIME_DIRECTORY").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/dev/gpiochip96"), "{said}");
}

#[test]
fn the_unit_is_well_formed_and_leaves_little_open() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        println!("skipped: systemd-analyze is not installed");
        return;
    };
    println!("{}", String::from_utf8_lossy(&version.stdout));
    let output = kinglet().args(["watch", "--print-unit"]).output().unwrap();
    assert!(output.status.success());
    let unit = String::from_utf8(output.stdout).unwrap();
    // The program that is meant exists here under another name.
    let program = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let program = program.split(' ').next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kinglet.service");
    std::fs::write(&file, unit.replace(program, env!("CARGO_BIN_EXE_kinglet"))).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.is_empty(), "{said}");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager", "--threshold=20"]);
    let judged = security.arg(&file).output().unwrap();
    let mut table = String::from_utf8_lossy(&judged.stdout).into_owned();
    table += &String::from_utf8_lossy(&judged.stderr);
    println!("{table}");
    assert!(judged.status.success(), "exposure above 2.0:\n{table}");
}
