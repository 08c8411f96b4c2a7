// The futures of a batch, the stores and the SDK in one another are a type deeper than the compiler's default.
#![recursion_limit = "256"]

use ingest::batch::{Choices, Ingest};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use meter_core::aws::{self, Bucket, Clients, dynamodb};
use meter_core::config::{self, Alerting, ArchiveBucket, Metrics, Presence, Tables};
use meter_core::observe;
use meter_core::rule::RuleCache;
use meter_core::time::Timestamp;
use serde_json::Value;
use tracing::Instrument;

#[tokio::main]
async fn main() -> Result<(), Error> {
    observe::init();
    let (tables, bucket, settings, presence): (Tables, ArchiveBucket, config::Ingest, Presence) =
        config::load()?;
    let (metrics, alerting): (Metrics, Alerting) = config::load()?;
    let clients = Clients::from_environment().await;
    let outbox = aws::outbox(&clients, &tables, &alerting);
    let choices = Choices {
        layout: settings.archive_layout,
        rules: settings.rules(&presence, &metrics, &alerting),
        ttl_days: settings.message_ttl_days(),
        require_registration: settings.require_registration,
    };
    let archive = Bucket::new(&clients, bucket.name);
    let messages = dynamodb::Messages::new(&clients, &tables);
    let metrics = aws::Metrics::new(&clients, &tables, &metrics).await?;
    let alert_rules =
        RuleCache::new(dynamodb::Rules::new(&clients, &tables), alerting.rules_max_age_s);
    let ingest = Ingest::new(archive, messages, metrics, outbox, alert_rules, choices);
    let ingest = &ingest;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        let span = tracing::info_span!(
            target: observe::TRACE, "batch", request_id = event.context.request_id,
        );
        observe::continue_trace(&span, &event.context);
        let response = ingest::respond(ingest, &event.payload, Timestamp::now());
        response.instrument(span).await.map_err(Error::from)
    }))
    .await
}
