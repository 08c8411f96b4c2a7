//! Templates for the texts of alerts.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{Condition, Rule};
use crate::id::DeviceId;
use crate::time::Timestamp;

/// A text with placeholders such as `{value}`; `{{` and `}}` stand for braces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageTemplate {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Placeholder),
}

/// The values that a template can contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholder {
    /// Name of the rule.
    Rule,
    /// Id of the device.
    Device,
    /// Name of the metric.
    Metric,
    /// The value that opened the alert; for a rate of change, the rate.
    Value,
    /// Operator and limits of the condition.
    Limit,
    /// Start of the cause.
    Since,
    /// Duration of the rule in seconds.
    For,
    /// Severity of the rule.
    Severity,
}

impl Placeholder {
    /// Every placeholder with its name.
    pub const ALL: [(&'static str, Self); 8] = [
        ("rule", Self::Rule),
        ("device_id", Self::Device),
        ("metric", Self::Metric),
        ("value", Self::Value),
        ("limit", Self::Limit),
        ("since", Self::Since),
        ("for_s", Self::For),
        ("severity", Self::Severity),
    ];
}

/// Why a text is not a valid template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// The placeholder does not exist.
    #[error("contains the unknown placeholder {{{0}}}; valid placeholders are {known}", known = known_placeholders())]
    UnknownPlaceholder(String),
    /// A brace does not belong to a placeholder.
    #[error("contains an unmatched brace; write {{{{ or }}}} for a literal brace")]
    UnmatchedBrace,
}

fn known_placeholders() -> String {
    Placeholder::ALL.map(|(name, _)| format!("{{{name}}}")).join(" ")
}

impl MessageTemplate {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// A placeholder is unknown, or a brace is not part of a placeholder.
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            plain.push_str(&rest[..brace]);
            let tail = &rest[brace..];
            let doubled = ["{{", "}}"].into_iter().find(|braces| tail.starts_with(braces));
            if let Some(braces) = doubled {
                plain.push_str(&braces[..1]);
                rest = &tail[2..];
                continue;
            }
            let inner = tail.strip_prefix('{').and_then(|tail| tail.split_once('}'));
            let (name, after) = inner.ok_or(InvalidTemplate::UnmatchedBrace)?;
            let found = Placeholder::ALL.into_iter().find(|(known, _)| *known == name);
            let (_, placeholder) =
                found.ok_or_else(|| InvalidTemplate::UnknownPlaceholder(name.to_owned()))?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Value(placeholder));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// The template as it was parsed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the template contains a placeholder.
    pub fn contains(&self, placeholder: Placeholder) -> bool {
        self.pieces.contains(&Piece::Value(placeholder))
    }

    /// Replaces the placeholders by values.
    pub fn render(&self, values: &TemplateValues<'_>) -> String {
        let mut filled = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Value(placeholder) => values.write(*placeholder, &mut filled),
            }
        }
        filled
    }
}

impl TryFrom<String> for MessageTemplate {
    type Error = InvalidTemplate;

    fn try_from(text: String) -> Result<Self, InvalidTemplate> {
        Self::parse(&text)
    }
}

impl From<MessageTemplate> for String {
    fn from(template: MessageTemplate) -> Self {
        template.text
    }
}

/// The values of an alert for its text.
#[derive(Debug, Clone, Copy)]
pub struct TemplateValues<'a> {
    /// The rule of the alert.
    pub rule: &'a Rule,
    /// The device of the alert.
    pub device_id: &'a DeviceId,
    /// Start of the cause.
    pub since: Timestamp,
    /// The value that opened the alert; `None` for `no_data`.
    pub value: Option<f64>,
}

impl TemplateValues<'_> {
    fn write(&self, placeholder: Placeholder, to: &mut String) {
        let rule = self.rule;
        // Writing to a `String` cannot fail.
        let _ = match placeholder {
            Placeholder::Rule => write!(to, "{}", rule.name),
            Placeholder::Device => write!(to, "{}", self.device_id),
            Placeholder::Metric => write!(to, "{}", rule.metric),
            Placeholder::Value => match self.value {
                Some(value) => write!(to, "{value}"),
                None => write!(to, "nothing"),
            },
            Placeholder::Limit => write!(to, "{}", describe_limit(&rule.condition)),
            Placeholder::Since => write!(to, "{}", self.since),
            Placeholder::For => write!(to, "{}", rule.for_s),
            Placeholder::Severity => write!(to, "{}", rule.severity.as_str()),
        };
    }
}

/// Operator and limits of a condition.
fn describe_limit(condition: &Condition) -> String {
    let Some(limits) = condition.limits() else { return "any value".to_owned() };
    let (low, high) = limits.bounds();
    let unit = if matches!(condition, Condition::RateOfChange(_)) { " per second" } else { "" };
    match limits.operator() {
        operator if operator.is_range() => {
            format!("{} {low} to {high}{unit}", operator.as_str())
        }
        operator => format!("{} {low}{unit}", operator.as_str()),
    }
}

/// Text of an alert whose rule has no template.
pub(super) fn default_message(values: &TemplateValues<'_>) -> String {
    let TemplateValues { rule, device_id, since, value } = values;
    let (name, metric) = (&rule.name, &rule.metric);
    let Some(value) = value else {
        let for_s = rule.for_s;
        return format!(
            "{name}: no {metric} was received from {device_id} for {for_s} s, since {since}"
        );
    };
    let (rate, limit) = match rule.condition {
        Condition::RateOfChange(_) => ("changes by ", format!("{value} per second")),
        _ => ("is ", value.to_string()),
    };
    let condition = self::describe_limit(&rule.condition);
    let held = match rule.for_s {
        0 => String::new(),
        for_s => format!(" for {for_s} s"),
    };
    format!("{name}: {metric} of {device_id} {rate}{limit} ({condition}{held}), since {since}")
}
