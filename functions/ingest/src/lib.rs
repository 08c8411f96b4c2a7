//! MQTT messages to archive, metrics, state and alerts (docs/adr/0001, docs/adr/0003).
//!
//! [`event`] reads what the queue or the rule hands over, [`batch`] does the work, and [`handle_event`] says
//! which messages must come again.

pub mod batch;
pub mod event;

use meter_domain::time::Timestamp;
use meter_runtime::observability::{Metrics, Unit};
use meter_store::Stores;
use serde_json::{Value, json};

use self::batch::{BatchCounts, Ingest};
use self::event::Source;

/// Something in a message that was handed over alone could not be stored: the caller tries again.
#[derive(Debug, thiserror::Error)]
#[error("the message was not stored; the reason is in the log")]
pub struct BatchWriteError;

/// Handles one invocation and answers what Lambda expects of an SQS event source that reports failures
/// one by one.
pub async fn handle_event<S: Stores>(
    ingest: &Ingest<S>,
    event: &Value,
    now: Timestamp,
) -> Result<Value, BatchWriteError> {
    let started = std::time::Instant::now();
    let (source, deliveries) = event::parse(event, now);
    let outcome = ingest.handle(&deliveries, now).await;
    report(&outcome.counts, started.elapsed().as_secs_f64() * 1_000.0, now);
    match source {
        Source::Queue => {
            let failures: Vec<Value> = outcome
                .failed
                .iter()
                .map(|index| json!({"itemIdentifier": deliveries[*index].id}))
                .collect();
            Ok(json!({"batchItemFailures": failures}))
        }
        Source::Rule if outcome.failed.is_empty() => Ok(json!({})),
        Source::Rule => Err(BatchWriteError),
    }
}

fn report(counts: &BatchCounts, duration_ms: f64, now: Timestamp) {
    let mut metrics = Metrics::new("ingest");
    for (name, n) in counts.metrics() {
        metrics.count(name, n);
    }
    metrics.add("BatchDuration", Unit::Milliseconds, duration_ms);
    metrics.emit(now);
}
