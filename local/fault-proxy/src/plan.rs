//! Which call meets which fault.

use std::time::Duration;

use crate::call::{Call, Service};
use crate::partial_batch;
use crate::service_error::ServiceError;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never reaches the endpoint; the connection is closed.
    RequestLost,
    /// The endpoint does it, and the connection is closed without an answer.
    ResponseLost,
    /// It reaches the endpoint so much later, even if nobody waits for the answer any more.
    Delayed(Duration),
    /// It is refused and not done.
    Error(ServiceError),
    /// Of a batch, every other entry is left over: `UnprocessedItems`, `UnprocessedKeys`, statements with
    /// a `ThrottlingError`. A batch of one is left over whole.
    PartialBatch,
    /// The calling process is killed.
    Killed(KillPoint),
}

/// When a process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillPoint {
    /// Before the call reaches the endpoint, which it then never does.
    BeforeCall,
    /// When the endpoint has done it.
    AfterCall,
}

impl Fault {
    /// Whether this can happen to a call.
    #[must_use]
    pub fn applies_to(self, call: &Call) -> bool {
        match self {
            Self::RequestLost | Self::ResponseLost | Self::Delayed(_) | Self::Killed(_) => true,
            Self::Error(failure) => failure.applies_to(call),
            Self::PartialBatch => partial_batch::is_batch(call),
        }
    }

    /// Its kind, in plans and tallies.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::RequestLost => "request-lost",
            Self::ResponseLost => "response-lost",
            Self::Delayed(_) => "delayed",
            Self::Error(failure) => failure.as_str(),
            Self::PartialBatch => "partial-batch",
            Self::Killed(KillPoint::BeforeCall) => "killed-before",
            Self::Killed(KillPoint::AfterCall) => "killed-after",
        }
    }
}

/// Which calls a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFilter {
    /// All of them.
    Any,
    /// Those of a service.
    Service(Service),
    /// Those of one kind.
    Operation(Call),
}

impl CallFilter {
    fn matches(&self, call: &Call) -> bool {
        match self {
            Self::Any => true,
            Self::Service(service) => call.service == *service,
            Self::Operation(this) => call == this,
        }
    }
}

/// How many calls in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// So many.
    Count(usize),
    /// All from there on: an outage, until the plan is replaced.
    Always,
}

/// One sentence of a plan: of the calls that are meant and that the fault fits, from the `nth` on, so
/// many meet it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRule {
    /// Which calls are counted.
    pub calls: CallFilter,
    /// The first one to meet the fault, counted from 1 since the plan was set.
    pub nth: usize,
    /// How many do.
    pub times: Times,
    /// What they meet.
    pub fault: Fault,
}

impl FaultRule {
    /// All calls of a service from now on.
    #[must_use]
    pub fn outage(service: Service, fault: Fault) -> Self {
        Self { calls: CallFilter::Service(service), nth: 1, times: Times::Always, fault }
    }

    fn matches(&self, call: &Call) -> bool {
        self.calls.matches(call) && self.fault.applies_to(call)
    }

    fn triggers(&self, number: usize) -> bool {
        match self.times {
            Times::Always => number >= self.nth,
            Times::Count(times) => (self.nth..self.nth.saturating_add(times)).contains(&number),
        }
    }
}

/// What is to go wrong. Where several rules mean one call, the first one has it; the others count it all
/// the same.
///
/// As text: rules separated by blanks, each `CALLS#NTH[xTIMES]=FAULT`, where `CALLS` is `any`, a service
/// or `service:operation`, `TIMES` a number or `*`, and `FAULT` is `request-lost`, `response-lost`, `delayed-MSms`,
/// `throttled`, `throughput-exceeded`, `internal-error`, `conflict`, `partial-batch`, `killed-before` or
/// `killed-after`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// Its rules.
    pub rules: Vec<FaultRule>,
}

impl FaultPlan {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }
}

impl FromIterator<FaultRule> for FaultPlan {
    fn from_iter<I: IntoIterator<Item = FaultRule>>(rules: I) -> Self {
        Self { rules: rules.into_iter().collect() }
    }
}

/// How far a plan is.
#[derive(Debug, Default)]
pub(crate) struct PlanState {
    plan: FaultPlan,
    /// How many calls each rule has counted.
    counted: Vec<usize>,
}

impl PlanState {
    pub(crate) fn new(plan: FaultPlan) -> Self {
        Self { counted: vec![0; plan.rules.len()], plan }
    }

    /// Counts a call; what happens to it.
    pub(crate) fn next_fault(&mut self, call: &Call) -> Option<Fault> {
        let mut met = None;
        for (rule, counted) in self.plan.rules.iter().zip(&mut self.counted) {
            if rule.matches(call) {
                *counted += 1;
                if met.is_none() && rule.triggers(*counted) {
                    met = Some(rule.fault);
                }
            }
        }
        met
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the calls meet under a plan, by kind.
    fn faults_of(plan: &str, calls: &[(Service, &str)]) -> Vec<&'static str> {
        let mut plan_state = PlanState::new(plan.parse().unwrap());
        let met = calls.iter().map(|(service, operation)| {
            plan_state.next_fault(&Call::new(*service, *operation)).map_or("", Fault::kind)
        });
        met.collect()
    }

    const PUT: (Service, &str) = (Service::S3, "PUT");
    const WRITE: (Service, &str) = (Service::DynamoDb, "BatchWriteItem");
    const SAVE: (Service, &str) = (Service::DynamoDb, "PutItem");

    #[test]
    fn the_nth_call_of_those_that_are_meant_meets_the_fault() {
        let calls = [PUT, WRITE, PUT, SAVE, WRITE];
        assert_eq!(faults_of("any#2=request-lost", &calls), ["", "request-lost", "", "", ""]);
        assert_eq!(faults_of("s3#2=request-lost", &calls), ["", "", "request-lost", "", ""]);
        assert_eq!(
            faults_of("dynamodb#2x2=request-lost", &calls),
            ["", "", "", "request-lost", "request-lost"]
        );
        assert_eq!(
            faults_of("dynamodb:BatchWriteItem#2=request-lost", &calls),
            ["", "", "", "", "request-lost"]
        );
        assert_eq!(
            faults_of("dynamodb#2x*=request-lost", &calls),
            ["", "", "", "request-lost", "request-lost"]
        );
    }

    #[test]
    fn a_fault_counts_only_calls_that_it_can_happen_to() {
        let calls = [PUT, SAVE, WRITE, SAVE, (Service::DynamoDb, "TransactWriteItems")];
        assert_eq!(faults_of("any#1=partial-batch", &calls), ["", "", "partial-batch", "", ""]);
        assert_eq!(
            faults_of("any#2=throughput-exceeded", &calls),
            ["", "", "throughput-exceeded", "", ""]
        );
        assert_eq!(faults_of("any#1x*=conflict", &calls), ["", "", "", "", "conflict"]);
    }

    #[test]
    fn of_two_rules_for_a_call_the_first_has_it_and_the_second_goes_on_counting() {
        assert_eq!(
            faults_of(
                "any#1=request-lost any#2=response-lost any#1x2=delayed-5ms",
                &[PUT, PUT, PUT]
            ),
            ["request-lost", "response-lost", ""]
        );
    }
}
