// The futures of a batch, the stores and the SDK in one another are a type deeper than the compiler's default.
#![recursion_limit = "256"]

use ingest::batch::{Ingest, IngestConfig};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use meter_aws::settings::{ArchiveBucket, Tables};
use meter_aws::{Clients, S3Archive, dynamodb};
use meter_domain::time::Timestamp;
use meter_runtime::observability;
use meter_runtime::settings::{self, Alerting, Metrics, Presence};
use meter_service::rule_cache::RuleCache;
use serde_json::Value;
use tracing::Instrument;

#[tokio::main]
async fn main() -> Result<(), Error> {
    observability::init();
    let (tables, bucket, settings, presence): (Tables, ArchiveBucket, settings::Ingest, Presence) =
        settings::load()?;
    let (metrics, alerting): (Metrics, Alerting) = settings::load()?;
    let clients = Clients::from_environment().await;
    let outbox = meter_runtime::outbox(&clients, &tables, &alerting);
    let choices = IngestConfig {
        layout: settings.archive_layout,
        policy: settings.device_policy(&presence, &metrics, &alerting),
        ttl_days: settings.message_ttl_days(),
        require_registration: settings.require_registration,
    };
    let archive = S3Archive::new(&clients, bucket.name);
    let messages = dynamodb::Messages::new(&clients, &tables);
    let metrics =
        meter_runtime::metric_store::ConfiguredMetricStore::new(&clients, &tables, &metrics)
            .await?;
    let alert_rules =
        RuleCache::new(dynamodb::AlertRules::new(&clients, &tables), alerting.rules_max_age_s);
    let ingest = Ingest::new(archive, messages, metrics, outbox, alert_rules, choices);
    let ingest = &ingest;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        let span = tracing::info_span!(
            target: meter_store::TRACE_TARGET, "batch", request_id = event.context.request_id,
        );
        observability::continue_trace(&span, &event.context);
        let response = ingest::handle_event(ingest, &event.payload, Timestamp::now());
        response.instrument(span).await.map_err(Error::from)
    }))
    .await
}
