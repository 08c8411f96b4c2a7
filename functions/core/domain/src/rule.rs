//! Alert rules: their definition, and the parts from which their evaluation is made.
//!
//! A [`Rule`] is the definition that a client stored. [`RuleSet`] finds the rules for a sample,
//! [`ReorderBuffer`] puts the samples of a metric in order, and [`RuleState`] is the progress of
//! one rule on one device. All of it is pure. docs/alerts.md is the specification.

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

/// Maximum number of alert rules. Every function that evaluates rules keeps all of them in memory
/// and reads them again every minute.
pub const MAX_RULES: u64 = 1_000;

/// The definition of an alert rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique id; sorts by `created_at`.
    pub rule_id: Uuid,
    /// Display name.
    pub name: String,
    /// Whether the rule is evaluated.
    pub enabled: bool,
    /// The devices to which the rule applies.
    pub scope: Scope,
    /// The metric that the rule evaluates.
    pub metric: MetricName,
    /// The condition on the metric.
    pub condition: Condition,
    /// Seconds for which the condition must hold before an alert opens. For [`Condition::NoData`]:
    /// seconds without a sample.
    pub for_s: u32,
    /// Severity of the alerts.
    pub severity: Severity,
    /// Text of the alerts; `None`: a default text for the condition.
    pub message: Option<MessageTemplate>,
    /// Whether notifications are sent for the alerts.
    pub notify: bool,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
    /// Number of changes, from 1.
    pub version: u64,
}

/// The devices to which a rule applies. Only registered devices have alerts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every device.
    All,
    /// Devices of exactly this type.
    DeviceType(String),
    /// One device.
    DeviceId(DeviceId),
}

/// The condition of a rule on its metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "limits", rename_all = "snake_case")]
pub enum Condition {
    /// The value is within or beyond limits.
    Threshold(Limits),
    /// The change per second since the previous sample, in device time, is within or beyond limits.
    RateOfChange(Limits),
    /// No sample is received.
    NoData,
}

impl Condition {
    /// Name of the kind in the API; also the type of the alerts.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Threshold(_) => "threshold",
            Self::RateOfChange(_) => "rate_of_change",
            Self::NoData => "no_data",
        }
    }

    /// The limits; `None` for a condition without limits.
    pub const fn limits(&self) -> Option<&Limits> {
        match self {
            Self::Threshold(limits) | Self::RateOfChange(limits) => Some(limits),
            Self::NoData => None,
        }
    }

    /// Judges a sample. Returns the compared value (the rate for [`Condition::RateOfChange`]) and
    /// the result, or `None` if the condition does not judge this sample.
    pub fn evaluate(&self, sample: &OrderedSample) -> Option<(f64, ConditionResult)> {
        let (value, limits) = match self {
            Self::Threshold(limits) => (sample.value, limits),
            Self::RateOfChange(limits) => (sample.rate?, limits),
            Self::NoData => return None,
        };
        Some((
            value,
            ConditionResult { raises: limits.raises(value), clears: limits.clears(value) },
        ))
    }
}

impl Rule {
    /// Text of an alert of this rule: for a device, since the start of the cause, at a value.
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
