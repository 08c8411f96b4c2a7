//! The fields of a rule that a client sets.

use std::ops::RangeInclusive;

use meter_domain::alert::Severity;
use meter_domain::id::DeviceId;
use meter_domain::metric::MetricName;
use meter_domain::rule::{Condition, Limits, MessageTemplate, Operator, Placeholder, Rule, Scope};
use meter_domain::time::Timestamp;
use meter_http::Problem;
use meter_http::fields::{Fields, FromFields};
use serde_json::Value;
use uuid::Uuid;

/// The longest name, in characters. Every notification contains it.
const MAX_NAME: usize = 100;

/// The longest message, in characters.
const MAX_MESSAGE: usize = 500;

/// The longest device type, in characters, as in the registry.
const MAX_TYPE: usize = 255;

/// A week, in seconds.
const MAX_FOR_S: u64 = 7 * 24 * 3600;

/// The fields that a client sets.
const WRITABLE_FIELDS: [&str; 14] = [
    "name",
    "enabled",
    "scope",
    "metric",
    "kind",
    "operator",
    "threshold",
    "low",
    "high",
    "clear",
    "for_s",
    "severity",
    "message",
    "notify",
];

/// The other fields of a response. A client may send them back, and they are ignored.
const READ_ONLY_FIELDS: [&str; 4] = ["rule_id", "created_at", "updated_at", "version"];

/// A rule without its id, times and version.
#[derive(Debug)]
pub(crate) struct RuleFields(pub(super) Rule);

impl FromFields for RuleFields {
    fn from_fields(fields: &Fields<'_>, _: Timestamp) -> Result<Self, Problem> {
        // An ignored misspelt threshold would make a rule that the client did not intend.
        fields.deny_unknown(&[&WRITABLE_FIELDS[..], &READ_ONLY_FIELDS].concat())?;
        parse(fields).map(Self)
    }
}

fn parse(fields: &Fields<'_>) -> Result<Rule, Problem> {
    let condition = condition(fields)?;
    let least = if condition == Condition::NoData { 1 } else { 0 };
    Ok(Rule {
        rule_id: Uuid::nil(),
        name: fields.required_string("name", 1..=MAX_NAME)?.to_owned(),
        enabled: fields.boolean("enabled")?.unwrap_or(true),
        scope: scope(fields)?,
        metric: metric(fields)?,
        for_s: for_s(fields, least..=MAX_FOR_S)?,
        severity: fields
            .one_of("severity", Severity::parse, "info, warning, critical")?
            .unwrap_or(Severity::Warning),
        message: message(fields, &condition)?,
        notify: fields.boolean("notify")?.unwrap_or(true),
        condition,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
        version: 0,
    })
}

fn metric(fields: &Fields<'_>) -> Result<MetricName, Problem> {
    let name = fields.required_string("metric", 0..=usize::MAX)?;
    MetricName::parse(name).map_err(|bad| fields.invalid("metric", bad.to_string()))
}

fn for_s(fields: &Fields<'_>, range: RangeInclusive<u64>) -> Result<u32, Problem> {
    let least = *range.start();
    let given = fields.integer("for_s", range)?;
    if least > 0 && given.is_none() {
        return Err(
            fields.invalid("for_s", "is missing; it is the longest gap between samples in seconds")
        );
    }
    Ok(given.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(0))
}

/// `"all"` (the default), `{"device_type": …}` or `{"device_id": …}`.
fn scope(fields: &Fields<'_>) -> Result<Scope, Problem> {
    const NAME: &str = "scope";
    const WORDS: &str = "must be \"all\", {\"device_type\": …} or {\"device_id\": …}";
    let object = match fields.get(NAME) {
        None => return Ok(Scope::All),
        Some(Value::String(word)) if word == "all" => return Ok(Scope::All),
        Some(Value::Object(object)) if object.len() == 1 => object,
        Some(_) => return Err(fields.invalid(NAME, WORDS)),
    };
    let scope = Fields::nested(NAME, object);
    if let Some(name) = scope.string("device_type", 1..=MAX_TYPE)? {
        return Ok(Scope::DeviceType(name.to_owned()));
    }
    if let Some(id) = scope.string("device_id", 0..=usize::MAX)? {
        let id = DeviceId::parse(id);
        return Ok(Scope::DeviceId(id.map_err(|bad| scope.invalid("device_id", bad.to_string()))?));
    }
    Err(fields.invalid(NAME, WORDS))
}

fn condition(fields: &Fields<'_>) -> Result<Condition, Problem> {
    let kinds = "threshold, rate_of_change, no_data";
    let of = |word: &str| match word {
        "threshold" => Some(Condition::Threshold as fn(Limits) -> Condition),
        "rate_of_change" => Some(Condition::RateOfChange as fn(Limits) -> Condition),
        "no_data" => Some((|_| Condition::NoData) as fn(Limits) -> Condition),
        _ => None,
    };
    let is_no_data = fields.get("kind").and_then(Value::as_str) == Some("no_data");
    let kind = fields.one_of("kind", of, kinds)?.unwrap_or(Condition::Threshold);
    if is_no_data {
        deny_fields(fields, &["operator", "threshold", "low", "high", "clear"], "of kind no_data")?;
        return Ok(Condition::NoData);
    }
    Ok(kind(limits(fields)?))
}

fn limits(fields: &Fields<'_>) -> Result<Limits, Problem> {
    let operators = ">, >=, <, <=, outside, inside";
    let operator = fields.one_of("operator", Operator::parse, operators)?;
    let operator = operator.ok_or_else(|| fields.invalid("operator", "is missing"))?;
    let number = |name| {
        let number = fields.number(name)?;
        number.ok_or_else(|| fields.invalid(name, "is missing"))
    };
    let with = format!("with the operator {}", operator.as_str());
    let limits = if operator.is_range() {
        deny_fields(fields, &["threshold"], &with)?;
        let clear = match fields.object("clear")? {
            None => None,
            Some(object) => {
                let clear = Fields::nested("clear", object);
                clear.deny_unknown(&["low", "high"])?;
                let end = |name| {
                    let number = clear.number(name)?;
                    number.ok_or_else(|| clear.invalid(name, "is missing"))
                };
                Some((end("low")?, end("high")?))
            }
        };
        Limits::range(operator, (number("low")?, number("high")?), clear)
    } else {
        deny_fields(fields, &["low", "high"], &with)?;
        Limits::threshold(operator, number("threshold")?, fields.number("clear")?)
    };
    limits.map_err(|bad| fields.invalid(bad.field, bad.reason))
}

/// Refuses fields that would have no effect.
fn deny_fields(fields: &Fields<'_>, names: &[&str], of: &str) -> Result<(), Problem> {
    match names.iter().find(|name| fields.get(name).is_some()) {
        None => Ok(()),
        Some(name) => Err(fields.invalid(name, format!("has no meaning {of}"))),
    }
}

fn message(fields: &Fields<'_>, condition: &Condition) -> Result<Option<MessageTemplate>, Problem> {
    const NAME: &str = "message";
    let Some(text) = fields.string(NAME, 1..=MAX_MESSAGE)? else { return Ok(None) };
    let template =
        MessageTemplate::parse(text).map_err(|bad| fields.invalid(NAME, bad.to_string()))?;
    if *condition == Condition::NoData && template.contains(Placeholder::Value) {
        return Err(fields.invalid(NAME, "has {value}, which a rule of kind no_data does not have"));
    }
    Ok(Some(template))
}
