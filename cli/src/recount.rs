//! Counts devices and alerts again: an invocation of the watchdog function (docs/adr/0013).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::lambda::LambdaClient;
use crate::options::OutputFormat;
use crate::report::{self, Completion, Report};
use crate::target::{Function, Target};

/// The response of the watchdog function.
#[derive(Debug, Serialize, Deserialize)]
struct RecountResponse {
    recounted: Vec<RecountedCounters>,
}

/// One group of counters, before and after.
#[derive(Debug, Serialize, Deserialize)]
struct RecountedCounters {
    what: String,
    before: BTreeMap<String, i64>,
    after: BTreeMap<String, i64>,
    /// Shards that changed during the count and were not corrected.
    skipped_shards: usize,
}

/// Runs `iot-meter recount`.
///
/// # Errors
/// When the function is not found or fails.
pub(crate) async fn run(target: &Target, output: OutputFormat) -> Result<Completion> {
    let spinner = report::spinner();
    spinner.set_message("counting devices and alerts");
    let name = target.function_name(Function::Watchdog).await?;
    let client = LambdaClient::new(target.config())?;
    let response = client.invoke(&name, &json!({"recount": true})).await;
    spinner.finish_and_clear();
    let response: RecountResponse = serde_json::from_value(response?)
        .context("the response of the watchdog function is not a recount")?;
    report::print(&response, output)?;
    let is_full = response.recounted.iter().all(|counters| counters.skipped_shards == 0);
    Ok(Completion::full_if(is_full))
}

impl Report for RecountResponse {
    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![["COUNTER", "BEFORE", "AFTER"].map(str::to_owned).to_vec()];
        for RecountedCounters { what, before, after, skipped_shards } in &self.recounted {
            let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            let count = |counts: &BTreeMap<String, i64>, name| {
                counts.get(name).copied().unwrap_or_default().to_string()
            };
            for name in names {
                rows.push(vec![format!("{what}: {name}"), count(before, name), count(after, name)]);
            }
            if *skipped_shards > 0 {
                // They changed during the count: another run corrects them.
                let name = format!("{what}: shards not counted");
                rows.push(vec![name, String::new(), skipped_shards.to_string()]);
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_has_a_row_for_each_counter_and_each_skipped_group() {
        let response: RecountResponse = serde_json::from_value(json!({"recounted": [
            {"what": "devices", "before": {"active": 2}, "after": {"active": 3, "inactive": 1},
             "skipped_shards": 0},
            {"what": "alerts", "before": {}, "after": {}, "skipped_shards": 2},
        ], "message": "m"}))
        .unwrap();
        let rows = response.rows();
        assert_eq!(rows[1], ["devices: active", "2", "3"]);
        assert_eq!(rows[2], ["devices: inactive", "0", "1"]);
        assert_eq!(rows[3], ["alerts: shards not counted", "", "2"]);
    }
}
