//! Compares the actual with the expected data.

mod alerts;
mod commands;
mod device;
mod fleet_stats;
mod messages;
mod quarantine;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use self::device::DeviceVerifier;
pub(super) use self::fleet_stats::FleetStats;
use super::environment::Environment;
use super::model::{self, VerifyStage};
use super::runner::ScenarioRun;

/// The result of a comparison.
#[derive(Debug, Default)]
pub(super) struct VerifyReport {
    /// The differences, one line each.
    pub(super) differences: Vec<String>,
    pub(super) totals: Totals,
}

/// Expected and actual counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) messages: ExpectedActual,
    pub(super) points: ExpectedActual,
    pub(super) quarantined: ExpectedActual,
    pub(super) alerts: ExpectedActual,
    pub(super) commands: ExpectedActual,
}

/// An expected and an actual count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ExpectedActual {
    pub(super) expected: usize,
    pub(super) actual: usize,
}

impl ExpectedActual {
    fn add(&mut self, expected: usize, actual: usize) {
        self.expected += expected;
        self.actual += actual;
    }
}

impl VerifyReport {
    fn add_difference(&mut self, subject: &str, what: impl std::fmt::Display) {
        self.differences.push(format!("{subject}: {what}"));
    }

    fn compare<T: PartialEq + std::fmt::Debug>(
        &mut self,
        subject: &str,
        what: &str,
        expected: &T,
        actual: &T,
    ) {
        if expected != actual {
            self.add_difference(
                subject,
                format!("{what}: expected {expected:?}, actual {actual:?}"),
            );
        }
    }
}

/// Compares all data of a trial. `before` are the fleet statistics before it.
pub(super) async fn verify(
    environment: &mut Environment,
    scenario_run: &ScenarioRun,
    before: &FleetStats,
    stage: VerifyStage,
) -> Result<VerifyReport> {
    let expected = model::expected(
        &scenario_run.fleet,
        &scenario_run.planned_commands,
        &scenario_run.scenario,
        stage,
    );
    let mut report = VerifyReport::default();
    let mut fleet = FleetStats::default();
    for (profile, device) in scenario_run.fleet.devices.iter().zip(&expected.devices) {
        let mut verifier = DeviceVerifier {
            profile,
            device,
            stage,
            api: &mut environment.api,
            report: &mut report,
        };
        verifier.verify_archive().await?;
        verifier.verify_points().await?;
        fleet.unacknowledged += verifier.verify_alerts().await?;
        verifier.verify_registry().await?;
        verifier.verify_commands(scenario_run).await?;
        if profile.registration != super::scenario::Registration::Never {
            fleet.devices += 1;
            let connection = device::connection(device).to_owned();
            *fleet.by_connection.entry(connection).or_default() += 1;
        }
    }
    quarantine::verify_quarantine(environment, scenario_run, &expected, &mut report).await?;
    verify_outboxes(environment, scenario_run, &mut report).await?;
    let after = FleetStats::read(&mut environment.api).await?.since(before);
    report.compare("fleet", "statistics", &fleet, &after);
    Ok(report)
}

/// Verifies that no effects are pending, in the state table, since the API does not return them.
async fn verify_outboxes(
    environment: &Environment,
    scenario_run: &ScenarioRun,
    report: &mut VerifyReport,
) -> Result<()> {
    let table = &environment.stack.settings()["STATE_TABLE"];
    let http = reqwest::Client::new();
    for profile in &scenario_run.fleet.devices {
        let key = json!({"TableName": table, "Key": {"device_id": {"S": profile.id}}});
        let answer = http
            .post(environment.stack.endpoint_url())
            .header("x-amz-target", "DynamoDB_20120810.GetItem")
            .json(&key);
        let row: Value = answer.send().await?.json().await?;
        let document = row["Item"]["document"]["S"].as_str().context("the device has no state")?;
        let outbox = serde_json::from_str::<Value>(document)?["outbox"].take();
        // A resolve notification waits for the hold-down, which ends later.
        let is_done = |effect: &Value| effect["effect"] == "notify";
        if outbox.as_array().is_none_or(|effects| !effects.iter().all(is_done)) {
            report.add_difference(
                &profile.id,
                format!("outbox: expected no pending effects, actual {outbox}"),
            );
        }
    }
    Ok(())
}

fn parse<T: for<'de> Deserialize<'de>>(value: Value, path: &str) -> Result<T> {
    let text = value.to_string();
    serde_json::from_value(value).with_context(|| format!("GET {path}: unexpected item {text}"))
}
