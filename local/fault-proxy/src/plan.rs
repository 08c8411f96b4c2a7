//! The assignment of faults to calls.

use std::time::Duration;

use crate::call::{Call, Service};
use crate::partial_batch;
use crate::service_error::ServiceError;

/// The fault that a call meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call does not reach the endpoint, and the connection is closed.
    RequestLost,
    /// The endpoint executes the call, and the connection is closed without a response.
    ResponseLost,
    /// The call reaches the endpoint after a delay, even if the caller has given up.
    Delayed(Duration),
    /// The call is rejected and not executed.
    Error(ServiceError),
    /// Every other entry of a batch is unprocessed: `UnprocessedItems`, `UnprocessedKeys`, or a
    /// `ThrottlingError` for statements. A batch of one entry is unprocessed as a whole.
    PartialBatch,
    /// The calling process is killed.
    Killed(KillPoint),
}

/// The time at which a process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillPoint {
    /// Before the call, which does not reach the endpoint.
    BeforeCall,
    /// After the endpoint has executed the call.
    AfterCall,
}

impl Fault {
    /// Returns whether a call can meet this fault.
    #[must_use]
    pub fn applies_to(self, call: &Call) -> bool {
        match self {
            Self::RequestLost | Self::ResponseLost | Self::Delayed(_) | Self::Killed(_) => true,
            Self::Error(failure) => failure.applies_to(call),
            Self::PartialBatch => partial_batch::is_batch(call),
        }
    }

    /// Returns the name in plans and statistics.
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

/// A filter for calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFilter {
    /// All calls.
    Any,
    /// The calls of a service.
    Service(Service),
    /// The calls of one operation.
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

/// The number of consecutive calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// This many calls.
    Count(usize),
    /// All further calls until the plan is replaced: an outage.
    Always,
}

/// A rule of a plan: calls from number `nth` on meet a fault. It counts the calls that match the
/// filter and can meet the fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRule {
    /// The calls that are counted.
    pub calls: CallFilter,
    /// The first call that meets the fault, from 1 since the plan was set.
    pub nth: usize,
    /// The number of calls that meet the fault.
    pub times: Times,
    /// The fault.
    pub fault: Fault,
}

impl FaultRule {
    /// Creates a rule for all further calls of a service.
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

/// A list of rules. If several apply to a call, the first one determines the fault; all of them
/// count the call.
///
/// As text: rules separated by spaces, each `CALLS#NTH[xTIMES]=FAULT`, where `CALLS` is `any`, a
/// service or `service:operation`, `TIMES` a number or `*`, and `FAULT` is `request-lost`,
/// `response-lost`, `delayed-MSms`, `throttled`, `throughput-exceeded`, `internal-error`,
/// `conflict`, `partial-batch`, `killed-before` or `killed-after`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// The rules, in order of precedence.
    pub rules: Vec<FaultRule>,
}

impl FaultPlan {
    /// Creates a plan without faults.
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

/// The progress of a plan.
#[derive(Debug, Default)]
pub(crate) struct PlanState {
    plan: FaultPlan,
    /// The number of calls that each rule has counted.
    counted: Vec<usize>,
}

impl PlanState {
    pub(crate) fn new(plan: FaultPlan) -> Self {
        Self { counted: vec![0; plan.rules.len()], plan }
    }

    /// Counts a call; returns the fault that it meets.
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

    /// Returns the kinds of the faults that calls meet under a plan.
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
    fn nth_matching_call_meets_the_fault() {
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
    fn rule_counts_only_calls_that_can_meet_its_fault() {
        let calls = [PUT, SAVE, WRITE, SAVE, (Service::DynamoDb, "TransactWriteItems")];
        assert_eq!(faults_of("any#1=partial-batch", &calls), ["", "", "partial-batch", "", ""]);
        assert_eq!(
            faults_of("any#2=throughput-exceeded", &calls),
            ["", "", "throughput-exceeded", "", ""]
        );
        assert_eq!(faults_of("any#1x*=conflict", &calls), ["", "", "", "", "conflict"]);
    }

    #[test]
    fn first_of_two_rules_applies_and_both_count_the_call() {
        assert_eq!(
            faults_of(
                "any#1=request-lost any#2=response-lost any#1x2=delayed-5ms",
                &[PUT, PUT, PUT]
            ),
            ["request-lost", "response-lost", ""]
        );
    }
}
