//! Messages: what was received, what it says, or why it cannot be read.
//!
//! [`parse`] is the only way in. It never panics, never loses bytes (the caller keeps the
//! [`ReceivedMessage`]), and says which field is wrong.

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
use crate::metric::{MetricName, Sample};
use crate::time::Timestamp;

/// The largest payload that IoT Core takes, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 128 * 1024;

/// The most measurements in one message.
pub const MAX_MEASUREMENTS: usize = 200;

/// The longest unit, in bytes.
pub const MAX_UNIT_BYTES: usize = 32;

/// How far ahead of receipt a time may lie, in seconds.
pub const MAX_AHEAD_S: i64 = 24 * 3600;

/// A message as the broker handed it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// The full topic.
    pub topic: String,
    /// The bytes, whatever they are.
    pub payload: Bytes,
    /// The broker's clock, to the millisecond.
    pub received_at: Timestamp,
}

/// What a message is about; also the folder of its file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Measurements.
    Telemetry,
    /// A heartbeat.
    Hello,
    /// Online or offline.
    Status,
    /// The answer to a command.
    CommandAck,
    /// Progress of a firmware upgrade.
    OtaStatus,
    /// What IoT Core itself says of a client's connection.
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

    /// The word in `msg_type` and in file names.
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

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.as_str() == text)
    }

    /// What follows the device id in the topic; none for what no device publishes.
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

/// A message that could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its identity.
    pub message_id: MessageId,
    /// From the topic, which is the authority.
    pub device_id: DeviceId,
    /// From the topic.
    pub category: Category,
    /// When the device made it; for version 1 without a time, when it was received.
    pub ts: Timestamp,
    /// The device's count of its messages; none in version 1 and in `status`.
    pub seq: Option<u32>,
    /// Which power-on, as text: a number and a string of the same digits are one.
    pub boot: Option<String>,
    /// What it says.
    pub body: Body,
    /// What was received.
    pub received: ReceivedMessage,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// 0 (version 1 only) to [`MAX_MEASUREMENTS`] samples in the order of the message, then what follows
    /// from them (active, apparent and reactive power).
    Telemetry(Vec<Sample>),
    /// A heartbeat.
    Hello(Hello),
    /// Online or offline, and which connection says so.
    Status {
        /// Whether it came or went.
        online: bool,
        /// The connection, when the device names it.
        conn_id: Option<String>,
    },
    /// IoT Core saw a connection of the client begin or end.
    Lifecycle {
        /// Whether it began.
        connected: bool,
        /// Grows from connection to connection of the client; see `versionNumber` in IoT Core's events.
        version: u64,
    },
    /// The answer to a command.
    CommandAck {
        /// Which command.
        cmd_id: Uuid,
        /// How it went.
        result: AckResult,
        /// For a person.
        detail: Option<String>,
    },
    /// Progress of a firmware upgrade.
    OtaStatus {
        /// Of which command.
        cmd_id: Uuid,
        /// How far.
        ota_state: OtaState,
        /// 0 to 100.
        progress_pct: Option<f64>,
        /// Where to.
        fw_version_target: Option<String>,
        /// For a person.
        detail: Option<String>,
    },
}

/// What a heartbeat tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The firmware that runs, a semantic version.
    pub fw_version: String,
    /// Seconds since power-on.
    pub uptime_s: f64,
    /// How many brokers it is connected to.
    pub broker_connections: u64,
    /// How full its send buffer is, 0 to 100.
    pub buf_usage_pct: f64,
    /// Inside the case, °C.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temp_internal: Option<f64>,
}

/// Why a message cannot be read: it goes to quarantine with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The topic is none of the protocol's.
    #[error("topic: is not iot/{{device_id}}/telemetry, hello, status, command/ack or ota/status")]
    UnknownTopic,
    /// The topic's device id is outside its alphabet.
    #[error("topic: the device id {0}")]
    InvalidDeviceId(#[from] crate::id::InvalidDeviceId),
    /// Larger than IoT Core would have let through.
    #[error("payload: {0} bytes, more than {MAX_PAYLOAD_BYTES}")]
    TooLarge(usize),
    /// Not JSON; the reason names line and column.
    #[error("payload: is not JSON: {0}")]
    NotJson(String),
    /// JSON, but no object.
    #[error("payload: is not a JSON object")]
    NotAnObject,
    /// Not what an IoT rule hands over, so there is no telling what it was.
    #[error("delivery: {0}")]
    MalformedDelivery(String),
    /// Readable, but from a device that is not in the registry, where that is required.
    #[error("device_id: is not registered")]
    UnregisteredDevice,
    /// A valid message that a store can never hold, with the error of the store.
    #[error("cannot be stored: {0}")]
    NotStorable(String),
    /// A field that is wrong or missing.
    #[error("{field}: {reason}")]
    InvalidField {
        /// The path of the field (`measurements[3].val`).
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ParseError {
    fn invalid_field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidField { field: field.into(), reason: reason.into() }
    }
}

/// Splits a topic into the device and the category.
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

/// Reads a message, or says why it cannot be read.
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

/// The topic is the authority; a payload that says otherwise is stored under neither name.
fn check_device_id(fields: &Fields<'_>, device_id: &DeviceId) -> Result<(), ParseError> {
    if fields.text("device_id")? == device_id.as_str() {
        Ok(())
    } else {
        Err(fields.invalid("device_id", "is not the topic's"))
    }
}

/// A clock may be late by any amount, but not ahead by more than a day.
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

/// The unit of a measurement: a short text.
fn unit(fields: &Fields<'_>) -> Result<Option<String>, ParseError> {
    let unit = fields.optional_text("unit")?;
    if unit.as_ref().is_some_and(|unit| unit.len() > MAX_UNIT_BYTES) {
        return Err(fields.invalid("unit", format!("is longer than {MAX_UNIT_BYTES} bytes")));
    }
    Ok(unit)
}

/// Numbers the samples of one metric and time in the order of the message.
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
