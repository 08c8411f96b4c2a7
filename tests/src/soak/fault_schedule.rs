//! The faults of a trial, determined by the seed.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use fault_proxy::{
    Call, CallFilter, Fault, FaultPlan, FaultRule, KillPoint, Service, ServiceError, Times,
};
use rand::RngExt as _;

use super::scenario::{Rng, chance, rng};

/// The calls of ingest.
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

/// The faults of a trial and the behaviour of its queue.
#[derive(Debug)]
pub(super) struct FaultSchedule {
    /// A plan for each process of ingest; the processes run at the same time.
    pub(super) plans: Vec<FaultPlan>,
    /// Plans for runs of the watchdog; a run without faults follows.
    pub(super) watchdog: Vec<FaultPlan>,
    /// The range of the batch size.
    pub(super) batch_size: RangeInclusive<usize>,
    /// The probability that the queue redelivers a processed message.
    pub(super) redelivery_probability: f64,
    /// The probability that the queue redelivers a message that is still being processed.
    pub(super) overlap_probability: f64,
}

impl FaultSchedule {
    /// The fault schedule of a seed, with at most `processes` processes.
    pub(super) fn from_seed(seed: u64, processes: usize) -> Self {
        let mut rng = rng(seed, 4);
        let working = rng.random_range(1..=processes);
        // Some seeds have no faults: a difference then has another cause.
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

    /// Plans for one process of ingest and the watchdog, without random redelivery.
    pub(super) fn from_plans(ingest: FaultPlan, watchdog: Option<FaultPlan>) -> Self {
        // The batch size of the event source mapping (template.yaml).
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
            writeln!(f, "plan of the watchdog: {plan}")?;
        }
        Ok(())
    }
}

/// A plan for the watchdog, which makes fewer calls than ingest.
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
    // The SDK's retries recover from one failure, but not from several in a row.
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
    fn one_hundred_seeds_contain_every_fault() {
        let kinds: HashSet<_> = (0..100)
            .flat_map(|seed| FaultSchedule::from_seed(seed, 2).plans)
            .flat_map(|plan| plan.rules)
            .map(|rule| rule.fault.kind())
            .collect();
        assert_eq!(kinds.len(), 10, "{kinds:?}");
    }

    #[test]
    fn plan_is_parsed_from_its_text_form() {
        for plan in (0..50).flat_map(|seed| FaultSchedule::from_seed(seed, 2).plans) {
            assert_eq!(plan.to_string().parse(), Ok(plan));
        }
    }
}
