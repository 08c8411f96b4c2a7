//! What was done, expected and found, in numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use faults::Tally;

use super::play::Played;
use super::verify::{Both, Totals};

/// Of one seed or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    seeds: usize,
    devices: usize,
    /// Arrivals at the platform.
    sent: usize,
    distinct: usize,
    /// Deliveries to a function, and those among them that were not the first of their message.
    deliveries: usize,
    repeated: usize,
    returned: usize,
    redelivered: usize,
    batches: usize,
    deaths: usize,
    calls: usize,
    faults: BTreeMap<&'static str, usize>,
    totals: Totals,
}

impl Summary {
    pub(super) fn of(played: &Played, totals: &Totals) -> Self {
        let (story, counts) = (&played.story, played.counts);
        Self {
            seeds: 1,
            devices: played.cast.devices.len(),
            sent: story.receipts.len(),
            distinct: story.messages.len(),
            deliveries: counts.deliveries,
            repeated: counts.deliveries - story.messages.len(),
            returned: counts.returned,
            redelivered: counts.redelivered,
            batches: counts.batches,
            deaths: played.deaths,
            calls: 0,
            faults: BTreeMap::new(),
            totals: *totals,
        }
    }

    pub(super) fn add_faults(&mut self, before: &Tally, after: &Tally) {
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
        self.returned += other.returned;
        self.redelivered += other.redelivered;
        self.batches += other.batches;
        self.deaths += other.deaths;
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

impl AddAssign for Both {
    fn add_assign(&mut self, other: Self) {
        self.expected += other.expected;
        self.found += other.found;
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
        row("  of a message delivered before", self.repeated)?;
        row("  again after a failure or a death", self.returned)?;
        row("  again without either", self.redelivered)?;
        row("batches", self.batches)?;
        row("calls to the endpoint", self.calls)?;
        row("processes killed", self.deaths)?;
        row("faults", self.faults.values().sum())?;
        for (kind, count) in &self.faults {
            row(&format!("  {kind}"), *count)?;
        }
        let Totals { messages, points, quarantined, alerts, commands } = self.totals;
        writeln!(f, "{:<34}{:>9}{:>9}", "", "expected", "found")?;
        for (name, Both { expected, found }) in [
            ("messages in the archive", messages),
            ("points in the metrics", points),
            ("entries in quarantine", quarantined),
            ("alerts", alerts),
            ("commands", commands),
        ] {
            writeln!(f, "{name:<34}{expected:>9}{found:>9}")?;
        }
        Ok(())
    }
}
