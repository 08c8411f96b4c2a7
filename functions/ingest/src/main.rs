use ingest::batch::{Ingest, IngestConfig};
use lambda_runtime::Error;
use meter_aws::Clients;
use meter_runtime::settings::{self, Presence};
use meter_runtime::{AwsStores, StoreSettings, observability};
use meter_service::rule_cache::RuleCache;
use serde_json::Value;

#[tokio::main]
async fn main() -> Result<(), Error> {
    observability::init();
    let (stores, settings, presence): (StoreSettings, settings::Ingest, Presence) =
        settings::load()?;
    let clients = Clients::from_environment().await;
    let config = IngestConfig {
        layout: settings.archive_layout,
        policy: settings.device_policy(&presence, &stores.metrics, &stores.alerting),
        ttl_days: settings.message_ttl_days(),
        require_registration: settings.require_registration,
    };
    let alert_rules = RuleCache::new(stores.alerting.rules_max_age_s);
    let ingest = Ingest::new(AwsStores::new(&clients, &stores), alert_rules, config);
    let span = |request_id: &str| tracing::info_span!(target: meter_store::TRACE_TARGET, "batch", request_id);
    meter_runtime::serve(span, async |event: Value, _: &str, now| {
        Ok(ingest::handle_event(&ingest, &event, now).await?)
    })
    .await
}
