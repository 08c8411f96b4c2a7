//! Version 2: an envelope and a content for each category (docs/protocol.md).

use serde_json::{Map, Value};
use uuid::Uuid;

use super::fields::Fields;
use super::{Body, Category, Hello, MAX_MEASUREMENTS, Message, ParseError, ReceivedMessage};
use crate::command::{AckResult, OtaState};
use crate::id::{DeviceId, MessageId};
use crate::metric::{MetricName, Sample};
use crate::time::Timestamp;

pub(super) fn parse(
    received: &ReceivedMessage,
    device_id: DeviceId,
    category: Category,
    object: &Map<String, Value>,
) -> Result<Message, ParseError> {
    let fields = Fields::new(object);
    super::check_device_id(&fields, &device_id)?;
    let ts = fields.timestamp("ts")?;
    super::check_not_ahead(&fields, "ts", ts, received.received_at)?;

    // A device registers its last will when it connects, before the sequence number is assigned.
    // Older firmware omits `msg_type` as well.
    let optional_in_status = |name| category == Category::Status && fields.get(name).is_none();
    if !optional_in_status("msg_type") && fields.text("msg_type")? != category.as_str() {
        return Err(fields.invalid("msg_type", format!("must be {category} on this topic")));
    }
    let seq = if optional_in_status("seq") {
        None
    } else {
        // The range guarantees the conversion.
        u32::try_from(fields.integer("seq", 0..=u64::from(u32::MAX))?).ok()
    };

    let body = body(&fields, category, ts, received.received_at)?;
    Ok(Message {
        message_id: MessageId::of(&received.topic, &received.payload),
        device_id,
        category,
        ts,
        seq,
        boot: boot(&fields)?,
        body,
        received: received.clone(),
    })
}

/// The content of a message with the envelope time `ts`.
fn body(
    fields: &Fields<'_>,
    category: Category,
    ts: Timestamp,
    received_at: Timestamp,
) -> Result<Body, ParseError> {
    Ok(match category {
        // The caller parses lifecycle events separately.
        Category::Lifecycle => return Err(ParseError::UnknownTopic),
        Category::Telemetry => Body::Telemetry(measurements(fields, ts, received_at)?),
        Category::Hello => Body::Hello(hello(fields)?),
        Category::Status => Body::Status {
            online: fields.one_of("status", online, "online, offline")?,
            conn_id: fields.optional_text("conn_id")?,
        },
        Category::CommandAck => Body::CommandAck {
            cmd_id: cmd_id(fields)?,
            result: fields.one_of(
                "result",
                AckResult::parse,
                "accepted, rejected, error, unsupported",
            )?,
            detail: fields.optional_text("detail")?,
        },
        Category::OtaStatus => Body::OtaStatus {
            cmd_id: cmd_id(fields)?,
            ota_state: fields.one_of(
                "ota_state",
                OtaState::parse,
                "downloading, verifying, applying, success, failed",
            )?,
            progress_pct: fields.optional_number_in("progress_pct", 0.0..=100.0)?,
            fw_version_target: fields.optional_text("fw_version_target")?,
            detail: fields.optional_text("detail")?,
        },
    })
}

fn online(text: &str) -> Option<bool> {
    match text {
        "online" => Some(true),
        "offline" => Some(false),
        _ => None,
    }
}

fn boot(fields: &Fields<'_>) -> Result<Option<String>, ParseError> {
    match fields.get("boot") {
        None => Ok(None),
        Some(Value::String(text)) if (1..=64).contains(&text.len()) => Ok(Some(text.clone())),
        Some(Value::Number(n)) if n.is_u64() || n.is_i64() => Ok(Some(n.to_string())),
        Some(_) => Err(fields.invalid("boot", "must be an integer or a string of 1 to 64 bytes")),
    }
}

fn cmd_id(fields: &Fields<'_>) -> Result<Uuid, ParseError> {
    let text = fields.text("cmd_id")?;
    Uuid::parse_str(text).map_err(|_| fields.invalid("cmd_id", "must be a UUID"))
}

fn hello(fields: &Fields<'_>) -> Result<Hello, ParseError> {
    let fw_version = fields.text("fw_version")?;
    semver::Version::parse(fw_version).map_err(|error| {
        fields.invalid("fw_version", format!("must be a semantic version: {error}"))
    })?;
    Ok(Hello {
        fw_version: fw_version.to_owned(),
        uptime_s: fields.number_in("uptime_s", 0.0..=f64::INFINITY)?,
        broker_connections: fields.integer("broker_connections", 0..=u64::from(u32::MAX))?,
        buf_usage_pct: fields.number_in("buf_usage_pct", 0.0..=100.0)?,
        temp_internal: fields
            .get("temp_internal")
            .map(|_| fields.number("temp_internal"))
            .transpose()?,
    })
}

/// One invalid sample makes the whole message invalid.
fn measurements(
    fields: &Fields<'_>,
    envelope_ts: Timestamp,
    received_at: Timestamp,
) -> Result<Vec<Sample>, ParseError> {
    let list = fields
        .required("measurements")?
        .as_array()
        .ok_or_else(|| fields.invalid("measurements", "must be an array"))?;
    if !(1..=MAX_MEASUREMENTS).contains(&list.len()) {
        let reason = format!("must have 1 to {MAX_MEASUREMENTS} entries, not {}", list.len());
        return Err(fields.invalid("measurements", reason));
    }
    let mut measurements = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let entry = Fields::element("measurements", index, value)?;
        let metric = MetricName::parse(entry.text("type")?)
            .map_err(|error| entry.invalid("type", error.to_string()))?;
        let ts = if entry.get("ts").is_some() { entry.timestamp("ts")? } else { envelope_ts };
        super::check_not_ahead(&entry, "ts", ts, received_at)?;
        measurements.push(Sample {
            metric,
            time: ts,
            sample_index: 0,
            value: entry.number("val")?,
            unit: super::unit(&entry)?,
        });
    }
    super::assign_sample_indexes(&mut measurements);
    Ok(measurements)
}
