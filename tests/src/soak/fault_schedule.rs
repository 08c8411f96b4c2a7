//! What goes wrong while a seed is played: a function of the seed.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use fault_proxy::{
    Call, CallFilter, Fault, FaultPlan, FaultRule, KillPoint, Service, ServiceError, Times,
};
use rand::RngExt as _;

use super::scenario::{Rng, chance, rng};

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
pub(super) struct FaultSchedule {
    /// A plan for each process of ingest that works at the same time.
    pub(super) plans: Vec<FaultPlan>,
    /// Plans for runs of the watchdog, before one in which nothing goes wrong.
    pub(super) watchdog: Vec<FaultPlan>,
    /// Messages in a batch, if there are so many.
    pub(super) batch_size: RangeInclusive<usize>,
    /// How probable it is that the queue delivers a message that is done once more.
    pub(super) redelivery_probability: f64,
    /// How probable it is that it delivers one that somebody still works on.
    pub(super) overlap_probability: f64,
}

impl FaultSchedule {
    /// That of a seed, for so many processes at most.
    pub(super) fn from_seed(seed: u64, processes: usize) -> Self {
        let mut rng = rng(seed, 4);
        let working = rng.random_range(1..=processes);
        // Some seeds go well: what then differs is not a matter of faults.
        let goes_well = chance(&mut rng, 0.05);
        let plan = |rng: &mut Rng| match goes_well {
            true => FaultPlan::none(),
            false => (0..rng.random_range(1..=8)).map(|_| rule(rng)).collect(),
        };
        Self {
            plans: (0..working).map(|_| plan(&mut rng)).collect(),
            watchdog: (0..rng.random_range(0..=2)).map(|_| watchdog_plan(&mut rng)).collect(),
            batch_size: 1..=[3, 10, 30, 100][rng.random_range(0..4)],
            redelivery_probability: [0.0, 0.1, 0.4][rng.random_range(0..3)],
            overlap_probability: if working > 1 { [0.0, 0.3][rng.random_range(0..2)] } else { 0.0 },
        }
    }

    /// One process, plans for it and the watchdog, and nothing else.
    pub(super) fn from_plans(ingest: FaultPlan, watchdog: Option<FaultPlan>) -> Self {
        // As many as the event source mapping takes (template.yaml).
        Self {
            plans: vec![ingest],
            watchdog: watchdog.into_iter().collect(),
            batch_size: 500..=500,
            redelivery_probability: 0.0,
            overlap_probability: 0.0,
        }
    }
}

impl fmt::Display for FaultSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plans, watchdog, batch_size, redelivery_probability, overlap_probability } =
            self;
        writeln!(
            f,
            "batches of {batch_size:?}, {redelivery_probability} redelivered, {overlap_probability} overlapping"
        )?;
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
fn watchdog_plan(rng: &mut Rng) -> FaultPlan {
    let rule = |rng: &mut Rng| FaultRule {
        calls: CallFilter::Any,
        nth: rng.random_range(1..=60),
        ..rule(rng)
    };
    (0..rng.random_range(1..=3)).map(|_| rule(rng)).collect()
}

fn rule(rng: &mut Rng) -> FaultRule {
    let (calls, nth) = match rng.random_range(0..10) {
        0..5 => (CallFilter::Any, rng.random_range(1..=80)),
        _ => {
            let (service, operation) = CALLS[rng.random_range(0..CALLS.len())];
            (CallFilter::Operation(Call::new(service, operation)), rng.random_range(1..=12))
        }
    };
    // Once is what the SDK's own retries mend; several times is what they do not.
    let several = [1, 1, 2, 5, 9][rng.random_range(0..5)];
    let (fault, times) = match rng.random_range(0..20) {
        0..3 => (Fault::Killed(KillPoint::BeforeCall), 1),
        3..6 => (Fault::Killed(KillPoint::AfterCall), 1),
        6..8 => (Fault::RequestLost, several),
        8..11 => (Fault::ResponseLost, several),
        11 => (Fault::Error(ServiceError::Throttled), several),
        12 => (Fault::Error(ServiceError::ThroughputExceeded), several),
        13 => (Fault::Error(ServiceError::Internal), several),
        14 => (Fault::Error(ServiceError::Conflict), several),
        15..18 => (Fault::PartialBatch, several),
        18 => (Fault::Delayed(Duration::from_millis(rng.random_range(20..300))), several),
        _ => (Fault::Delayed(Duration::from_millis(rng.random_range(300..2_000))), 1),
    };
    FaultRule { calls, nth, times: Times::Count(times), fault }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_hundred_seeds_have_every_fault_in_them() {
        let kinds: HashSet<_> = (0..100)
            .flat_map(|seed| FaultSchedule::from_seed(seed, 2).plans)
            .flat_map(|plan| plan.rules)
            .map(|rule| rule.fault.kind())
            .collect();
        assert_eq!(kinds.len(), 10, "{kinds:?}");
    }

    #[test]
    fn a_plan_that_is_printed_is_the_plan_that_was_played() {
        for plan in (0..50).flat_map(|seed| FaultSchedule::from_seed(seed, 2).plans) {
            assert_eq!(plan.to_string().parse(), Ok(plan));
        }
    }
}
