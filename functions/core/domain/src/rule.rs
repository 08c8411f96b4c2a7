//! Alert rules: what a person wants to be told of, and when.
//!
//! A [`Rule`] is what somebody wrote. [`RuleSet`] finds those that concern a sample; [`ReorderBuffer`] puts the samples of a
//! metric in order; [`RuleState`] is how far one rule is with one device. All of it is pure, and docs/alerts.md says in
//! words what it computes.

mod limits;
mod reorder;
mod rule_state;
mod set;
mod template;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::limits::{InvalidLimits, Limits, Operator};
pub use self::reorder::{BufferedSample, OrderedSample, ReorderBuffer};
pub use self::rule_state::{
    ActiveAlert, AlertTransition, ConditionResult, NotifiedAlert, RuleState, RuleTiming,
};
pub use self::set::{ApplicableRules, RuleSet};
pub use self::template::{InvalidTemplate, MessageTemplate, Placeholder, TemplateValues};
use crate::alert::Severity;
use crate::id::DeviceId;
use crate::metric::MetricName;
use crate::time::Timestamp;

/// Rules that there may be. Every function that evaluates them holds all of them, and reads them anew every minute.
pub const MAX_RULES: u64 = 1_000;

/// What somebody wants to be told of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Sorts by `created_at`.
    pub rule_id: Uuid,
    /// For a person.
    pub name: String,
    /// Whether it is evaluated.
    pub enabled: bool,
    /// For which devices.
    pub scope: Scope,
    /// Of which of their metrics.
    pub metric: MetricName,
    /// What has to be so.
    pub condition: Condition,
    /// For how long, in seconds, before there is an alert. For [`Condition::NoData`]: how long nothing may come.
    pub for_s: u32,
    /// How bad that is.
    pub severity: Severity,
    /// What the alert says; none: what the platform says of such a condition.
    pub message: Option<MessageTemplate>,
    /// Whether people are told of its alerts.
    pub notify: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// Counts its changes, from 1.
    pub version: u64,
}

/// Which devices a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every registered device.
    All,
    /// Registered devices of exactly this type.
    DeviceType(String),
    /// This one.
    DeviceId(DeviceId),
}

impl Scope {
    /// Whether a device is meant.
    pub fn matches(&self, device_id: &DeviceId, device_type: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::DeviceType(wanted) => device_type == Some(wanted),
            Self::DeviceId(wanted) => device_id == wanted,
        }
    }
}

/// What has to be so of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "limits", rename_all = "snake_case")]
pub enum Condition {
    /// Its value lies so.
    Threshold(Limits),
    /// Its change a second, from the sample before by the device's clock, lies so.
    RateOfChange(Limits),
    /// Nothing is received of it.
    NoData,
}

impl Condition {
    /// The API's word; also the type of its alerts.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Threshold(_) => "threshold",
            Self::RateOfChange(_) => "rate_of_change",
            Self::NoData => "no_data",
        }
    }

    /// What it compares with, if it compares.
    pub const fn limits(&self) -> Option<&Limits> {
        match self {
            Self::Threshold(limits) | Self::RateOfChange(limits) => Some(limits),
            Self::NoData => None,
        }
    }

    /// What a reading is to it; none where it has nothing to say of one.
    pub fn evaluate(&self, reading: &OrderedSample) -> Option<(f64, ConditionResult)> {
        let (value, limits) = match self {
            Self::Threshold(limits) => (reading.value, limits),
            Self::RateOfChange(limits) => (reading.rate?, limits),
            Self::NoData => return None,
        };
        Some((
            value,
            ConditionResult { raises: limits.raises(value), clears: limits.clears(value) },
        ))
    }
}

impl Rule {
    /// What an alert of it says: of a device, from when on, at which value.
    pub fn alert_message(
        &self,
        device_id: &DeviceId,
        since: Timestamp,
        value: Option<f64>,
    ) -> String {
        let values = TemplateValues { rule: self, device_id, since, value };
        match &self.message {
            Some(template) => template.render(&values),
            None => template::default_message(&values),
        }
    }
}
