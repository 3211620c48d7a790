//! Figures for Prometheus.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::models::Models;

/// Upper ends of the latency histograms, seconds: from a fast PC to a Pi Zero.
const BUCKETS: [f64; 12] = [0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 4.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfModel {
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfRequest {
    path: String,
    code: u16,
}

type Latencies = Family<OfModel, Histogram, fn() -> Histogram>;

/// A histogram of times, seconds.
pub(crate) fn times() -> Histogram {
    Histogram::new(BUCKETS)
}

/// Counters, shared by all threads.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Mutex<Registry>,
    requests: Family<OfRequest, Counter>,
    latency: Latencies,
    waiting: Family<OfModel, Gauge>,
    connections: Gauge,
    refused: Counter,
    temperature: Gauge<f64, std::sync::atomic::AtomicU64>,
    memory: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("kinglet");
        let requests = Family::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        let latency: Latencies = Family::new_with_constructor(times);
        let help = "Time that a picture takes in the model, with its preparation";
        registry.register_with_unit("inference", help, Unit::Seconds, latency.clone());
        let waiting = Family::default();
        registry.register("queue_length", "Pictures that wait for a model", waiting.clone());
        let connections = Gauge::default();
        registry.register("connections", "Open connections", connections.clone());
        let refused = Counter::default();
        let help = "Connections beyond the number allowed";
        registry.register("connections_refused", help, refused.clone());
        let temperature = Gauge::default();
        let help = "Temperature of the processor; NaN where it is not known";
        registry.register_with_unit("temperature", help, Unit::Celsius, temperature.clone());
        let memory = Gauge::default();
        let help = "Resident memory of the program";
        registry.register_with_unit("resident_memory", help, Unit::Bytes, memory.clone());
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program", build);
        let registry = Mutex::new(registry);
        Self(Arc::new(Inner {
            registry,
            requests,
            latency,
            waiting,
            connections,
            refused,
            temperature,
            memory,
        }))
    }
}

impl Metrics {
    /// The kind of text that [`Self::encode`] gives.
    pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

    /// Adds figures of others.
    pub(crate) fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.0.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Adds figures that others look up whenever they are asked for.
    pub(crate) fn collect(&self, collector: impl Collector) {
        self.register(|registry| registry.register_collector(Box::new(collector)));
    }

    /// A picture was classified, in so many seconds.
    pub(crate) fn classified(&self, model: &str, seconds: f64) {
        self.0.latency.get_or_create(&OfModel { model: model.to_owned() }).observe(seconds);
    }

    /// A request was answered. `path` is one of the server's own.
    pub(super) fn answered(&self, path: &str, code: u16) {
        self.0.requests.get_or_create(&OfRequest { path: path.to_owned(), code }).inc();
    }

    /// Open connections.
    pub(super) fn connections(&self) -> &Gauge {
        &self.0.connections
    }

    /// A connection was one too many.
    pub(super) fn refused(&self) {
        self.0.refused.inc();
    }

    /// All of it as text.
    pub(super) fn encode(&self, models: &Models) -> Result<String, std::fmt::Error> {
        for model in models.iter() {
            let label = OfModel { model: model.name().to_string() };
            self.0.waiting.get_or_create(&label).set(model.waiting() as i64);
        }
        let temperature = kinglet_device::Board::read().temperature_mc;
        self.0.temperature.set(temperature.map_or(f64::NAN, |t| t as f64 / 1e3));
        self.0.memory.set(kinglet_device::memory_bytes().unwrap_or(0) as i64);
        let mut out = String::new();
        let registry = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_text::encode(&mut out, &registry)?;
        Ok(out)
    }
}
