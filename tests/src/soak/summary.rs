//! Counts of messages, deliveries, faults and results.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use fault_proxy::ProxyStats;

use super::runner::{Runner, ScenarioRun};
use super::verify::{ExpectedActual, Totals};

/// The counts of one or more trials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    seeds: usize,
    devices: usize,
    /// Receipts by the platform, including repeats of the devices.
    sent: usize,
    distinct: usize,
    /// Deliveries to ingest, and those that were not the first of their message.
    deliveries: usize,
    repeated: usize,
    retried: usize,
    redelivered: usize,
    batches: usize,
    kills: usize,
    calls: usize,
    faults: BTreeMap<&'static str, usize>,
    totals: Totals,
}

impl Summary {
    pub(super) fn new(scenario_run: &ScenarioRun, runner: &Runner<'_>, totals: &Totals) -> Self {
        let (scenario, counts) = (&scenario_run.scenario, runner.counts());
        Self {
            seeds: 1,
            devices: scenario_run.fleet.devices.len(),
            sent: scenario.receipts.len(),
            distinct: scenario.messages.len(),
            deliveries: counts.deliveries,
            repeated: counts.deliveries - scenario.messages.len(),
            retried: counts.retried,
            redelivered: counts.redelivered,
            batches: counts.batches,
            kills: runner.kills(),
            calls: 0,
            faults: BTreeMap::new(),
            totals: *totals,
        }
    }

    pub(super) fn add_faults(&mut self, before: &ProxyStats, after: &ProxyStats) {
        self.calls += after.total_calls() - before.total_calls();
        for (kind, count) in &after.faults {
            let before = before.faults.get(kind).copied().unwrap_or_default();
            *self.faults.entry(kind).or_default() += count - before;
        }
    }
}

impl AddAssign<&Self> for Summary {
    fn add_assign(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.devices += other.devices;
        self.sent += other.sent;
        self.distinct += other.distinct;
        self.deliveries += other.deliveries;
        self.repeated += other.repeated;
        self.retried += other.retried;
        self.redelivered += other.redelivered;
        self.batches += other.batches;
        self.kills += other.kills;
        self.calls += other.calls;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.totals += other.totals;
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.points += other.points;
        self.quarantined += other.quarantined;
        self.alerts += other.alerts;
        self.commands += other.commands;
    }
}

impl AddAssign for ExpectedActual {
    fn add_assign(&mut self, other: Self) {
        self.expected += other.expected;
        self.actual += other.actual;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, count: usize| writeln!(f, "{name:<34}{count:>9}");
        row("seeds", self.seeds)?;
        row("devices", self.devices)?;
        row("messages sent", self.sent)?;
        row("  distinct", self.distinct)?;
        row("deliveries to ingest", self.deliveries)?;
        row("  repeated", self.repeated)?;
        row("  retried after a failure or a kill", self.retried)?;
        row("  redelivered without a failure", self.redelivered)?;
        row("batches", self.batches)?;
        row("calls to the endpoint", self.calls)?;
        row("processes killed", self.kills)?;
        row("faults", self.faults.values().sum())?;
        for (kind, count) in &self.faults {
            row(&format!("  {kind}"), *count)?;
        }
        let Totals { messages, points, quarantined, alerts, commands } = self.totals;
        writeln!(f, "{:<34}{:>9}{:>9}", "", "expected", "actual")?;
        for (name, ExpectedActual { expected, actual }) in [
            ("messages in the archive", messages),
            ("points in the metrics", points),
            ("entries in quarantine", quarantined),
            ("alerts", alerts),
            ("commands", commands),
        ] {
            writeln!(f, "{name:<34}{expected:>9}{actual:>9}")?;
        }
        Ok(())
    }
}
