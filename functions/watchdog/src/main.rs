//! The function of the schedule, invoked once a minute. An operator can invoke it with
//! `{"recount": true}`.

use lambda_runtime::Error;
use meter_aws::Clients;
use meter_domain::state::DevicePolicy;
use meter_domain::time::Timestamp;
use meter_runtime::observability::{self, Metrics};
use meter_runtime::settings::{self, Presence};
use meter_runtime::{AwsStores, StoreSettings};
use meter_service::recount::recount;
use meter_service::rule_cache::RuleCache;
use meter_service::watchdog::{Watchdog, WatchdogReport};
use meter_store::RecountReport;
use serde::Deserialize;
use serde_json::{Value, json};

/// The payload of an invocation. Other fields, such as those of the schedule, are ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
struct Request {
    /// Corrects the counts of the fleet instead of a run.
    #[serde(default)]
    recount: bool,
}

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
            return Ok(recount_response(&recount(&watchdog.stores).await?));
        }
        let report = watchdog.run(now).await?;
        emit_metrics(&report, now);
        Ok(json!({"handled": report.devices + report.commands, "failed": report.failed}))
    })
    .await
}

fn recount_response(reports: &[RecountReport]) -> Value {
    let message = match reports.iter().any(|report| report.skipped_shards > 0) {
        true => "some counts changed during the recount and were not corrected: recount again",
        false => "all counts are correct",
    };
    json!({"recounted": reports, "message": message})
}

fn emit_metrics(report: &WatchdogReport, now: Timestamp) {
    let mut metrics = Metrics::new("watchdog");
    metrics.count("DevicesDue", report.devices);
    metrics.count("DevicesWentOffline", report.went_offline);
    metrics.count("DeviceCleanupsCompleted", report.cleaned_up);
    metrics.count("HoursRolledUp", report.rolled_up);
    metrics.count("DeviceCleanupsPending", report.cleanups_pending);
    metrics.count("CommandsDue", report.commands);
    metrics.count("CommandsTimedOut", report.timed_out);
    metrics.count("CommandsRepublished", report.republished);
    metrics.count("WatchdogFailures", report.failed);
    metrics.count("IngestLagging", usize::from(report.ingest_lagging));
    metrics.emit(now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_explicit_request_recounts() {
        let schedule =
            json!({"version": "0", "source": "aws.events", "detail": {}, "resources": []});
        for (payload, expected) in
            [(schedule, false), (json!({}), false), (json!({"recount": true}), true)]
        {
            let request: Request = serde_json::from_value(payload).unwrap();
            assert_eq!(request.recount, expected);
        }
    }
}
