// The futures of a run, the stores and the SDK in one another are a type deeper than the compiler's default.
#![recursion_limit = "256"]

use lambda_runtime::{Error, LambdaEvent, service_fn};
use meter_aws::settings::{ArchiveBucket, Tables};
use meter_aws::{Clients, IngestQueue, S3Archive, dynamodb};
use meter_domain::state::DevicePolicy;
use meter_domain::time::Timestamp;
use meter_runtime::observability;
use meter_runtime::settings::{self, Alerting, Metrics, Presence};
use meter_service::rule_cache::RuleCache;
use serde_json::json;
use tracing::Instrument;
use watchdog::{Request, Watchdog};

#[tokio::main]
async fn main() -> Result<(), Error> {
    observability::init();
    let (tables, queue, presence, bucket): (
        Tables,
        meter_aws::settings::IngestQueue,
        Presence,
        ArchiveBucket,
    ) = settings::load()?;
    let (metrics, alerting): (Metrics, Alerting) = settings::load()?;
    let clients = Clients::from_environment().await;
    let watchdog = Watchdog {
        outbox: meter_runtime::outbox(&clients, &tables, &alerting),
        queue: IngestQueue::new(&clients, &queue),
        messages: dynamodb::Messages::new(&clients, &tables),
        archive: S3Archive::new(&clients, bucket.name),
        alert_rules: RuleCache::new(
            dynamodb::AlertRules::new(&clients, &tables),
            alerting.rules_max_age_s,
        ),
        policy: alerting.extend_policy(DevicePolicy {
            rollup_gap_s: metrics.rollup_gap_s(),
            ..presence.device_policy()
        }),
        rollup_ttl_days: metrics.rollup_ttl_days(),
    };
    let watchdog = &watchdog;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Request>| async move {
        let span = tracing::info_span!(
            target: meter_store::TRACE_TARGET, "watchdog", request_id = event.context.request_id,
        );
        observability::continue_trace(&span, &event.context);
        let work = async {
            if event.payload.recount {
                let outbox = &watchdog.outbox;
                return Ok(watchdog::recount(&outbox.registry, &outbox.alerts).await?);
            }
            let now = Timestamp::now();
            let report = watchdog.run(now).await?;
            report.metrics().emit(now);
            Ok::<_, Error>(
                json!({"handled": report.devices + report.commands, "failed": report.failed}),
            )
        };
        work.instrument(span).await
    }))
    .await
}
