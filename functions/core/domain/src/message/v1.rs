//! Version 1: a flat object of readings (docs/protocol.md).

use serde_json::{Map, Value};

use super::fields::Fields;
use super::{Body, Category, MAX_MEASUREMENTS, Measurement, Message, Received, Unreadable};
use crate::id::{DeviceId, Mid};
use crate::metric::MetricName;
use crate::time::Timestamp;

/// Numbers under these names are no readings.
const RESERVED: [&str; 6] = ["v", "seq", "msg_type", "ts", "timestamp", "device_id"];

pub(super) fn read(
    received: &Received,
    device_id: DeviceId,
    category: Category,
    object: &Map<String, Value>,
) -> Result<Message, Unreadable> {
    let fields = Fields::new(object);
    if category != Category::Telemetry {
        return Err(fields.wrong("v", "must be 2 on this topic: version 1 has telemetry only"));
    }
    // The first firmwares said their name in the topic alone.
    if fields.get("device_id").is_some() {
        super::check_device_id(&fields, &device_id)?;
    }
    let (ts, mid) = if fields.get("timestamp").is_some() {
        let ts = Timestamp::parse_or_utc(fields.text("timestamp")?)
            .map_err(|bad| fields.wrong("timestamp", bad.to_string()))?;
        super::check_not_ahead(&fields, "timestamp", ts, received.received_at)?;
        (ts, Mid::of(&received.topic, &received.payload))
    } else {
        let at = received.received_at;
        (at, Mid::of_untimed(&received.topic, &received.payload, at))
    };

    let unit = super::unit(&fields)?;
    let readings = object
        .iter()
        .filter(|(name, value)| value.is_number() && !RESERVED.contains(&name.as_str()));
    let mut measurements = Vec::new();
    for (name, _) in readings {
        let metric = MetricName::parse(name).map_err(|bad| {
            fields.wrong(&name.chars().take(64).collect::<String>(), bad.to_string())
        })?;
        measurements.push(Measurement {
            metric,
            ts,
            ordinal: 0,
            value: fields.number(name)?,
            unit: unit.clone(),
        });
    }
    if measurements.len() > MAX_MEASUREMENTS {
        let reason = format!("{} numeric fields, more than {MAX_MEASUREMENTS}", measurements.len());
        return Err(Unreadable::field("payload", reason));
    }
    Ok(Message {
        mid,
        device_id,
        category,
        ts,
        seq: None,
        boot: None,
        body: Body::Telemetry(measurements),
        received: received.clone(),
    })
}
