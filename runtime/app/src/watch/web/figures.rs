//! Figures of watching, for Prometheus.

use std::collections::BTreeSet;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use super::super::bus::Bus;
use super::super::decision::Decision;
use super::super::shadow::Comparison;
use crate::decide::DriftReport;
use crate::http::{Metrics, times};

/// Names that are counted each for itself; all further ones are counted together.
const NAMES: usize = 100;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfDecision {
    class: String,
    region: String,
}

/// What is counted with each decision.
pub(super) struct Figures {
    decisions: Family<OfDecision, Counter>,
    names: BTreeSet<String>,
    latency: Histogram,
}

impl Figures {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let (decisions, latency) = (Family::default(), times());
        metrics.register(|registry| {
            let help = "Changes to a class (or unknown, or none), by region; rare ones are 'other'";
            registry.register("decisions", help, decisions.clone());
            let help = "From a frame's capture to its decision";
            registry.register_with_unit("latency", help, Unit::Seconds, latency.clone());
        });
        Self { decisions, names: BTreeSet::new(), latency }
    }

    pub(super) fn count(&mut self, decision: &Decision) {
        if !decision.lost {
            self.latency.observe(decision.latency_ms / 1e3);
        }
        if !decision.changed {
            return;
        }
        let mut class = decision.decision.clone().unwrap_or_else(|| "none".into());
        if !self.names.contains(&class) {
            if self.names.len() < NAMES {
                self.names.insert(class.clone());
            } else {
                class = "other".into();
            }
        }
        let region = decision.region.clone().unwrap_or_default();
        self.decisions.get_or_create(&OfDecision { class, region }).inc();
    }
}

/// What the bus knows when it is asked.
#[derive(Debug)]
pub(super) struct OfBus(pub(super) Bus);

impl Collector for OfBus {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let health = self.0.health();
        let running = health.camera.state == kinglet_device::camera::State::Running;
        let camera = &health.camera;
        for (name, help, value) in [
            ("frames", "Frames that came from the camera", camera.frames),
            ("frames_dropped", "Frames that nobody took in time", camera.dropped),
            ("camera_lost", "Times that the camera was lost", camera.lost),
            ("inferences", "Frames, or regions of them, looked at", health.inferences),
        ] {
            put(&mut encoder, name, help, None, &ConstCounter::new(value))?;
        }
        let up = ConstGauge::new(i64::from(running));
        put(&mut encoder, "camera_up", "Whether frames come", None, &up)?;
        let problems = ConstGauge::new(health.problems.len() as i64);
        let help = "Parts that do not work at present";
        put(&mut encoder, "problems", help, None, &problems)?;
        if let Some(report) = &health.drift {
            drift(&mut encoder, report)?;
        }
        let uptime = ConstGauge::new(health.uptime_s);
        let help = "Time since the start";
        put(&mut encoder, "uptime", help, Some(&Unit::Seconds), &uptime)?;
        match &health.shadow {
            Some(comparison) => shadow(&mut encoder, comparison),
            None => Ok(()),
        }
    }
}

/// How the second model compares with the first.
fn shadow(encoder: &mut DescriptorEncoder<'_>, comparison: &Comparison) -> fmt::Result {
    let Comparison { compared, skipped, same_best, same_decision, failed, .. } = *comparison;
    for (name, help, value) in [
        ("shadow_compared", "Frames, or regions of them, that both models have seen", compared),
        ("shadow_skipped", "Those that the second model has left out", skipped),
        ("shadow_same_best", "Those compared with the same best class", same_best),
        ("shadow_same_decision", "Those compared with the same decision", same_decision),
        ("shadow_failed", "Those that the second model could not look at", failed),
    ] {
        put(encoder, name, help, None, &ConstCounter::new(value))?;
    }
    for (name, help, time) in [
        ("shadow_first", "Mean time of the first model on what was compared", comparison.first_ms),
        ("shadow_second", "Mean time of the second model on it", comparison.second_ms),
    ] {
        put(encoder, name, help, Some(&Unit::Seconds), &ConstGauge::new(time.mean / 1e3))?;
    }
    Ok(())
}

/// How pictures compare with the model's reference.
fn drift(encoder: &mut DescriptorEncoder<'_>, report: &DriftReport) -> fmt::Result {
    let counter = ConstCounter::new(report.windows);
    put(encoder, "drift_windows", "Windows of pictures compared", None, &counter)?;
    let counter = ConstCounter::new(report.alarms);
    put(encoder, "drift_alarms", "Of these unlike the reference", None, &counter)?;
    let alarm = ConstGauge::new(i64::from(report.alarm));
    let help = "Whether the last window was unlike the reference";
    put(encoder, "drift_alarm", help, None, &alarm)?;
    let (Some(far), Some(limit)) = (report.distances, report.thresholds) else { return Ok(()) };
    let help = "How far the last window was, of how far is too far";
    for (name, far, limit) in [
        ("drift_confidence", Some(far.confidence), limit.confidence),
        ("drift_classes", far.classes, limit.classes),
        ("drift_looks", Some(far.looks), limit.looks),
        ("drift_features", far.features, limit.features),
    ] {
        let Some(far) = far else { continue };
        put(encoder, name, help, None, &ConstGauge::new(far / limit.max(f64::MIN_POSITIVE)))?;
    }
    Ok(())
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    let encoder = encoder.encode_descriptor(name, help, unit, metric.metric_type())?;
    metric.encode(encoder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_counted_up_to_a_number() {
        let mut figures = Figures::new(&Metrics::default());
        for index in 0..300 {
            let decision = Some(format!("class {index}"));
            figures.count(&Decision { decision, changed: true, ..Decision::default() });
        }
        let of = |class: &str| {
            let label = OfDecision { class: class.into(), region: String::new() };
            figures.decisions.get_or_create(&label).get()
        };
        assert_eq!((of("class 99"), of("other")), (1, 200));
    }
}
