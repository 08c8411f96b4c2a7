//! Messages and their parser.
//!
//! [`parse`] is the only way to create a [`Message`]. It never panics, its errors name the invalid
//! field, and the caller keeps the [`ReceivedMessage`] with the original bytes.

mod derive;
mod fields;
mod lifecycle;
mod v1;
mod v2;

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::fields::Fields;
use crate::command::{AckResult, OtaState};
use crate::id::{DeviceId, MessageId};
use crate::metric::{MetricName, Precedence, Sample};
use crate::time::{DAY_S, Timestamp};

/// Maximum size of a payload in bytes, as in IoT Core.
pub const MAX_PAYLOAD_BYTES: usize = 128 * 1024;

/// Maximum number of samples in a message, without derived values.
pub const MAX_MEASUREMENTS: usize = 200;

/// Maximum length of a unit in bytes.
pub const MAX_UNIT_BYTES: usize = 32;

/// Maximum time ahead of receipt, in seconds.
pub const MAX_AHEAD_S: i64 = DAY_S;

/// A message as the broker delivered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// Full topic.
    pub topic: String,
    /// Payload; any bytes.
    pub payload: Bytes,
    /// Receipt time at the broker, in milliseconds.
    pub received_at: Timestamp,
}

/// Kind of a message, derived from its topic; also a part of its file name in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Samples of metrics.
    Telemetry,
    /// Heartbeat of a device.
    Hello,
    /// Online or offline.
    Status,
    /// Acknowledgement of a command.
    CommandAck,
    /// Progress of a firmware upgrade.
    OtaStatus,
    /// Connection event of IoT Core.
    Lifecycle,
}

impl Category {
    /// Every category.
    pub const ALL: [Self; 6] = [
        Self::Telemetry,
        Self::Hello,
        Self::Status,
        Self::CommandAck,
        Self::OtaStatus,
        Self::Lifecycle,
    ];

    /// Name in `msg_type` and in file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Hello => "hello",
            Self::Status => "status",
            Self::CommandAck => "command_ack",
            Self::OtaStatus => "ota_status",
            Self::Lifecycle => "lifecycle",
        }
    }

    /// Parses the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.as_str() == text)
    }

    /// The topic levels after the device id; `None` for a category that devices do not publish.
    pub fn topic_suffix(self) -> Option<&'static str> {
        match self {
            Self::Telemetry => Some("telemetry"),
            Self::Hello => Some("hello"),
            Self::Status => Some("status"),
            Self::CommandAck => Some("command/ack"),
            Self::OtaStatus => Some("ota/status"),
            Self::Lifecycle => None,
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A valid message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Id of the message.
    pub message_id: MessageId,
    /// Device id from the topic.
    pub device_id: DeviceId,
    /// Category from the topic.
    pub category: Category,
    /// Envelope time; for version 1 without a time, the receipt time.
    pub ts: Timestamp,
    /// Sequence number; `None` in version 1 and optionally in `status`.
    pub seq: Option<u32>,
    /// Name of the boot session as text: `3` and `"3"` are the same.
    pub boot: Option<String>,
    /// Content of the message.
    pub body: Body,
    /// The message as received.
    pub received: ReceivedMessage,
}

impl Message {
    /// Precedence of the points of the message.
    pub fn precedence(&self) -> Precedence {
        Precedence { ts: self.ts, message_id: self.message_id }
    }
}

/// Content of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Up to [`MAX_MEASUREMENTS`] samples (0 only in version 1) in the order of the message, then
    /// the derived values.
    Telemetry(Vec<Sample>),
    /// Heartbeat.
    Hello(Hello),
    /// Start or end of a connection, reported by the device or its last will.
    Status {
        /// Whether the device is online.
        online: bool,
        /// Name of the connection, if the device sends one.
        conn_id: Option<String>,
    },
    /// Start or end of a connection, reported by IoT Core.
    Lifecycle {
        /// Whether the connection started.
        connected: bool,
        /// `versionNumber` of the event, which increases with each connection of the client.
        version: u64,
    },
    /// Acknowledgement of a command.
    CommandAck {
        /// Id of the command.
        cmd_id: Uuid,
        /// Result of the command.
        result: AckResult,
        /// Text of the device.
        detail: Option<String>,
    },
    /// Progress of a firmware upgrade.
    OtaStatus {
        /// Id of the `start_ota` command.
        cmd_id: Uuid,
        /// State of the upgrade.
        ota_state: OtaState,
        /// Percentage of the state, 0 to 100.
        progress_pct: Option<f64>,
        /// Target version.
        fw_version_target: Option<String>,
        /// Text of the device.
        detail: Option<String>,
    },
}

/// Content of a hello message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the running firmware, a semantic version.
    pub fw_version: String,
    /// Seconds since power-on.
    pub uptime_s: f64,
    /// Number of brokers to which the device is connected.
    pub broker_connections: u64,
    /// Usage of the send buffer in percent, 0 to 100.
    pub buf_usage_pct: f64,
    /// Internal temperature in °C.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temp_internal: Option<f64>,
}

/// The reason for which a message is quarantined (docs/protocol.md, "Quarantined messages").
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The topic is not part of the protocol.
    #[error("topic: is not iot/{{device_id}}/telemetry, hello, status, command/ack or ota/status")]
    UnknownTopic,
    /// The device id in the topic is invalid.
    #[error("topic: the device id {0}")]
    InvalidDeviceId(#[from] crate::id::InvalidDeviceId),
    /// The payload is larger than IoT Core allows.
    #[error("payload: is {0} bytes, more than {MAX_PAYLOAD_BYTES}")]
    TooLarge(usize),
    /// The payload is not JSON; the reason contains line and column.
    #[error("payload: is not JSON: {0}")]
    NotJson(String),
    /// The payload is JSON, but not an object.
    #[error("payload: is not a JSON object")]
    NotAnObject,
    /// The queue contained something other than the output of the IoT rule.
    #[error("delivery: {0}")]
    MalformedDelivery(String),
    /// The message is valid, but the device is not registered, which the configuration requires.
    #[error("device_id: is not registered")]
    UnregisteredDevice,
    /// The message is valid, but a store can never hold it; contains the error of the store.
    #[error("cannot be stored: {0}")]
    NotStorable(String),
    /// A field is invalid or missing.
    #[error("{field}: {reason}")]
    InvalidField {
        /// Path of the field (`measurements[3].val`).
        field: String,
        /// The requirement that the field violates.
        reason: String,
    },
}

impl ParseError {
    fn invalid_field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidField { field: field.into(), reason: reason.into() }
    }
}

/// Parses a topic into device id and category.
///
/// # Errors
///
/// The topic is unknown, or the device id is invalid.
pub fn parse_topic(topic: &str) -> Result<(DeviceId, Category), ParseError> {
    if let Some(client_id) = lifecycle::client_id(topic) {
        return Ok((DeviceId::parse(client_id)?, Category::Lifecycle));
    }
    let rest = topic.strip_prefix("iot/").ok_or(ParseError::UnknownTopic)?;
    let (device, suffix) = rest.split_once('/').ok_or(ParseError::UnknownTopic)?;
    let category = Category::ALL.into_iter().find(|c| c.topic_suffix() == Some(suffix));
    let category = category.ok_or(ParseError::UnknownTopic)?;
    Ok((DeviceId::parse(device)?, category))
}

/// Parses a message.
///
/// # Errors
///
/// The first requirement of docs/protocol.md that the message violates.
pub fn parse(received: &ReceivedMessage) -> Result<Message, ParseError> {
    let (device_id, category) = parse_topic(&received.topic)?;
    if received.payload.len() > MAX_PAYLOAD_BYTES {
        return Err(ParseError::TooLarge(received.payload.len()));
    }
    let value: serde_json::Value = serde_json::from_slice(&received.payload)
        .map_err(|error| ParseError::NotJson(error.to_string()))?;
    let serde_json::Value::Object(object) = value else {
        return Err(ParseError::NotAnObject);
    };
    if category == Category::Lifecycle {
        return lifecycle::parse(received, device_id, &object);
    }
    let mut message = match object.get("v").map(serde_json::Value::as_u64) {
        None | Some(Some(1)) => v1::parse(received, device_id, category, &object),
        Some(Some(2)) => v2::parse(received, device_id, category, &object),
        Some(_) => Err(ParseError::invalid_field("v", "must be 1 or 2")),
    }?;
    if let Body::Telemetry(measurements) = &mut message.body {
        derive::add_derived(measurements);
    }
    Ok(message)
}

/// The device id of the topic is authenticated by the broker; a message with another one is
/// rejected.
fn check_device_id(fields: &Fields<'_>, device_id: &DeviceId) -> Result<(), ParseError> {
    if fields.text("device_id")? == device_id.as_str() {
        Ok(())
    } else {
        Err(fields.invalid("device_id", "does not match the topic"))
    }
}

/// A device clock may be late by any amount, but at most a day ahead.
fn check_not_ahead(
    fields: &Fields<'_>,
    name: &str,
    ts: Timestamp,
    received_at: Timestamp,
) -> Result<(), ParseError> {
    if ts > received_at.plus_seconds(MAX_AHEAD_S) {
        return Err(fields.invalid(name, "is more than 24 h ahead of the time of receipt"));
    }
    Ok(())
}

/// The unit of a sample.
fn unit(fields: &Fields<'_>) -> Result<Option<String>, ParseError> {
    let unit = fields.optional_text("unit")?;
    if unit.as_ref().is_some_and(|unit| unit.len() > MAX_UNIT_BYTES) {
        return Err(fields.invalid("unit", format!("is longer than {MAX_UNIT_BYTES} bytes")));
    }
    Ok(unit)
}

/// Sets the index of each sample among those of the same metric and time.
fn assign_sample_indexes(measurements: &mut [Sample]) {
    let mut counts: HashMap<(MetricName, Timestamp), u16> = HashMap::new();
    for m in measurements {
        let count = counts.entry((m.metric.clone(), m.time)).or_insert(0);
        m.sample_index = *count;
        *count += 1;
    }
}

#[cfg(test)]
mod tests;
