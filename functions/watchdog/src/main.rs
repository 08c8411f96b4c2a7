use lambda_runtime::Error;
use meter_aws::Clients;
use meter_domain::state::DevicePolicy;
use meter_runtime::settings::{self, Presence};
use meter_runtime::{AwsStores, StoreSettings, observability};
use meter_service::rule_cache::RuleCache;
use serde_json::json;
use watchdog::{Request, Watchdog};

#[tokio::main]
async fn main() -> Result<(), Error> {
    observability::init();
    let (settings, presence): (StoreSettings, Presence) = settings::load()?;
    let clients = Clients::from_environment().await;
    let StoreSettings { metrics, alerting, .. } = &settings;
    let watchdog = Watchdog {
        stores: AwsStores::new(&clients, &settings),
        alert_rules: RuleCache::new(alerting.rules_max_age_s),
        policy: alerting.extend_policy(DevicePolicy {
            rollup_gap_s: metrics.rollup_gap_s(),
            ..presence.device_policy()
        }),
        rollup_ttl_days: metrics.rollup_ttl_days(),
    };
    let span = |request_id: &str| tracing::info_span!(target: meter_store::TRACE_TARGET, "watchdog", request_id);
    meter_runtime::serve(span, async |request: Request, _: &str, now| {
        if request.recount {
            return Ok(watchdog::recount(&watchdog.stores).await?);
        }
        let report = watchdog.run(now).await?;
        report.metrics().emit(now);
        Ok(json!({"handled": report.devices + report.commands, "failed": report.failed}))
    })
    .await
}
