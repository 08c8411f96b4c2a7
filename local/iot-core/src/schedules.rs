//! Schedules, as EventBridge implements them.

use std::sync::Arc;

use bytes::Bytes;
use jiff::{Timestamp, Unit};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::{
    backoff::Backoff,
    counters::Counters,
    functions::{FunctionClient, InvokeError},
    template::Schedule,
};

/// Invokes the scheduled function at its rate until `shutdown`.
///
/// The first invocation is immediate, since deadlines may have passed while nothing ran.
/// Invocations of a schedule never overlap: one that outlasts the interval delays the next, and
/// skipped ones are not repeated.
pub(crate) async fn run(
    schedule: Schedule,
    region: String,
    functions: FunctionClient,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut ticks = interval(schedule.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let event = Bytes::from(event(&schedule.name, &region, Timestamp::now()));
        if invoke(&schedule, event, &functions, &shutdown).await {
            counters.scheduled.add(1);
        }
    }
    Ok(())
}

/// Returns whether the function completed.
async fn invoke(
    schedule: &Schedule,
    event: Bytes,
    functions: &FunctionClient,
    shutdown: &CancellationToken,
) -> bool {
    let mut retry = Backoff::new(schedule.interval / 100, schedule.interval / 4);
    loop {
        match functions.invoke(&schedule.function, event.clone()).await {
            Ok(_) => return true,
            Err(error @ InvokeError::Unreachable { .. }) => {
                debug!(%error, "{} will be retried", schedule.name);
                let delay = retry.next_delay();
                if shutdown.run_until_cancelled(sleep(delay)).await.is_none() {
                    return false;
                }
            }
            Err(error) => {
                warn!(%error, "{} failed; the next invocation follows at its time", schedule.name);
                return false;
            }
        }
    }
}

/// Returns a scheduled event of EventBridge
/// (<https://docs.aws.amazon.com/eventbridge/latest/ref/event-delivery-level.html>).
fn event(name: &str, region: &str, now: Timestamp) -> String {
    let time = now.round(Unit::Second).unwrap_or(now);
    json!({
        "version": "0",
        "id": Uuid::new_v4(),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": time.to_string(),
        "region": region,
        "resources": [format!("arn:aws:events:{region}:000000000000:rule/{name}")],
        "detail": {},
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheduled_event_has_the_format_of_eventbridge() {
        let now = Timestamp::from_millisecond(1_785_000_000_123).unwrap();
        let event: serde_json::Value =
            serde_json::from_str(&event("WatchdogFunctionEveryMinute", "us-east-1", now)).unwrap();
        assert_eq!(event["detail-type"], "Scheduled Event");
        assert_eq!(event["source"], "aws.events");
        assert_eq!(event["time"], "2026-07-25T17:20:00Z");
        assert_eq!(
            event["resources"][0],
            "arn:aws:events:us-east-1:000000000000:rule/WatchdogFunctionEveryMinute"
        );
        assert_eq!(event["detail"], json!({}));
        assert!(Uuid::parse_str(event["id"].as_str().unwrap()).is_ok());
    }
}
