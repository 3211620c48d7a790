//! `kinglet watch` and a real broker: what arrives, what is kept, and what happens when the broker
//! is away, odd, or wants a password. Where mosquitto is not installed, tests say so and pass.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[allow(unreachable_pub)]
mod mqtt_support;

use std::io::Read as _;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use mqtt_support::{Broker, Ear, LONG, Watch, until};
use serde_json::Value;

/// `[mqtt]` with a name, and pictures off unless asked for.
fn mqtt(url: &str, more: &str) -> String {
    format!("[mqtt]\nurl = {url:?}\nname = \"porch\"\n{more}\n")
}

#[test]
fn decisions_arrive_in_order_and_the_last_is_kept() {
    let Some(broker) = Broker::start() else { return };
    let mut ear = broker.ear();
    let watch = Watch::photographs(&mqtt(&broker.url(), "snapshot_kib = 0"), &[]);
    let first = ear.next("/availability");
    assert_eq!((first.topic.as_str(), first.text()), ("eyes/porch/availability", "online"));
    let (mut frames, mut last) = (Vec::new(), Value::Null);
    while frames.len() < 60 {
        let heard = ear.next("eyes/porch/state");
        last = heard.json();
        assert!(!heard.retained && last["changed"] == true, "{last}");
        frames.push(last["frame"].as_u64().unwrap());
    }
    // First that nothing is decided, then every picture: each is of another class.
    assert_eq!(frames, (0..60).collect::<Vec<_>>());
    let took = watch.end();
    assert!(took < Duration::from_secs(2), "{took:?}");
    loop {
        let heard = ear.within(LONG).unwrap();
        match heard.topic.as_str() {
            "eyes/porch/state" => last = heard.json(),
            "eyes/porch/availability" => {
                assert_eq!(heard.text(), "offline");
                break;
            }
            _ => {}
        }
    }
    let kept = broker.ear().kept();
    assert_eq!(kept["eyes/porch/availability"].text(), "offline");
    assert_eq!(kept["eyes/porch/state"].json(), last);
    assert!(!kept.contains_key("eyes/porch/scores"), "those are not kept");
    let health = kept["eyes/porch/health"].json();
    assert_eq!((&health["camera"]["lost"], &health["lost"]), (&0.into(), &0.into()), "{health}");
}

#[test]
fn a_crash_is_told_by_the_last_will() {
    let Some(broker) = Broker::start() else { return };
    let mut ear = broker.ear();
    let mut watch = Watch::photographs(&mqtt(&broker.url(), ""), &[]);
    assert_eq!(ear.next("/availability").text(), "online");
    watch.child.kill().unwrap();
    assert_eq!(ear.next("/availability").text(), "offline");
    assert_eq!(broker.ear().next("/availability").text(), "offline");
}

#[test]
fn a_recording_is_told_to_its_end() {
    let Some(broker) = Broker::start() else { return };
    let photograph = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/photographs/coffee.png");
    let config = format!("[camera]\nsource = {photograph:?}\n\n{}", mqtt(&broker.url(), ""));
    let mut watch = Watch::start(&config, &[]);
    assert!(watch.child.wait().unwrap().success());
    let kept = broker.ear().kept();
    assert_eq!(kept["eyes/porch/state"].json()["decision"], "espresso");
    assert_eq!(kept["eyes/porch/availability"].text(), "offline");
}

#[test]
fn home_assistant_is_told_what_there_is() {
    let Some(broker) = Broker::start() else { return };
    let mut ear = broker.ear();
    let more = "class = [\"espresso\", \"unknown\"]\nsnapshot_kib = 30";
    let regions = "[[region]]\nname = \"the left\"\nleft = 0.0\ntop = 0.0\nwidth = 0.5\n\
                   height = 1.0\n\n[[region]]\nname = \"all\"\nleft = 0.0\ntop = 0.0\nwidth = 1.0\n\
                   height = 1.0\n\n[[output]]\npin = \"gpiochip97:4\"\nclass = \"tiger cat\"\n\
                   region = \"all\"\n\n";
    let config = format!("{regions}{}", mqtt(&broker.url(), more));
    let watch = Watch::photographs(&config, &[]);
    let mut picture = None;
    let (mut on, mut off) = (false, false);
    // Until a picture has come, and the rule of the output has been on and off again.
    while picture.is_none() || !(on && off) {
        let heard = ear.within(LONG).expect("nothing comes any more");
        match heard.topic.as_str() {
            "eyes/porch/snapshot" => picture = Some(heard.payload),
            "eyes/porch/rule/all__tiger_cat__pin_4_" => {
                on |= heard.text() == "ON";
                off |= on && heard.text() == "OFF";
            }
            _ => {}
        }
    }
    let picture = picture.unwrap();
    assert!(picture.len() <= 30 << 10);
    image::load_from_memory_with_format(&picture, image::ImageFormat::Jpeg).unwrap();
    until("health says that there is no such pin", || {
        let health = broker.ear().next("/health").json();
        health["problems"]["pin /dev/gpiochip97:4"].is_string()
    });
    let kept = broker.ear().kept();
    drop(watch);
    let configs: Vec<_> = kept.iter().filter(|(topic, _)| topic.ends_with("/config")).collect();
    let mut ids = Vec::new();
    for (topic, heard) in &configs {
        let levels: Vec<_> = topic.split('/').collect();
        assert_eq!((levels.len(), levels[0], levels[2]), (5, "homeassistant", "kinglet_porch"));
        let plain = |l: &&str| l.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        assert!(levels[1..].iter().all(plain), "{topic}");
        let config = heard.json();
        assert!(heard.retained);
        assert_eq!(config["device"]["identifiers"], serde_json::json!(["kinglet_porch"]));
        assert_eq!(config["availability_topic"], "eyes/porch/availability");
        assert_eq!(config["origin"]["name"], "kinglet");
        ids.push(config["unique_id"].as_str().unwrap().to_owned());
        let from = config[if levels[1] == "camera" { "topic" } else { "state_topic" }].as_str();
        let from = from.unwrap();
        assert!(kept.contains_key(from) || from.ends_with("/scores"), "nobody says {from}");
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), configs.len(), "each has an identifier of its own");
    for expected in [
        "sensor/kinglet_porch/0_the_left_decision",
        "sensor/kinglet_porch/1_all_decision",
        "sensor/kinglet_porch/1_all_confidence",
        "sensor/kinglet_porch/1_all_latency",
        "binary_sensor/kinglet_porch/rule_espresso",
        "binary_sensor/kinglet_porch/rule_unknown",
        "binary_sensor/kinglet_porch/rule_all__tiger_cat__pin_4_",
        "binary_sensor/kinglet_porch/problem",
        "camera/kinglet_porch/snapshot",
    ] {
        assert!(kept.contains_key(&format!("homeassistant/{expected}/config")), "{expected}");
    }
    assert!(kept.contains_key("eyes/porch/the left/state"));
}

#[test]
fn a_broker_may_want_a_password() {
    let Some(mut broker) = Broker::prepare() else { return };
    let passwords = broker.path("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c", passwords.to_str().unwrap(), "me", "geheim"])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: mosquitto_passwd is not installed");
        return;
    }
    broker.configure(&format!(
        "listener {} 127.0.0.1\nallow_anonymous false\npassword_file {}\n",
        broker.port,
        passwords.display()
    ));
    broker.run();
    let mut ear = Ear::new(broker.port, Some(("me", "geheim")));
    let url = format!("mqtt://me@127.0.0.1:{}/eyes", broker.port);
    let file = broker.path("password");
    let arguments = ["--mqtt", &url, "--mqtt-password-file", file.to_str().unwrap()];
    std::fs::write(&file, "falsch").unwrap();
    let watch = Watch::photographs("", &arguments);
    watch.await_said("refuses the user 'me' or its password");
    assert!(!watch.said("falsch"), "the password is nobody's business");
    assert!(watch.end() < Duration::from_secs(2));
    let watch = Watch::photographs("", &["--mqtt", &broker.url()]);
    watch.await_said("wants a user and a password");
    drop(watch);
    std::fs::write(&file, "geheim\n").unwrap();
    let watch = Watch::photographs("", &arguments);
    assert_eq!(ear.next("/availability").text(), "online");
    drop(watch);
    // On the command line everybody could read it.
    let output = Command::new(env!("CARGO_BIN_EXE_kinglet"))
        .args(["watch", "--camera", "test", "--mqtt", "mqtt://me:geheim@127.0.0.1"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--mqtt-password-file") && !said.contains("geheim"), "{said}");
}

#[test]
fn tls_trusts_only_whom_it_was_told_to_and_by_name() {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let Some(mut broker) = Broker::prepare() else { return };
    let mut authority = CertificateParams::new(vec![]).unwrap();
    authority.distinguished_name.push(DnType::CommonName, "authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let write = |name: &str, text: String| std::fs::write(broker.path(name), text).unwrap();
    write("ca.pem", certificate.pem());
    for (name, host) in [("server", "localhost"), ("client", "porch"), ("other", "localhost")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        let signed = match name {
            "other" => params.self_signed(&key).unwrap(),
            _ => params.signed_by(&key, &issuer).unwrap(),
        };
        write(&format!("{name}.pem"), signed.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    let secure = mqtt_support::free_port();
    let path = |name: &str| broker.path(name).display().to_string();
    broker.configure(&format!(
        "per_listener_settings true\nlistener {} 127.0.0.1\nallow_anonymous true\n\
         listener {secure} 127.0.0.1\nallow_anonymous true\nrequire_certificate true\n\
         cafile {}\ncertfile {}\nkeyfile {}\n",
        broker.port,
        path("ca.pem"),
        path("server.pem"),
        path("server.key")
    ));
    let files = |ca: &str| {
        let files = [("ca", ca), ("certificate", "client.pem"), ("key", "client.key")];
        let line = |(key, name): (&str, &str)| format!("{key} = {:?}\n", broker.path(name));
        files.map(line).concat()
    };
    let (good, untrusted) = (files("ca.pem"), files("other.pem"));
    broker.run();
    let mut ear = broker.ear();
    let url = |host: &str| format!("mqtts://{host}:{secure}/eyes");
    // Signed by somebody else, and for another name.
    for (host, more) in [("localhost", &untrusted), ("127.0.0.1", &good)] {
        let watch = Watch::photographs(&mqtt(&url(host), more), &[]);
        watch.await_said("is not trusted");
        assert!(watch.end() < Duration::from_secs(2));
    }
    let watch = Watch::photographs(&mqtt(&url("localhost"), &good), &[]);
    watch.await_said("hears us");
    let first = ear.next("/availability");
    assert_eq!(first.text(), "online", "nothing came over the others");
    let mut last = ear.next("/state").json()["frame"].as_u64().unwrap();
    for _ in 0..20 {
        let frame = ear.next("/state").json()["frame"].as_u64().unwrap();
        assert_eq!(frame, last + 1);
        last = frame;
    }
    assert!(watch.end() < Duration::from_secs(2));
    assert_eq!(ear.next("/availability").text(), "offline");
}

#[test]
fn an_odd_broker_is_told_and_holds_nobody_up() {
    // It accepts and says nothing; it closes at once; it says what is no MQTT; it is not there.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let curt = TcpListener::bind("127.0.0.1:0").unwrap();
    let odd = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let ports = [port(&silent), port(&curt), port(&odd), mqtt_support::free_port()];
    std::thread::spawn(move || curt.incoming().for_each(drop));
    std::thread::spawn(move || {
        for stream in odd.incoming().flatten() {
            use std::io::Write as _;
            let mut first = [0; 4096];
            let _ = (&stream).read(&mut first);
            let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = (&stream).read(&mut first);
        }
    });
    let told = ["says nothing", "", "does not speak MQTT", "cannot be reached"];
    let watches = ports.map(|port| {
        let url = format!("mqtt://127.0.0.1:{port}");
        Watch::photographs(&mqtt(&url, "retry_ms = 50"), &[])
    });
    for (watch, told) in watches.into_iter().zip(told) {
        watch.await_said("mqtt: broker 127.0.0.1:");
        watch.await_said(told);
        let (before, begun) = (watch.looked(), Instant::now());
        until("it still looks", || watch.looked() >= before + 20);
        assert!(begun.elapsed() < Duration::from_secs(20));
        let took = watch.end();
        assert!(took < Duration::from_secs(2), "{told}: {took:?}");
    }
    drop(silent);
}

#[test]
fn while_the_broker_is_away_the_newest_decisions_wait() {
    let Some(mut broker) = Broker::start() else { return };
    broker.kill();
    let config = mqtt(&broker.url(), "queue = 7\nretry_ms = 4000\nsnapshot_kib = 0");
    let watch = Watch::photographs(&config, &[]);
    watch.await_said("cannot be reached");
    until("more was decided than may wait", || watch.looked() > 20);
    // It will be tried again in some seconds: time enough to listen.
    broker.run();
    let mut ear = broker.ear();
    let first = ear.next("/state").json()["frame"].as_u64().unwrap();
    for frame in first + 1..first + 30 {
        assert_eq!(ear.next("/state").json()["frame"], frame, "in order and without gaps");
    }
    // What is older was lost, and is said to be.
    let lost = || broker.ear().next("/health").json()["lost"].as_u64().unwrap();
    until("health says so", || lost() > 10);
    // One that is on its way counts as lost too when there is no room for it any more.
    assert!(lost() <= first + 16, "{} were lost, {first} came first", lost());
}

#[test]
fn a_hundred_broker_restarts_change_nothing() {
    let Some(mut broker) = Broker::start() else { return };
    let config = mqtt(&broker.url(), "retry_ms = 20\nsnapshot_kib = 0");
    let watch = Watch::photographs(&config, &[]);
    broker.ear().next("/state");
    let (begun, before) = (Instant::now(), watch.looked());
    until("some are seen", || watch.looked() >= before + 25);
    let rate = 25.0 / begun.elapsed().as_secs_f64();
    let resources = watch.resources();
    let (begun, before) = (Instant::now(), watch.looked());
    let mut last = 0;
    for _ in 0..100 {
        broker.kill();
        broker.run();
        let mut ear = broker.ear();
        // The first may be one that was told before, for a broker that has forgotten it.
        for step in [0, 1] {
            let frame = ear.next("/state").json()["frame"].as_u64().unwrap();
            assert!(frame >= last + step, "{frame} after {last}");
            last = frame;
        }
        assert_eq!(ear.next("/state").json()["frame"], last + 1);
    }
    let after = (watch.looked() - before) as f64 / begun.elapsed().as_secs_f64();
    assert!(after > 0.7 * rate, "{after:.1} looks a second, {rate:.1} before");
    until("nothing is left of them", || watch.resources() == resources);
    assert!(watch.end() < Duration::from_secs(2));
}
