//! What operators see: log lines as JSON, CloudWatch metrics in the embedded metric format, and traces.
//!
//! The first two are lines on standard output, which Lambda hands to CloudWatch Logs: counting costs no call to
//! an API and cannot fail a message. A trace is a span of the invocation and one of each call of a store in it. They
//! go to X-Ray where its daemon is, as on Lambda, whatever the log's level; calls of stores are in the log, too, when
//! `RUST_LOG` names them: `info,meter::trace=debug`.

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

/// Starts logging as JSON lines, filtered by `RUST_LOG` (default `info`), panics included. Called once,
/// first thing in `main`; a second call does nothing.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    let subscriber = subscriber.with(crate::xray::layer_from_environment());
    if subscriber.try_init().is_ok() {
        // A panic's default message has no JSON around it, and several lines.
        std::panic::set_hook(Box::new(|panic| {
            tracing::error!(
                location = panic.location().map(tracing::field::display),
                "panicked: {}",
                panic.payload_as_str().unwrap_or("(no text)")
            );
        }));
    }
}

/// A span of an invocation, with this target, becomes a part of Lambda's own trace of it. To be called before the span is
/// entered.
pub fn continue_trace(span: &Span, context: &Context) {
    crate::xray::continue_trace(span, context);
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Milliseconds.
    Milliseconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// CloudWatch's word.
    fn as_str(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Milliseconds => "Milliseconds",
            Self::Bytes => "Bytes",
        }
    }
}

/// Numbers about one invocation, for one function. Adding to a name adds up.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    function: &'static str,
    values: BTreeMap<&'static str, (Unit, f64)>,
    properties: Map<String, Value>,
}

impl Metrics {
    /// Nothing counted yet. The function's name is the one dimension: CloudWatch bills each
    /// combination of dimensions as a metric of its own, so a device's id must never be one.
    pub fn new(function: &'static str) -> Self {
        Self { function, values: BTreeMap::new(), properties: Map::new() }
    }

    /// Counts `n` more of `name`. Counting 0 makes the metric exist, so that an alarm on it has data.
    pub fn count(&mut self, name: &'static str, n: usize) {
        self.add(name, Unit::Count, n as f64);
    }

    /// Adds to a number with a unit; one that is not finite is left out, as JSON has no word for it.
    pub fn add(&mut self, name: &'static str, unit: Unit, value: f64) {
        if value.is_finite() {
            let entry = self.values.entry(name).or_insert((unit, 0.0));
            *entry = (unit, entry.1 + value);
        }
    }

    /// Notes something that can be searched for in the log but is no metric (a request's id).
    pub fn property(&mut self, name: &'static str, value: impl Into<Value>) {
        self.properties.insert(name.to_owned(), value.into());
    }

    /// The line in the embedded metric format, without a line break; none if nothing was counted.
    pub fn to_emf(&self, at: Timestamp) -> Option<String> {
        if self.values.is_empty() {
            return None;
        }
        let definitions: Vec<_> = self
            .values
            .iter()
            .map(|(name, (unit, _))| json!({"Name": name, "Unit": unit.as_str()}))
            .collect();
        // Properties first, so that none of them can replace what CloudWatch reads.
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

    /// Writes the line to standard output, in one write, so that it stays one line beside the log's.
    pub fn emit(&self, at: Timestamp) {
        if let Some(mut line) = self.to_emf(at) {
            line.push('\n');
            // Nobody is left to tell when standard output is gone, and no message must fail for it.
            let _ = std::io::stdout().lock().write_all(line.as_bytes());
        }
    }
}

/// Whole numbers without a fraction: easier to read, and what people grep for.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_cloudwatch_documents() {
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
    fn nothing_counted_is_no_line_and_no_property_replaces_a_number() {
        let mut metrics = Metrics::new("ingest");
        metrics.property("Stored", "many");
        metrics.add("Lag", Unit::Milliseconds, f64::NAN);
        assert_eq!(metrics.to_emf(Timestamp::EPOCH), None);
        metrics.count("Stored", 1);
        let line: Value = serde_json::from_str(&metrics.to_emf(Timestamp::EPOCH).unwrap()).unwrap();
        assert_eq!(line["Stored"], 1);
    }
}
