//! Version 1: a flat object of numbers (docs/protocol.md).

use serde_json::{Map, Value};

use super::fields::Fields;
use super::{Body, Category, MAX_MEASUREMENTS, Message, ParseError, ReceivedMessage};
use crate::id::{DeviceId, MessageId};
use crate::metric::{MetricName, Sample};
use crate::time::Timestamp;

/// Numeric fields that are not samples.
const RESERVED: [&str; 6] = ["v", "seq", "msg_type", "ts", "timestamp", "device_id"];

pub(super) fn parse(
    received: &ReceivedMessage,
    device_id: DeviceId,
    category: Category,
    object: &Map<String, Value>,
) -> Result<Message, ParseError> {
    let fields = Fields::new(object);
    if category != Category::Telemetry {
        return Err(fields.invalid("v", "must be 2 on this topic: version 1 has telemetry only"));
    }
    // Early firmware sends the device id only in the topic.
    if fields.get("device_id").is_some() {
        super::check_device_id(&fields, &device_id)?;
    }
    let (ts, message_id) = if fields.get("timestamp").is_some() {
        let ts = Timestamp::parse_or_utc(fields.text("timestamp")?)
            .map_err(|error| fields.invalid("timestamp", error.to_string()))?;
        super::check_not_ahead(&fields, "timestamp", ts, received.received_at)?;
        (ts, MessageId::of(&received.topic, &received.payload))
    } else {
        let at = received.received_at;
        (at, MessageId::of_untimed(&received.topic, &received.payload, at))
    };

    let unit = super::unit(&fields)?;
    let numbers = object
        .iter()
        .filter(|(name, value)| value.is_number() && !RESERVED.contains(&name.as_str()));
    let mut measurements = Vec::new();
    for (name, _) in numbers {
        let metric = MetricName::parse(name).map_err(|error| {
            fields.invalid(&name.chars().take(64).collect::<String>(), error.to_string())
        })?;
        measurements.push(Sample {
            metric,
            time: ts,
            sample_index: 0,
            value: fields.number(name)?,
            unit: unit.clone(),
        });
    }
    if measurements.len() > MAX_MEASUREMENTS {
        let reason =
            format!("has {} numeric fields, more than {MAX_MEASUREMENTS}", measurements.len());
        return Err(ParseError::invalid_field("payload", reason));
    }
    Ok(Message {
        message_id,
        device_id,
        category,
        ts,
        seq: None,
        boot: None,
        body: Body::Telemetry(measurements),
        received: received.clone(),
    })
}
