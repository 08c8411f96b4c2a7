//! Which call meets which fault.

use std::time::Duration;

use crate::call::{Call, Service};
use crate::failure::Failure;
use crate::part;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never reaches the endpoint; the connection is closed.
    Lost,
    /// The endpoint does it, and the connection is closed without an answer.
    AnswerLost,
    /// It reaches the endpoint so much later, even if nobody waits for the answer any more.
    Late(Duration),
    /// It is refused and not done.
    Failed(Failure),
    /// Of a batch, every other entry is left over: `UnprocessedItems`, `UnprocessedKeys`, statements with
    /// a `ThrottlingError`. A batch of one is left over whole.
    InPart,
    /// The calling process is killed.
    Killed(Moment),
}

/// When a process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the call reaches the endpoint, which it then never does.
    Before,
    /// When the endpoint has done it.
    After,
}

impl Fault {
    /// Whether this can happen to a call.
    #[must_use]
    pub fn fits(self, call: &Call) -> bool {
        match self {
            Self::Lost | Self::AnswerLost | Self::Late(_) | Self::Killed(_) => true,
            Self::Failed(failure) => failure.fits(call),
            Self::InPart => part::is_batch(call),
        }
    }

    /// Its kind, in plans and tallies.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::AnswerLost => "answer-lost",
            Self::Late(_) => "late",
            Self::Failed(failure) => failure.as_str(),
            Self::InPart => "in-part",
            Self::Killed(Moment::Before) => "killed-before",
            Self::Killed(Moment::After) => "killed-after",
        }
    }
}

/// Which calls a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Calls {
    /// All of them.
    Any,
    /// Those of a service.
    Of(Service),
    /// Those of one kind.
    Exactly(Call),
}

impl Calls {
    fn include(&self, call: &Call) -> bool {
        match self {
            Self::Any => true,
            Self::Of(service) => call.service == *service,
            Self::Exactly(this) => call == this,
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
pub struct Rule {
    /// Which calls are counted.
    pub calls: Calls,
    /// The first one to meet the fault, counted from 1 since the plan was set.
    pub nth: usize,
    /// How many do.
    pub times: Times,
    /// What they meet.
    pub fault: Fault,
}

impl Rule {
    /// All calls of a service from now on.
    #[must_use]
    pub fn outage(service: Service, fault: Fault) -> Self {
        Self { calls: Calls::Of(service), nth: 1, times: Times::Always, fault }
    }

    fn counts(&self, call: &Call) -> bool {
        self.calls.include(call) && self.fault.fits(call)
    }

    fn strikes(&self, number: usize) -> bool {
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
/// or `service:operation`, `TIMES` a number or `*`, and `FAULT` is `lost`, `answer-lost`, `late-MSms`,
/// `throttled`, `over-capacity`, `internal-error`, `conflict`, `in-part`, `killed-before` or
/// `killed-after`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Its rules.
    pub rules: Vec<Rule>,
}

impl Plan {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }
}

impl FromIterator<Rule> for Plan {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        Self { rules: rules.into_iter().collect() }
    }
}

/// How far a plan is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    plan: Plan,
    /// How many calls each rule has counted.
    counted: Vec<usize>,
}

impl Progress {
    pub(crate) fn of(plan: Plan) -> Self {
        Self { counted: vec![0; plan.rules.len()], plan }
    }

    /// Counts a call; what happens to it.
    pub(crate) fn next(&mut self, call: &Call) -> Option<Fault> {
        let mut met = None;
        for (rule, counted) in self.plan.rules.iter().zip(&mut self.counted) {
            if rule.counts(call) {
                *counted += 1;
                if met.is_none() && rule.strikes(*counted) {
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
    fn met(plan: &str, calls: &[(Service, &str)]) -> Vec<&'static str> {
        let mut progress = Progress::of(plan.parse().unwrap());
        let met = calls.iter().map(|(service, operation)| {
            progress.next(&Call::new(*service, *operation)).map_or("", Fault::kind)
        });
        met.collect()
    }

    const PUT: (Service, &str) = (Service::S3, "PUT");
    const WRITE: (Service, &str) = (Service::DynamoDb, "BatchWriteItem");
    const SAVE: (Service, &str) = (Service::DynamoDb, "PutItem");

    #[test]
    fn the_nth_call_of_those_that_are_meant_meets_the_fault() {
        let calls = [PUT, WRITE, PUT, SAVE, WRITE];
        assert_eq!(met("any#2=lost", &calls), ["", "lost", "", "", ""]);
        assert_eq!(met("s3#2=lost", &calls), ["", "", "lost", "", ""]);
        assert_eq!(met("dynamodb#2x2=lost", &calls), ["", "", "", "lost", "lost"]);
        assert_eq!(met("dynamodb:BatchWriteItem#2=lost", &calls), ["", "", "", "", "lost"]);
        assert_eq!(met("dynamodb#2x*=lost", &calls), ["", "", "", "lost", "lost"]);
    }

    #[test]
    fn a_fault_counts_only_calls_that_it_can_happen_to() {
        let calls = [PUT, SAVE, WRITE, SAVE, (Service::DynamoDb, "TransactWriteItems")];
        assert_eq!(met("any#1=in-part", &calls), ["", "", "in-part", "", ""]);
        assert_eq!(met("any#2=over-capacity", &calls), ["", "", "over-capacity", "", ""]);
        assert_eq!(met("any#1x*=conflict", &calls), ["", "", "", "", "conflict"]);
    }

    #[test]
    fn of_two_rules_for_a_call_the_first_has_it_and_the_second_goes_on_counting() {
        assert_eq!(
            met("any#1=lost any#2=answer-lost any#1x2=late-5ms", &[PUT, PUT, PUT]),
            ["lost", "answer-lost", ""]
        );
    }
}
