//! What did not happen: silence, gaps, command timeouts.
//!
//! Not yet: so far the schedule reaches this function and its run is counted, no more. What is due
//! will come from the sparse index of architecture.md, decision 5.

use meter_core::observe::Metrics;
use meter_core::time::Timestamp;
use serde_json::{Value, json};

/// One run of the schedule; `event` is EventBridge's.
pub fn run(event: &Value, now: Timestamp) -> Value {
    let scheduled_for = event.get("time").and_then(Value::as_str);
    tracing::debug!(scheduled_for, "nothing is watched yet");
    let mut metrics = Metrics::new("watchdog");
    metrics.count("WatchdogRuns", 1);
    metrics.emit(now);
    json!({"handled": 0})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_says_how_much_it_handled_whatever_it_is_invoked_with() {
        for event in [json!({"time": "2026-03-01T12:00:00Z"}), json!({}), json!(null)] {
            assert_eq!(run(&event, Timestamp::EPOCH), json!({"handled": 0}));
        }
    }
}
