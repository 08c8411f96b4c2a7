//! The quarantined messages of a fleet.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use jiff::Timestamp;
use serde::Deserialize;

use super::super::environment::Environment;
use super::super::model::Expected;
use super::super::rest::RestApi;
use super::super::runner::ScenarioRun;
use super::{VerifyReport, parse};

/// Verifies that each invalid message is quarantined once with its bytes.
pub(super) async fn verify_quarantine(
    environment: &mut Environment,
    scenario_run: &ScenarioRun,
    expected: &Expected,
    report: &mut VerifyReport,
) -> Result<()> {
    let from = super::super::scenario::start_time(scenario_run.fleet.seed);
    let mut count = 0;
    let mut missing: BTreeMap<(String, Vec<u8>), &BTreeSet<Timestamp>> =
        expected.quarantine.iter().map(|(key, at)| (key.clone(), at)).collect();
    for entry in entries_since(&mut environment.api, from).await? {
        let path = format!("/api/quarantine/{}", entry.id);
        if !entry.topic.is_empty() && !is_of(scenario_run, entry.topic.as_bytes()) {
            continue;
        }
        let bytes = environment.api.bytes(&path).await?;
        if entry.topic.is_empty() && !is_of(scenario_run, &bytes) {
            continue;
        }
        count += 1;
        match missing.remove(&(entry.topic.clone(), bytes)) {
            Some(receipts) if receipts.contains(&entry.received_at) => {}
            Some(receipts) => report.add_difference(
                "quarantine",
                format!(
                    "{}: expected receipt at one of {receipts:?}, actual {}",
                    entry.id, entry.received_at
                ),
            ),
            None => report.add_difference(
                "quarantine",
                format!("{} on topic {:?} is unexpected or duplicated", entry.id, entry.topic),
            ),
        }
    }
    for ((topic, payload), _) in missing {
        let text = String::from_utf8_lossy(&payload[..payload.len().min(80)]).into_owned();
        report.add_difference("quarantine", format!("{text:?} on topic {topic:?} is missing"));
    }
    report.totals.quarantined.add(expected.quarantine.len(), count);
    Ok(())
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    topic: String,
    received_at: Timestamp,
}

/// Whether bytes contain a device id of the fleet. Other seeds have entries at the same time.
fn is_of(scenario_run: &ScenarioRun, bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    scenario_run.fleet.devices.iter().any(|profile| text.contains(&profile.id))
}

/// All entries that were received at or after a time.
async fn entries_since(api: &mut RestApi, from: Timestamp) -> Result<Vec<Entry>> {
    let path = "/api/quarantine";
    let entries = api.list_until(path, |item| {
        item["received_at"]
            .as_str()
            .and_then(|at| at.parse::<Timestamp>().ok())
            .is_some_and(|at| at < from)
    });
    entries.await?.into_iter().map(|item| parse(item, path)).collect()
}
