//! Lifecycle events of IoT Core: `$aws/events/presence/{connected,disconnected}/{client_id}`.

use serde_json::{Map, Value};

use super::fields::Fields;
use super::{Body, Category, Message, ParseError, ReceivedMessage};
use crate::id::{DeviceId, MessageId};
use crate::time::Timestamp;

/// Client id in the topic of a lifecycle event.
pub(super) fn client_id(topic: &str) -> Option<&str> {
    let rest = topic.strip_prefix("$aws/events/presence/")?;
    rest.strip_prefix("connected/").or_else(|| rest.strip_prefix("disconnected/"))
}

pub(super) fn parse(
    received: &ReceivedMessage,
    device_id: DeviceId,
    object: &Map<String, Value>,
) -> Result<Message, ParseError> {
    let fields = Fields::new(object);
    if fields.text("clientId")? != device_id.as_str() {
        return Err(fields.invalid("clientId", "does not match the topic"));
    }
    let connected = fields.one_of("eventType", connected, "connected, disconnected")?;
    let version = fields.integer("versionNumber", 0..=u64::MAX / 2)?;
    let millis = fields.integer("timestamp", 0..=u64::MAX / 2)?;
    let ts = i64::try_from(millis).ok().and_then(|ms| Timestamp::from_millis(ms).ok());
    let ts = ts.ok_or_else(|| {
        fields.invalid("timestamp", "must be milliseconds since the epoch up to the year 9999")
    })?;
    super::check_not_ahead(&fields, "timestamp", ts, received.received_at)?;
    Ok(Message {
        message_id: MessageId::of(&received.topic, &received.payload),
        device_id,
        category: Category::Lifecycle,
        ts,
        seq: None,
        boot: None,
        body: Body::Lifecycle { connected, version },
        received: received.clone(),
    })
}

fn connected(text: &str) -> Option<bool> {
    match text {
        "connected" => Some(true),
        "disconnected" => Some(false),
        _ => None,
    }
}
