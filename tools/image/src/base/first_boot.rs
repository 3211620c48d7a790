//! What the first boot does: cloud-init's files, or a script that systemd runs once.
//!
//! Nobody's value is ever part of a program's text. YAML is written as JSON, which is YAML too and has one way to quote;
//! the scripts are files of this repository with assignments in front, in single quotes; an SSID goes into configuration
//! files as bytes.

use serde_json::json;

use super::Values;

const SETUP: &str = include_str!("../../../../targets/raspios/setup.sh");
const FIRST_RUN: &str = include_str!("../../../../targets/raspios/firstrun.sh");
/// The configuration where none is given.
pub(crate) const CONFIGURATION: &str = include_str!("../../../../targets/appliance/kinglet.toml");

/// How an image is set up at its first boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// `user-data`, `network-config`, `meta-data`: Raspberry Pi OS from Debian 13 on, and Ubuntu.
    CloudInit,
    /// `firstrun.sh` through the kernel's command line: Debian 12.
    FirstRun,
    /// The same on Debian 11 and before, where the boot partition is elsewhere.
    FirstRunOld,
}

impl Mechanism {
    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CloudInit => "cloud-init",
            Self::FirstRun | Self::FirstRunOld => "firstrun.sh",
        }
    }
}

/// The files of the first boot, apart from the command line. `id` is another for other contents.
pub(super) fn files(mechanism: Mechanism, values: &Values, id: &str) -> Vec<(String, Vec<u8>)> {
    match mechanism {
        Mechanism::CloudInit => vec![
            ("kinglet-setup.sh".into(), format!("#!/bin/sh\n{SETUP}").into_bytes()),
            ("user-data".into(), user_data(values).into_bytes()),
            ("network-config".into(), network(values).into_bytes()),
            (
                "meta-data".into(),
                pretty(&json!({ "instance-id": format!("kinglet-{id}") })).into_bytes(),
            ),
        ],
        Mechanism::FirstRun | Mechanism::FirstRunOld => {
            vec![("firstrun.sh".into(), first_run(values).into_bytes())]
        }
    }
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

fn user_data(values: &Values) -> String {
    let mut all = json!({
        "hostname": values.host,
        "manage_etc_hosts": true,
        "runcmd": [[
            "/bin/sh", "-c",
            "for b in /boot/firmware /boot; do [ ! -f $b/kinglet-setup.sh ] || exec /bin/sh $b/kinglet-setup.sh; done",
        ], ["systemctl", "start", "kinglet.service"]],
    });
    if let Some(zone) = &values.zone {
        all["timezone"] = json!(zone);
    }
    if let Some(user) = &values.user {
        let mut account = json!({
            "name": user,
            "groups": "users,adm,dialout,audio,netdev,video,plugdev,games,input,render,gpio,spi,i2c,sudo",
            "shell": "/bin/bash",
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
            "lock_passwd": values.password.is_none(),
        });
        if let Some(password) = &values.password {
            account["passwd"] = json!(password);
        }
        if !values.keys.is_empty() {
            account["ssh_authorized_keys"] = json!(values.keys);
        }
        // A key is safer: then no password from outside.
        all["ssh_pwauth"] = json!(values.keys.is_empty());
        all["users"] = json!([account]);
        all["enable_ssh"] = json!(true);
    }
    format!("#cloud-config\n{}", pretty(&all))
}

fn network(values: &Values) -> String {
    let mut network = json!({
        "version": 2,
        "ethernets": { "eth0": { "dhcp4": true, "dhcp6": true, "optional": true } },
    });
    if let Some((wifi, psk)) = &values.wifi {
        let mut point = json!({ "password": psk });
        if wifi.hidden {
            point["hidden"] = json!(true);
        }
        let mut points = serde_json::Map::new();
        points.insert(wifi.ssid.clone(), point);
        network["wifis"] = json!({ "wlan0": {
            "dhcp4": true, "dhcp6": true, "optional": true, "regulatory-domain": wifi.country, "access-points": points,
        } });
    }
    pretty(&json!({ "network": network }))
}

fn first_run(values: &Values) -> String {
    let mut script = "#!/bin/sh\n# Set up once, at the first boot.\n".to_owned();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let wifi = values.wifi.as_ref();
    let bytes = |(wifi, _): &(super::Wifi, String)| -> String {
        wifi.ssid.bytes().map(|b| format!("{b};")).collect()
    };
    for (name, value) in [
        ("host", values.host.clone()),
        ("user", text(&values.user)),
        ("password", text(&values.password)),
        ("keys", values.keys.join("\n")),
        ("zone", text(&values.zone)),
        ("ssid_bytes", wifi.map(bytes).unwrap_or_default()),
        ("ssid_hex", wifi.map(|(w, _)| crate::hex(w.ssid.as_bytes())).unwrap_or_default()),
        ("psk", wifi.map(|(_, psk)| psk.clone()).unwrap_or_default()),
        ("country", wifi.map(|(w, _)| w.country.clone()).unwrap_or_default()),
        ("hidden", wifi.is_some_and(|(w, _)| w.hidden).to_string()),
    ] {
        script += &format!("{name}={}\n", quote(&value));
    }
    script + SETUP + FIRST_RUN
}

/// One word for a shell, whatever is in it.
pub(super) fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// The kernel's command line with what runs the first boot.
pub(super) fn command_line(
    line: &str,
    mechanism: Mechanism,
    values: &Values,
) -> Result<String, String> {
    let line = line.trim();
    if line.lines().count() > 1 || line.is_empty() || line.chars().any(char::is_control) {
        return Err("its cmdline.txt is not one line".into());
    }
    if line.contains("systemd.run=") {
        return Err("its cmdline.txt runs something at the first boot already: take an image as it was published".into());
    }
    let mut line = line.to_owned();
    if let Some((wifi, _)) = &values.wifi {
        let word = format!(" cfg80211.ieee80211_regdom={}", wifi.country);
        if !line.contains("cfg80211.ieee80211_regdom=") {
            line += &word;
        }
    }
    let folder = match mechanism {
        Mechanism::CloudInit => return Ok(line + "\n"),
        Mechanism::FirstRun => "/boot/firmware",
        Mechanism::FirstRunOld => "/boot",
    };
    line += &format!(
        " systemd.run={folder}/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target"
    );
    Ok(line + "\n")
}
