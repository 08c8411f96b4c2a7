//! Ingests MQTT messages (docs/adr/0001, docs/adr/0003).

mod event;

use std::time::Instant;

use lambda_runtime::Error;
use meter_aws::Clients;
use meter_domain::time::Timestamp;
use meter_runtime::observability::{self, Metrics, Unit};
use meter_runtime::settings::{self, Presence};
use meter_runtime::{AwsStores, StoreSettings};
use meter_service::ingestion::{BatchCounts, Ingestion, IngestionConfig};
use meter_service::rule_cache::RuleCache;
use meter_store::Stores;
use serde_json::{Value, json};

use self::event::Source;

#[tokio::main]
async fn main() -> Result<(), Error> {
    observability::init();
    let (stores, settings, presence): (StoreSettings, settings::Ingest, Presence) =
        settings::load()?;
    let clients = Clients::from_environment().await;
    let config = IngestionConfig {
        layout: settings.archive_layout,
        policy: settings.device_policy(&presence, &stores.metrics, &stores.alerting),
        ttl_days: settings.message_ttl_days(),
        require_registration: settings.require_registration,
    };
    let alert_rules = RuleCache::new(stores.alerting.rules_max_age_s);
    let ingestion = Ingestion::new(AwsStores::new(&clients, &stores), alert_rules, config);
    let span = |request_id: &str| tracing::info_span!(target: meter_store::TRACE_TARGET, "batch", request_id);
    meter_runtime::serve(span, async |event: Value, _: &str, now| {
        Ok(handle_event(&ingestion, &event, now).await?)
    })
    .await
}

/// A single message was not stored. The caller retries.
#[derive(Debug, thiserror::Error)]
#[error("the message was not stored; the log contains the reason")]
struct MessageNotStored;

/// Handles one invocation. Returns the response of an SQS event source with partial batch failures.
///
/// # Errors
///
/// The event is a single message that was not stored.
async fn handle_event<S: Stores>(
    ingestion: &Ingestion<S>,
    event: &Value,
    now: Timestamp,
) -> Result<Value, MessageNotStored> {
    let started = Instant::now();
    let (source, deliveries) = event::parse(event, now);
    let report = ingestion.ingest(&deliveries, now).await;
    let mut metrics = metrics(&report.counts);
    metrics.add("BatchDuration", Unit::Milliseconds, started.elapsed().as_secs_f64() * 1_000.0);
    metrics.emit(now);
    match source {
        Source::Queue => {
            let failures: Vec<Value> = report
                .failed
                .iter()
                .map(|index| json!({"itemIdentifier": deliveries[*index].id}))
                .collect();
            Ok(json!({"batchItemFailures": failures}))
        }
        Source::Rule if report.failed.is_empty() => Ok(json!({})),
        Source::Rule => Err(MessageNotStored),
    }
}

fn metrics(counts: &BatchCounts) -> Metrics {
    let mut metrics = Metrics::new("ingest");
    metrics.count("MessagesReceived", counts.received);
    metrics.count("MessagesStored", counts.stored);
    metrics.count("MessagesRedelivered", counts.redelivered);
    metrics.count("MessagesQuarantined", counts.quarantined);
    metrics.count("MessagesFailed", counts.failed);
    metrics.count("MessagesFromUnregisteredDevices", counts.unregistered);
    metrics.count("SamplesRejected", counts.samples_rejected);
    metrics.count("SamplesOutsideRetention", counts.outside_retention);
    metrics.count("RecordsSuperseded", counts.superseded);
    metrics.count("SequenceDuplicates", counts.duplicates);
    metrics.count("SequenceOutOfOrder", counts.out_of_order);
    metrics.count("DeviceRestarts", counts.restarts);
    metrics.count("RuleSamplesLate", counts.late_samples);
    metrics.count("StateConflicts", counts.conflicts);
    metrics.count("StoreMisconfigurations", counts.misconfigured);
    metrics
}
