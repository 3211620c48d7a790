//! What Home Assistant is told of us: a device, and what it has.
//!
//! Source: the keys are those of "MQTT discovery" and of the MQTT sensor, binary sensor and camera
//! in <https://www.home-assistant.io/integrations/mqtt/>; a topic is
//! `PREFIX/COMPONENT/DEVICE/OBJECT/config`, with identifiers of letters, digits, `_` and `-`.

use kinglet_device::Board;
use serde_json::{Value, json};

use super::outbox::Message;
use super::settings::Content;
use super::topics::id;

/// The configuration of everything that we publish; nothing where discovery is off.
pub(super) fn messages(content: &Content, board: &Board) -> Vec<Message> {
    if content.discovery.is_empty() {
        return Vec::new();
    }
    let name = &content.name;
    let device = format!("kinglet_{}", id(name));
    let mut all = Vec::new();
    let mut add = |component: &str, object: &str, mut config: Value| {
        let unique = format!("{device}_{object}");
        config["unique_id"] = json!(unique);
        config["availability_topic"] = json!(content.topics.of("availability"));
        config["device"] = json!({
            "identifiers": [device],
            "name": name,
            "manufacturer": "Kinglet",
            "model": board.model.as_deref().unwrap_or("image classifier"),
            "sw_version": env!("CARGO_PKG_VERSION"),
        });
        config["origin"] = json!({ "name": "kinglet", "sw_version": env!("CARGO_PKG_VERSION") });
        let topic = format!("{}/{component}/{device}/{object}/config", content.discovery);
        all.push(Message::value(&topic, config.to_string()));
    };
    for (area, region) in content.areas.iter().enumerate() {
        let object = |what: &str| match region {
            // The number keeps regions apart whose names differ in signs alone.
            Some(region) => format!("{area}_{}_{what}", id(region)),
            None => what.to_owned(),
        };
        let called = |what: &str| match region {
            Some(region) => format!("{region}: {what}"),
            None => what.to_owned(),
        };
        let (state, scores) =
            (content.topics.of_area(area, "state"), content.topics.of_area(area, "scores"));
        add(
            "sensor",
            &object("decision"),
            json!({
                "name": called("decision"),
                "state_topic": state,
                // States of Home Assistant have at most 255 letters.
                "value_template": "{{ (value_json.decision or 'nothing')[:255] }}",
                "json_attributes_topic": state,
                "icon": "mdi:eye",
                "qos": 1,
            }),
        );
        add(
            "sensor",
            &object("confidence"),
            json!({
                "name": called("confidence"),
                "state_topic": scores,
                "value_template":
                    "{{ (value_json.top[0].score * 100) | round(1) if value_json.top else none }}",
                "unit_of_measurement": "%",
                "state_class": "measurement",
            }),
        );
        add(
            "sensor",
            &object("latency"),
            json!({
                "name": called("latency"),
                "state_topic": scores,
                "value_template": "{{ value_json.latency_ms | round(1) }}",
                "device_class": "duration",
                "unit_of_measurement": "ms",
                "state_class": "measurement",
                "entity_category": "diagnostic",
            }),
        );
    }
    for rule in &content.rules {
        let config = json!({
            "name": rule.name,
            "state_topic": content.topics.of(&format!("rule/{}", rule.id)),
            "payload_on": "ON",
            "payload_off": "OFF",
            "qos": 1,
        });
        add("binary_sensor", &format!("rule_{}", rule.id), config);
    }
    let health = content.topics.of("health");
    add(
        "binary_sensor",
        "problem",
        json!({
            "name": "problem",
            "state_topic": health,
            "value_template":
                "{{ 'ON' if value_json.problems or value_json.camera.state == 'lost' else 'OFF' }}",
            "payload_on": "ON",
            "payload_off": "OFF",
            "device_class": "problem",
            "json_attributes_topic": health,
            "json_attributes_template": "{{ value_json.problems | tojson }}",
            "entity_category": "diagnostic",
        }),
    );
    if board.temperature_mc.is_some() {
        add(
            "sensor",
            "temperature",
            json!({
                "name": "temperature",
                "state_topic": health,
                "value_template": "{{ value_json.temperature_c }}",
                "device_class": "temperature",
                "unit_of_measurement": "°C",
                "state_class": "measurement",
                "entity_category": "diagnostic",
            }),
        );
    }
    if content.picture > 0 {
        let config = json!({ "name": "snapshot", "topic": content.topics.of("snapshot") });
        add("camera", "snapshot", config);
    }
    all
}
