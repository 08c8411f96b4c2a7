//! What is there, held against what must be there.

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

/// What a comparison has found.
#[derive(Debug, Default)]
pub(super) struct VerifyReport {
    /// One line each; none if all is well.
    pub(super) differences: Vec<String>,
    pub(super) totals: Totals,
}

/// What was expected and what was there, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) messages: ExpectedActual,
    pub(super) points: ExpectedActual,
    pub(super) quarantined: ExpectedActual,
    pub(super) alerts: ExpectedActual,
    pub(super) commands: ExpectedActual,
}

/// Expected and found.
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

/// Compares all that a seed has left behind so far; `before` is the fleet before it.
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

/// Nothing is left to do. Looked up in the table, since no client sees it.
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
        let document = row["Item"]["document"]["S"].as_str().context("a device without a state")?;
        let outbox = serde_json::from_str::<Value>(document)?["outbox"].take();
        // The end of an alert is told when its hold-down is over, which is later than this.
        let is_done = |effect: &Value| effect["effect"] == "notify";
        if outbox.as_array().is_none_or(|effects| !effects.iter().all(is_done)) {
            report.add_difference(&profile.id, format!("its outbox is {outbox}"));
        }
    }
    Ok(())
}

fn parse<T: for<'de> Deserialize<'de>>(value: Value, path: &str) -> Result<T> {
    let text = value.to_string();
    serde_json::from_value(value).with_context(|| format!("{path} answers {text}"))
}
