//! `[mqtt]` as it is written, and what it means: where the broker is, who we are there, and what
//! is said under which names.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::super::config::{Config, Names};
use super::super::eyes::class;
use super::topics::{Topics, level};
use crate::decide::State;
use crate::exit::Usage;
use kinglet_engine::Session;

/// The environment variable that may hold the password.
const PASSWORD: &str = "KINGLET_MQTT_PASSWORD";
/// The most bytes of a password, or of a file of one.
const LONGEST_PASSWORD: u64 = 1024;

/// `[mqtt]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// `mqtt://user@host:1883/prefix`; `mqtts://` for TLS.
    pub(crate) url: String,
    /// Who we are in topics; the host's name if it is not given.
    pub(crate) name: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) password_env: Option<String>,
    /// What the broker's certificate is signed by; the system's roots if it is not given.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    /// Where Home Assistant looks for devices; nothing for none.
    #[serde(default = "discovery")]
    pub(crate) discovery: String,
    /// Classes that have a binary sensor each, beside one for each output.
    pub(crate) class: Option<Names>,
    /// Scores at most so often.
    #[serde(default = "scores_ms")]
    pub(crate) scores_ms: u64,
    /// Pictures when the decision changes, at most so large; 0: none.
    #[serde(default = "snapshot_kib")]
    pub(crate) snapshot_kib: u32,
    /// Decisions that wait for a broker that is away; the newest are kept.
    #[serde(default = "queue")]
    pub(crate) queue: usize,
    /// The first pause before the broker is tried again; it doubles up to 30 s.
    #[serde(default = "retry_ms")]
    pub(crate) retry_ms: u64,
}

fn discovery() -> String {
    "homeassistant".into()
}

fn scores_ms() -> u64 {
    1000
}

fn snapshot_kib() -> u32 {
    256
}

fn queue() -> usize {
    256
}

fn retry_ms() -> u64 {
    1000
}

impl Settings {
    /// All as usual, with this broker.
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            name: None,
            client_id: None,
            password_file: None,
            password_env: None,
            ca: None,
            certificate: None,
            key: None,
            discovery: discovery(),
            class: None,
            scores_ms: scores_ms(),
            snapshot_kib: snapshot_kib(),
            queue: queue(),
            retry_ms: retry_ms(),
        }
    }
}

/// What is to be done, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(super) broker: Broker,
    pub(super) content: Content,
}

/// What is said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Content {
    /// Who says it.
    pub(super) name: String,
    pub(super) topics: Topics,
    /// Where Home Assistant looks; empty: it is told nothing.
    pub(super) discovery: String,
    /// Without regions one that has no name.
    pub(super) areas: Vec<Option<String>>,
    pub(super) rules: Vec<Rule>,
    pub(super) scores: Duration,
    /// The most bytes of a picture; 0: none.
    pub(super) picture: usize,
    pub(super) queue: usize,
}

/// Where the broker is, and how it is reached.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Broker {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<Tls>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) client_id: String,
    pub(super) first_pause: Duration,
}

/// Files of certificates.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tls {
    pub(super) ca: Option<PathBuf>,
    /// Of the client, and its key.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
}

/// A password. It is never printed.
#[derive(Clone, PartialEq)]
pub(super) struct Secret(pub(super) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Something that is on while certain classes are decided: an output, or a class that was named.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    /// For people: `ants, bees (pin 17)`.
    pub(super) name: String,
    /// In topics.
    pub(super) id: String,
    pub(super) states: Vec<State>,
    /// In this area, or in any.
    pub(super) area: Option<usize>,
}

impl Plan {
    /// Checks what was configured; `None`: nothing was.
    ///
    /// # Errors
    /// What is wrong, and with which key.
    pub(crate) fn new(config: &Config, session: &Session) -> Result<Option<Self>, Usage> {
        let Some(settings) = &config.mqtt else { return Ok(None) };
        let fault = |why: String| Usage(format!("mqtt: {why}"));
        let url = Url::parse(&settings.url).map_err(fault)?;
        let name = settings.name.clone().unwrap_or_else(host_name);
        if name.is_empty() || name.len() > 64 || level(&name) != name {
            let why = "1 to 64 letters, and none of / + #, which separate topics";
            return Err(fault(format!("name '{name}': {why}")));
        }
        let password = password(settings, url.user.is_some()).map_err(fault)?;
        if password.is_some() && url.user.is_none() {
            return Err(fault("a password needs a user: mqtt://USER@host".into()));
        }
        let tls = tls(settings, url.tls).map_err(fault)?;
        let between = |key: &str, value: u64, least: u64, most: u64| {
            let fits = (least..=most).contains(&value);
            fits.then_some(value).ok_or_else(|| fault(format!("{key} {value}: {least} to {most}")))
        };
        let picture = between("snapshot_kib", settings.snapshot_kib.into(), 0, 4096)? as usize;
        let queue = between("queue", settings.queue as u64, 1, 100_000)? as usize;
        let scores = between("scores_ms", settings.scores_ms, 0, 3_600_000)?;
        let first_pause = between("retry_ms", settings.retry_ms, 10, 30_000)?;
        if settings.discovery.contains(['+', '#']) {
            return Err(fault(format!("discovery '{}': a topic", settings.discovery)));
        }
        let names: Vec<_> = config.region.iter().map(|r| r.get_ref().name.clone()).collect();
        let broker = Broker {
            client_id: settings.client_id.clone().unwrap_or_else(|| format!("kinglet-{name}")),
            host: url.host,
            port: url.port,
            tls,
            user: url.user,
            password,
            first_pause: Duration::from_millis(first_pause),
        };
        let content = Content {
            rules: rules(config, settings, &names, session)?,
            topics: Topics::new(&url.prefix, &name, &names),
            name,
            areas: match names.is_empty() {
                true => vec![None],
                false => names.into_iter().map(Some).collect(),
            },
            discovery: settings.discovery.trim_matches('/').to_owned(),
            scores: Duration::from_millis(scores),
            picture: picture << 10,
            queue,
        };
        Ok(Some(Self { broker, content }))
    }
}

/// A rule for each output and each class that was named.
fn rules(
    config: &Config,
    settings: &Settings,
    regions: &[String],
    session: &Session,
) -> Result<Vec<Rule>, Usage> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut add = |name: String, states: Vec<State>, area: Option<usize>| {
        let mut id = super::topics::id(&name);
        while rules.iter().any(|rule| rule.id == id) {
            id.push_str("_2");
        }
        rules.push(Rule { name, id, states, area });
    };
    let states = |names: &Names| -> Result<Vec<State>, String> {
        names.list().iter().map(|n| class(session, n).map_err(|e| e.to_string())).collect()
    };
    for spanned in &config.output {
        let output = spanned.get_ref();
        let pin = output.pin.pin().map_err(|why| config.error(spanned, &why))?;
        let found = states(&output.class).map_err(|why| config.error(spanned, &why))?;
        let mut name = format!("{} (pin {})", output.class.list().join(", "), pin.line);
        if let Some(region) = &output.region {
            name = format!("{region}: {name}");
        }
        let area = output.region.as_ref().and_then(|r| regions.iter().position(|n| n == r));
        add(name, found, area);
    }
    for name in settings.class.iter().flat_map(Names::list) {
        let state = class(session, name).map_err(|e| Usage(format!("mqtt: class: {e}")))?;
        add(name.clone(), vec![state], None);
    }
    Ok(rules)
}

/// The password, from a file or from the environment.
fn password(settings: &Settings, has_user: bool) -> Result<Option<Secret>, String> {
    let text = match (&settings.password_file, &settings.password_env) {
        (Some(_), Some(_)) => return Err("password_file or password_env, not both".into()),
        (Some(path), None) => {
            let fault = |e: std::io::Error| format!("password_file {}: {e}", path.display());
            let facts = std::fs::metadata(path).map_err(fault)?;
            if facts.len() > LONGEST_PASSWORD {
                return Err(format!("password_file {}: too long", path.display()));
            }
            use std::os::unix::fs::PermissionsExt as _;
            if facts.permissions().mode() & 0o004 != 0 {
                let path = path.display();
                tracing::warn!("mqtt: {path} can be read by everybody; chmod o-r {path}");
            }
            Some(std::fs::read_to_string(path).map_err(fault)?)
        }
        (None, Some(name)) => {
            Some(std::env::var(name).map_err(|e| format!("password_env {name}: {e}"))?)
        }
        (None, None) if has_user => std::env::var(PASSWORD).ok(),
        (None, None) => None,
    };
    Ok(text.map(|text| Secret(text.trim_end_matches(['\n', '\r']).to_owned())))
}

fn tls(settings: &Settings, on: bool) -> Result<Option<Tls>, String> {
    let certificate = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        _ => return Err("certificate and key belong together".into()),
    };
    if !on && (settings.ca.is_some() || certificate.is_some()) {
        return Err("ca, certificate and key are for mqtts://".into());
    }
    Ok(on.then(|| Tls { ca: settings.ca.clone(), certificate }))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = level(name.trim());
    if name.is_empty() { "device".into() } else { name }
}

/// The parts of `mqtt://user@host:1883/prefix`.
#[derive(Debug, PartialEq)]
struct Url {
    tls: bool,
    user: Option<String>,
    host: String,
    port: u16,
    prefix: String,
}

impl Url {
    fn parse(text: &str) -> Result<Self, String> {
        let shape = "it is mqtt://[user@]host[:1883][/prefix], or mqtts:// for TLS";
        let fault = || format!("{text}: {shape}");
        let (tls, rest) = match (text.strip_prefix("mqtt://"), text.strip_prefix("mqtts://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(fault()),
        };
        let (place, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = match place.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, place),
        };
        if user.is_some_and(|user| user.contains(':')) {
            // Everybody who may list processes would read it.
            let why = "a password does not belong into the address: password_file, \
                       --mqtt-password-file, or the environment variable";
            return Err(format!("{why} {PASSWORD}"));
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(six) => {
                let (host, rest) = six.split_once(']').ok_or_else(fault)?;
                (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")).ok_or_else(fault)?)
            }
            None => place.split_once(':').unwrap_or((place, "")),
        };
        let port = match port {
            "" => [1883, 8883][usize::from(tls)],
            port => port.parse().ok().filter(|p| *p > 0).ok_or_else(fault)?,
        };
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() { "kinglet" } else { prefix };
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if host.is_empty()
            || host.contains(odd)
            || user == Some("")
            || prefix.len() > 128
            || prefix.contains(['+', '#'])
            || prefix.contains(odd)
        {
            return Err(fault());
        }
        let user = user.map(str::to_owned);
        Ok(Self { tls, user, host: host.to_owned(), port, prefix: prefix.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_or_refused() {
        let url = |text: &str| Url::parse(text);
        let parts = |text: &str| {
            let u = url(text).unwrap();
            (u.tls, u.user.unwrap_or_default(), u.host, u.port, u.prefix)
        };
        let plain = |host: &str, port| (false, String::new(), host.into(), port, "kinglet".into());
        assert_eq!(parts("mqtt://broker"), plain("broker", 1883));
        assert_eq!(parts("mqtt://[::1]:99/"), plain("::1", 99));
        assert_eq!(parts("mqtt://[fe80::1]"), plain("fe80::1", 1883));
        let all = (true, "me".into(), "b.example".into(), 8883, "home/eyes".into());
        assert_eq!(parts("mqtts://me@b.example/home/eyes/"), all);
        for wrong in [
            "broker",
            "mqtt://",
            "mqtt://h:0",
            "mqtt://h:x",
            "mqtt://h:70000",
            "mqtt://@h",
            "mqtt://h/a+b",
            "mqtt://h/#",
            "mqtt://[::1",
            "mqtt://[::1]x",
            "mqtt://a b",
            "http://h",
        ] {
            assert!(url(wrong).unwrap_err().contains("it is mqtt://"), "{wrong}");
        }
        let error = url("mqtt://me:geheim@h").unwrap_err();
        assert!(error.contains("KINGLET_MQTT_PASSWORD") && !error.contains("geheim"), "{error}");
    }

    #[test]
    fn passwords_come_from_one_place_and_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p");
        std::fs::write(&file, "geheim\n").unwrap();
        let mut settings = Settings::new("mqtt://me@h");
        settings.password_file = Some(file.clone());
        let secret = password(&settings, true).unwrap().unwrap();
        assert_eq!((secret.0.as_str(), format!("{secret:?}").as_str()), ("geheim", "…"));
        settings.password_env = Some("X".into());
        assert!(password(&settings, true).unwrap_err().contains("not both"));
        settings.password_file = None;
        settings.password_env = Some("KINGLET_NO_SUCH_VARIABLE".into());
        assert!(password(&settings, true).unwrap_err().contains("KINGLET_NO_SUCH_VARIABLE"));
        settings.password_env = None;
        settings.password_file = Some(folder.path().join("none"));
        assert!(password(&settings, true).unwrap_err().contains("none"));
        std::fs::write(&file, [b'x'; 2000]).unwrap();
        settings.password_file = Some(file);
        assert!(password(&settings, true).unwrap_err().contains("too long"));
    }

    #[test]
    fn certificates_are_for_tls_and_come_with_their_keys() {
        let mut settings = Settings::new("mqtt://h");
        assert!(tls(&settings, false).unwrap().is_none());
        settings.ca = Some("ca.pem".into());
        assert!(tls(&settings, false).unwrap_err().contains("mqtts://"));
        assert!(tls(&settings, true).unwrap().is_some());
        settings.key = Some("key.pem".into());
        assert!(tls(&settings, true).unwrap_err().contains("together"));
    }
}
