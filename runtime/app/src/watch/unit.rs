//! The unit for systemd, for this machine: its program, its groups.

use std::path::Path;

use crate::exit::{Done, Outcome};

const UNIT: &str = include_str!("../../../../targets/systemd/kinglet.service");
/// Where the unit's program is, unless it is somewhere that the unit can reach.
const PROGRAM: &str = "/usr/local/bin/kinglet";
const CONFIG: &str = "/etc/kinglet/kinglet.toml";
const GROUPS: &str = "SupplementaryGroups=";
/// Lines for this version of systemd and later: older ones would complain.
const NEWER: (u32, [&str; 2]) = (254, ["#RestartSteps=", "#RestartMaxDelaySec="]);

/// Prints it. `config`: the configuration, if it is not the usual one.
pub(super) fn print(config: Option<&Path>) -> Outcome {
    let program = std::env::current_exe()?;
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    if !reachable(&program) {
        eprintln!(
            "note: the service cannot see {}: sudo install -m 755 {0} {PROGRAM}",
            program.display()
        );
    }
    let config = config.map(std::path::absolute).transpose()?;
    if let Some(config) = config.as_deref().filter(|config| !reachable(config)) {
        eprintln!(
            "note: the service cannot see {}: sudo install -D -m 644 {0} {CONFIG}",
            config.display()
        );
    }
    print!("{}", unit(&program, config.as_deref(), &groups, version()));
    Ok(Done::Well)
}

/// systemd's version here; 0 without it.
fn version() -> u32 {
    // systemd 252 (252.39-1~deb12u2)
    let output = std::process::Command::new("systemctl").arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let number = text.ok().and_then(|text| text.split_whitespace().nth(1)?.parse().ok());
    number.unwrap_or(0)
}

/// The unit with this program and configuration, where they can be, and those of its groups that
/// there are: systemd refuses others.
fn unit(program: &Path, config: Option<&Path>, groups: &str, version: u32) -> String {
    let known = |name: &str| groups.lines().any(|line| line.split(':').next() == Some(name));
    let place = |path: &Path| reachable(path).then(|| path.display().to_string());
    let program = place(program).unwrap_or_else(|| PROGRAM.to_owned());
    let config = config.and_then(place).unwrap_or_else(|| CONFIG.to_owned());
    let line = |line: &str| match line.strip_prefix(GROUPS) {
        Some(names) => {
            let there: Vec<_> = names.split(' ').filter(|name| known(name)).collect();
            format!("{GROUPS}{}\n", there.join(" "))
        }
        None if version >= NEWER.0 && NEWER.1.iter().any(|key| line.starts_with(key)) => {
            format!("{}\n", &line[1..])
        }
        None if line.starts_with("Exec") => {
            format!("{}\n", line.replace(PROGRAM, &program).replace(CONFIG, &config))
        }
        None => format!("{line}\n"),
    };
    UNIT.lines().map(line).collect()
}

/// Whether the unit can name a path, and its program see it: not in a home, nor in what is private.
fn reachable(path: &Path) -> bool {
    let hidden = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    !hidden.iter().any(|place| path.starts_with(place))
        && path.to_str().is_some_and(|path| path.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_what_is_there() {
        let groups = "root:x:0:\nvideo:x:44:pi\ni2c:x:994:pi\nvideos:x:1:\n";
        let text = unit(Path::new("/opt/kinglet"), Some(Path::new("/srv/k.toml")), groups, 254);
        assert!(text.contains("\nExecStart=/opt/kinglet watch --config /srv/k.toml\n"), "{text}");
        assert!(text.contains("\nExecStopPost=-/opt/kinglet watch --config /srv/k.toml"), "{text}");
        assert!(text.contains("\nSupplementaryGroups=video i2c\n"), "{text}");
        assert!(text.contains("\nRestartSteps=6\nRestartMaxDelaySec=60\n"), "{text}");
    }

    #[test]
    fn what_the_service_cannot_see_or_the_unit_not_say_is_where_it_should_be() {
        for path in ["/home/pi/kinglet", "/tmp/kinglet", "/opt/my kinglet", "/opt/100%/kinglet"] {
            assert_eq!(
                unit(Path::new(path), Some(Path::new(path)), "gpio:x:1:", 252),
                UNIT.replace("video gpio i2c", "gpio")
            );
        }
    }
}
