//! What goes wrong while a seed is played: a function of the seed.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use faults::{Call, Calls, Failure, Fault, Moment, Plan, Rule, Service, Times};
use rand::RngExt as _;

use super::story::{Dice, dice, happens};

/// The calls that ingest makes.
const CALLS: [(Service, &str); 8] = [
    (Service::S3, "PUT"),
    (Service::DynamoDb, "BatchGetItem"),
    (Service::DynamoDb, "BatchWriteItem"),
    (Service::DynamoDb, "BatchExecuteStatement"),
    (Service::DynamoDb, "TransactWriteItems"),
    (Service::DynamoDb, "PutItem"),
    (Service::DynamoDb, "UpdateItem"),
    (Service::DynamoDb, "GetItem"),
];

/// How a seed is played.
#[derive(Debug)]
pub(super) struct Misfortune {
    /// A plan for each process of ingest that works at the same time.
    pub(super) plans: Vec<Plan>,
    /// Plans for runs of the watchdog, before one in which nothing goes wrong.
    pub(super) watchdog: Vec<Plan>,
    /// Messages in a batch, if there are so many.
    pub(super) batch: RangeInclusive<usize>,
    /// How probable it is that the queue delivers a message that is done once more.
    pub(super) redelivery: f64,
    /// How probable it is that it delivers one that somebody still works on.
    pub(super) overlap: f64,
}

impl Misfortune {
    /// That of a seed, for so many processes at most.
    pub(super) fn of(seed: u64, processes: usize) -> Self {
        let mut dice = dice(seed, 4);
        let working = dice.random_range(1..=processes);
        // Some seeds go well: what then differs is not a matter of faults.
        let goes_well = happens(&mut dice, 0.05);
        let plan = |dice: &mut Dice| match goes_well {
            true => Plan::none(),
            false => (0..dice.random_range(1..=8)).map(|_| rule(dice)).collect(),
        };
        Self {
            plans: (0..working).map(|_| plan(&mut dice)).collect(),
            watchdog: (0..dice.random_range(0..=2)).map(|_| watchdog_plan(&mut dice)).collect(),
            batch: 1..=[3, 10, 30, 100][dice.random_range(0..4)],
            redelivery: [0.0, 0.1, 0.4][dice.random_range(0..3)],
            overlap: if working > 1 { [0.0, 0.3][dice.random_range(0..2)] } else { 0.0 },
        }
    }

    /// One process, plans for it and the watchdog, and nothing else.
    pub(super) fn planned(ingest: Plan, watchdog: Option<Plan>) -> Self {
        // As many as the event source mapping takes (template.yaml).
        Self {
            plans: vec![ingest],
            watchdog: watchdog.into_iter().collect(),
            batch: 500..=500,
            redelivery: 0.0,
            overlap: 0.0,
        }
    }
}

impl fmt::Display for Misfortune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plans, watchdog, batch, redelivery, overlap } = self;
        writeln!(f, "batches of {batch:?}, {redelivery} redelivered, {overlap} overlapping")?;
        for (number, plan) in plans.iter().enumerate() {
            writeln!(f, "plan of process {}: {plan}", number + 1)?;
        }
        for plan in watchdog {
            writeln!(f, "plan of a watchdog: {plan}")?;
        }
        Ok(())
    }
}

/// A run of the watchdog has fewer calls, and each may be its last.
fn watchdog_plan(dice: &mut Dice) -> Plan {
    let rule =
        |dice: &mut Dice| Rule { calls: Calls::Any, nth: dice.random_range(1..=60), ..rule(dice) };
    (0..dice.random_range(1..=3)).map(|_| rule(dice)).collect()
}

fn rule(dice: &mut Dice) -> Rule {
    let (calls, nth) = match dice.random_range(0..10) {
        0..5 => (Calls::Any, dice.random_range(1..=80)),
        _ => {
            let (service, operation) = CALLS[dice.random_range(0..CALLS.len())];
            (Calls::Exactly(Call::new(service, operation)), dice.random_range(1..=12))
        }
    };
    // Once is what the SDK's own retries mend; several times is what they do not.
    let several = [1, 1, 2, 5, 9][dice.random_range(0..5)];
    let (fault, times) = match dice.random_range(0..20) {
        0..3 => (Fault::Killed(Moment::Before), 1),
        3..6 => (Fault::Killed(Moment::After), 1),
        6..8 => (Fault::Lost, several),
        8..11 => (Fault::AnswerLost, several),
        11 => (Fault::Failed(Failure::Throttled), several),
        12 => (Fault::Failed(Failure::OverCapacity), several),
        13 => (Fault::Failed(Failure::Internal), several),
        14 => (Fault::Failed(Failure::Conflict), several),
        15..18 => (Fault::InPart, several),
        18 => (Fault::Late(Duration::from_millis(dice.random_range(20..300))), several),
        _ => (Fault::Late(Duration::from_millis(dice.random_range(300..2_000))), 1),
    };
    Rule { calls, nth, times: Times::Count(times), fault }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_hundred_seeds_have_every_fault_in_them() {
        let kinds: HashSet<_> = (0..100)
            .flat_map(|seed| Misfortune::of(seed, 2).plans)
            .flat_map(|plan| plan.rules)
            .map(|rule| rule.fault.kind())
            .collect();
        assert_eq!(kinds.len(), 10, "{kinds:?}");
    }

    #[test]
    fn a_plan_that_is_printed_is_the_plan_that_was_played() {
        for plan in (0..50).flat_map(|seed| Misfortune::of(seed, 2).plans) {
            assert_eq!(plan.to_string().parse(), Ok(plan));
        }
    }
}
