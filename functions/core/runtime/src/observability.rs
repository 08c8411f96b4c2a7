//! Observability: log lines as JSON, CloudWatch metrics in the embedded metric format, and traces.
//!
//! Logs and metrics are lines on standard output, which Lambda sends to CloudWatch Logs: a metric
//! needs no API call and cannot fail a message. A trace has a span for the invocation and one for
//! each AWS call. Spans go to the X-Ray daemon, where there is one, at every log level. The filter
//! `RUST_LOG=info,meter::trace=debug` also logs a line for each AWS call.

use std::collections::BTreeMap;
use std::io::Write;

use lambda_runtime::Context;
use meter_domain::time::Timestamp;
use serde_json::{Map, Value, json};
use tracing::Span;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// The CloudWatch namespace of every metric.
pub const NAMESPACE: &str = "IotMeter";

/// Installs the subscriber for logs and traces, and a panic hook that logs.
///
/// Log lines are JSON, filtered by `RUST_LOG` (default `info`). Call it first in `main`; a second
/// call has no effect.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    let subscriber = subscriber.with(crate::xray::layer_from_environment());
    if subscriber.try_init().is_ok() {
        // The default panic message has several lines and is no JSON.
        std::panic::set_hook(Box::new(|panic| {
            tracing::error!(
                location = panic.location().map(tracing::field::display),
                "panicked: {}",
                panic.payload_as_str().unwrap_or("(no text)")
            );
        }));
    }
}

/// Makes the span of an invocation part of the trace of Lambda. Call it before the span is entered.
pub fn continue_trace(span: &Span, context: &Context) {
    crate::xray::continue_trace(span, context);
}

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of events or items.
    Count,
    /// Milliseconds.
    Milliseconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// Returns the name of the unit in CloudWatch.
    fn as_str(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Milliseconds => "Milliseconds",
            Self::Bytes => "Bytes",
        }
    }
}

/// The metrics of one invocation of a function. Values added under one name are summed.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    function: &'static str,
    values: BTreeMap<&'static str, (Unit, f64)>,
    properties: Map<String, Value>,
}

impl Metrics {
    /// Creates an empty set of metrics with the function as the only dimension.
    ///
    /// CloudWatch bills each combination of dimensions as a metric, so a device id is never one.
    pub fn new(function: &'static str) -> Self {
        Self { function, values: BTreeMap::new(), properties: Map::new() }
    }

    /// Adds `n` to a count. Adding 0 creates the metric, so that an alarm on it has data.
    pub fn count(&mut self, name: &'static str, n: usize) {
        self.add(name, Unit::Count, n as f64);
    }

    /// Adds to a metric with a unit. Ignores values that are not finite, which JSON cannot
    /// represent.
    pub fn add(&mut self, name: &'static str, unit: Unit, value: f64) {
        if value.is_finite() {
            let entry = self.values.entry(name).or_insert((unit, 0.0));
            *entry = (unit, entry.1 + value);
        }
    }

    /// Adds a field to the log line that is no metric, for example a request id.
    pub fn property(&mut self, name: &'static str, value: impl Into<Value>) {
        self.properties.insert(name.to_owned(), value.into());
    }

    /// Returns the line in the embedded metric format, without a line break; `None` without
    /// metrics.
    pub fn to_emf(&self, at: Timestamp) -> Option<String> {
        if self.values.is_empty() {
            return None;
        }
        let definitions: Vec<_> = self
            .values
            .iter()
            .map(|(name, (unit, _))| json!({"Name": name, "Unit": unit.as_str()}))
            .collect();
        // Properties first, so that none of them can replace a metric.
        let mut line = self.properties.clone();
        for (name, (_, value)) in &self.values {
            line.insert((*name).to_owned(), number(*value));
        }
        line.insert("function".to_owned(), self.function.into());
        line.insert(
            "_aws".to_owned(),
            json!({
                "Timestamp": at.as_millis(),
                "CloudWatchMetrics": [{
                    "Namespace": NAMESPACE,
                    "Dimensions": [["function"]],
                    "Metrics": definitions,
                }],
            }),
        );
        Some(Value::Object(line).to_string())
    }

    /// Writes the line to standard output in one write, so that log lines cannot interleave with
    /// it.
    pub fn emit(&self, at: Timestamp) {
        if let Some(mut line) = self.to_emf(at) {
            line.push('\n');
            // A closed standard output must not fail a message, and an error has no other
            // destination.
            let _ = std::io::stdout().lock().write_all(line.as_bytes());
        }
    }
}

/// Returns a whole number as an integer, which is easier to search for than `5.0`.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_the_embedded_metric_format() {
        let mut metrics = Metrics::new("ingest");
        metrics.count("Stored", 2);
        metrics.count("Stored", 3);
        metrics.count("Quarantined", 0);
        metrics.add("Lag", Unit::Milliseconds, 12.5);
        metrics.property("request_id", "r-1");
        let line = metrics.to_emf(Timestamp::from_millis(1_000).unwrap()).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap(),
            json!({
                "_aws": {"Timestamp": 1000, "CloudWatchMetrics": [{
                    "Namespace": "IotMeter",
                    "Dimensions": [["function"]],
                    "Metrics": [
                        {"Name": "Lag", "Unit": "Milliseconds"},
                        {"Name": "Quarantined", "Unit": "Count"},
                        {"Name": "Stored", "Unit": "Count"},
                    ],
                }]},
                "function": "ingest",
                "request_id": "r-1",
                "Lag": 12.5,
                "Quarantined": 0,
                "Stored": 5,
            })
        );
    }

    #[test]
    fn no_metrics_produce_no_line_and_properties_replace_no_metric() {
        let mut metrics = Metrics::new("ingest");
        metrics.property("Stored", "many");
        metrics.add("Lag", Unit::Milliseconds, f64::NAN);
        assert_eq!(metrics.to_emf(Timestamp::EPOCH), None);
        metrics.count("Stored", 1);
        let line: Value = serde_json::from_str(&metrics.to_emf(Timestamp::EPOCH).unwrap()).unwrap();
        assert_eq!(line["Stored"], 1);
    }
}
