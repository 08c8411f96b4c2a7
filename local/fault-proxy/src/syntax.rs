//! The text form of plans, which failing tests print for reproduction.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::call::{Call, Service};
use crate::plan::{CallFilter, Fault, FaultPlan, FaultRule, KillPoint, Times};
use crate::service_error::ServiceError;

/// A text that is not a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule:?} is not a rule such as dynamodb:PutItem#3x2=throttled: {reason}")]
pub struct InvalidPlan {
    rule: String,
    reason: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delayed(by) => write!(f, "delayed-{}ms", by.as_millis()),
            other => f.write_str(other.kind()),
        }
    }
}

impl fmt::Display for CallFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Service(service) => service.fmt(f),
            Self::Operation(call) => call.fmt(f),
        }
    }
}

impl fmt::Display for FaultRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, nth, times, fault } = self;
        match times {
            Times::Count(1) => write!(f, "{calls}#{nth}={fault}"),
            Times::Count(times) => write!(f, "{calls}#{nth}x{times}={fault}"),
            Times::Always => write!(f, "{calls}#{nth}x*={fault}"),
        }
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rule) in self.rules.iter().enumerate() {
            let separator = if index > 0 { " " } else { "" };
            write!(f, "{separator}{rule}")?;
        }
        Ok(())
    }
}

impl FromStr for FaultPlan {
    type Err = InvalidPlan;

    fn from_str(text: &str) -> Result<Self, InvalidPlan> {
        text.split_whitespace().map(str::parse).collect()
    }
}

impl FromStr for FaultRule {
    type Err = InvalidPlan;

    fn from_str(text: &str) -> Result<Self, InvalidPlan> {
        let bad = |reason| InvalidPlan { rule: text.to_owned(), reason };
        let (calls, rest) = text.split_once('#').ok_or(bad("missing #"))?;
        let (which, fault) = rest.split_once('=').ok_or(bad("missing ="))?;
        let (nth, times) = match which.split_once('x') {
            None => (which, Times::Count(1)),
            Some((nth, "*")) => (nth, Times::Always),
            Some((nth, times)) => {
                (nth, Times::Count(times.parse().map_err(|_| bad("TIMES must be a number or *"))?))
            }
        };
        Ok(Self {
            calls: parse_calls(calls).ok_or(bad("unknown calls"))?,
            nth: nth
                .parse()
                .ok()
                .filter(|nth| *nth > 0)
                .ok_or(bad("NTH must be a number of at least 1"))?,
            times,
            fault: parse_fault(fault).ok_or(bad("unknown fault"))?,
        })
    }
}

fn parse_calls(text: &str) -> Option<CallFilter> {
    if text == "any" {
        return Some(CallFilter::Any);
    }
    let service = |name: &str| Service::ALL.into_iter().find(|service| service.as_str() == name);
    match text.split_once(':') {
        None => service(text).map(CallFilter::Service),
        Some((name, operation)) => {
            Some(CallFilter::Operation(Call::new(service(name)?, operation)))
        }
    }
}

fn parse_fault(text: &str) -> Option<Fault> {
    if let Some(late) = text.strip_prefix("delayed-") {
        let ms = late.strip_suffix("ms")?.parse().ok()?;
        return Some(Fault::Delayed(Duration::from_millis(ms)));
    }
    let failures = ServiceError::ALL.into_iter().map(Fault::Error);
    [Fault::RequestLost, Fault::ResponseLost, Fault::PartialBatch]
        .into_iter()
        .chain([KillPoint::BeforeCall, KillPoint::AfterCall].map(Fault::Killed))
        .chain(failures)
        .find(|fault| fault.kind() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_plan_parses_to_the_same_plan() {
        let text = "any#1=request-lost s3#2x4=response-lost dynamodb:BatchWriteItem#10x*=partial-batch any#7=delayed-2000ms \
                    iot-data#1=throttled sqs:SendMessage#3=internal-error dynamodb#1x8=throughput-exceeded \
                    any#1=conflict any#9=killed-before any#10=killed-after other:POST#1=request-lost";
        let plan: FaultPlan = text.parse().unwrap();
        assert_eq!(plan.rules.len(), 11);
        assert_eq!(plan.to_string(), text.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!("".parse(), Ok(FaultPlan::none()));
    }

    #[test]
    fn invalid_plan_error_names_rule_and_reason() {
        for (text, reason) in [
            ("any=request-lost", "missing #"),
            ("any#1", "missing ="),
            ("any#0=request-lost", "NTH must be"),
            ("any#1xmany=request-lost", "TIMES must be"),
            ("disks#1=request-lost", "unknown calls"),
            ("any#1=melted", "unknown fault"),
            ("any#1=delayed-2s", "unknown fault"),
        ] {
            let error =
                format!("any#1=request-lost {text}").parse::<FaultPlan>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains(reason), "{error}");
        }
    }
}
