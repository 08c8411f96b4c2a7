//! MQTT messages: topics and envelope version 2 (docs/protocol.md).

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::command::AckResult;
use crate::train::Reading;

/// The maximum number of measurements in a telemetry message.
pub const MAX_SAMPLES: usize = 200;

/// A message that is ready to be published, QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The kind, which determines the topic.
    pub kind: Kind,
    /// The bytes, which a repeated publish does not change.
    pub payload: Bytes,
}

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Measurements.
    Telemetry,
    /// A heartbeat.
    Hello,
    /// Online or offline.
    Status,
    /// The acknowledgement of a command.
    CommandAck,
    /// Progress of a firmware upgrade.
    OtaStatus,
}

impl Kind {
    /// `msg_type` of the envelope.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Hello => "hello",
            Self::Status => "status",
            Self::CommandAck => "command_ack",
            Self::OtaStatus => "ota_status",
        }
    }

    /// The topic on which a device publishes it.
    pub fn topic(self, device_id: &str) -> String {
        let suffix = match self {
            Self::Telemetry => "telemetry",
            Self::Hello => "hello",
            Self::Status => "status",
            Self::CommandAck => "command/ack",
            Self::OtaStatus => "ota/status",
        };
        format!("iot/{device_id}/{suffix}")
    }
}

/// The topic of commands to a device.
pub fn command_topic(device_id: &str) -> String {
    format!("iot/{device_id}/command")
}

/// The envelope of every body.
#[derive(Debug, Clone, Serialize)]
pub struct Envelope<'a> {
    v: u8,
    device_id: &'a str,
    ts: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u32>,
    boot: &'a str,
    msg_type: &'static str,
    #[serde(flatten)]
    body: Body<'a>,
}

/// The body of a message.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Body<'a> {
    /// See [`Kind::Telemetry`].
    Telemetry {
        /// 1 to [`MAX_SAMPLES`] samples.
        measurements: &'a [Sample],
    },
    /// See [`Kind::Hello`].
    Hello(Hello<'a>),
    /// See [`Kind::Status`].
    Status {
        /// Online or offline.
        status: Presence,
        /// The id of the connection.
        conn_id: &'a str,
    },
    /// See [`Kind::CommandAck`].
    CommandAck {
        /// The acknowledged command.
        cmd_id: Uuid,
        /// The result.
        result: AckResult,
        /// The reason of a refusal.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'a str>,
    },
    /// See [`Kind::OtaStatus`].
    OtaStatus {
        /// The command of the upgrade.
        cmd_id: Uuid,
        /// The state of the upgrade.
        ota_state: &'static str,
        /// The progress within the state, 0 to 100.
        #[serde(skip_serializing_if = "Option::is_none")]
        progress_pct: Option<u8>,
        /// The version to install.
        fw_version_target: &'a semver::Version,
        /// The reason of a failure.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'a str>,
    },
}

/// One sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    ts: Timestamp,
    r#type: &'static str,
    val: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
}

/// A heartbeat.
#[derive(Debug, Clone, Serialize)]
pub struct Hello<'a> {
    /// The running firmware version.
    pub fw_version: &'a semver::Version,
    /// Time since power-on, s.
    pub uptime_s: u64,
    /// Number of connections since power-on.
    pub broker_connections: u64,
    /// Usage of the send buffer, 0 to 100.
    pub buf_usage_pct: u8,
    /// Temperature inside the case, °C.
    pub temp_internal: f64,
}

/// Whether a device is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// Connected.
    Online,
    /// Disconnected, published by the device or as its last will.
    Offline,
}

impl Sample {
    /// A reading at an instant.
    pub fn new(ts: Timestamp, reading: Reading) -> Self {
        let Reading { quantity, value } = reading;
        Self { ts, r#type: quantity.name(), val: value, unit: quantity.unit() }
    }
}

impl Body<'_> {
    fn kind(&self) -> Kind {
        match self {
            Self::Telemetry { .. } => Kind::Telemetry,
            Self::Hello(_) => Kind::Hello,
            Self::Status { .. } => Kind::Status,
            Self::CommandAck { .. } => Kind::CommandAck,
            Self::OtaStatus { .. } => Kind::OtaStatus,
        }
    }
}

/// Encodes a body in its envelope. `seq` is `None` in `status` only: the bytes of a last will are
/// fixed when the device connects, so it cannot be counted.
pub fn encode(
    device_id: &str,
    boot: &str,
    seq: Option<u32>,
    ts: Timestamp,
    body: Body<'_>,
) -> Message {
    let kind = body.kind();
    let envelope = Envelope { v: 2, device_id, ts, seq, boot, msg_type: kind.as_str(), body };
    // Keys are strings and numbers are finite, so serialization cannot fail.
    let payload = serde_json::to_vec(&envelope).unwrap_or_default();
    Message { kind, payload: Bytes::from(payload) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::train::Quantity;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn json_of(message: &Message) -> Value {
        serde_json::from_slice(&message.payload).unwrap()
    }

    #[test]
    fn telemetry_is_encoded_with_envelope_and_measurements() {
        let ts = at("2026-01-01T12:00:00.5Z");
        let measurements = [
            Sample::new(ts, Reading { quantity: Quantity::CurrentDc, value: -12.5 }),
            Sample::new(ts, Reading { quantity: Quantity::PowerFactor, value: 0.98 }),
        ];
        let body = Body::Telemetry { measurements: &measurements };
        let message = encode("dc-meter-001", "a1", Some(u32::MAX), ts, body);
        assert_eq!(message.kind.topic("dc-meter-001"), "iot/dc-meter-001/telemetry");
        assert_eq!(
            json_of(&message),
            json!({
                "v": 2, "device_id": "dc-meter-001", "ts": "2026-01-01T12:00:00.5Z",
                "seq": 4_294_967_295_u32, "boot": "a1", "msg_type": "telemetry",
                "measurements": [
                    {"ts": "2026-01-01T12:00:00.5Z", "type": "current_dc", "val": -12.5, "unit": "A"},
                    {"ts": "2026-01-01T12:00:00.5Z", "type": "pf", "val": 0.98},
                ],
            })
        );
    }

    #[test]
    fn status_contains_conn_id_and_no_seq() {
        let body = Body::Status { status: Presence::Offline, conn_id: "c9" };
        let message = json_of(&encode("x", "a1", None, at("2026-01-01T12:00:00Z"), body));
        assert_eq!(message["status"], "offline");
        assert_eq!(message["conn_id"], "c9");
        assert_eq!(message["msg_type"], "status");
        assert!(message.get("seq").is_none());
    }

    #[test]
    fn acknowledgement_without_reason_has_no_detail() {
        let cmd_id = Uuid::from_u128(7);
        let ack = |detail| Body::CommandAck { cmd_id, result: AckResult::Rejected, detail };
        let ts = at("2026-01-01T12:00:00Z");
        let message = json_of(&encode("x", "a1", Some(0), ts, ack(None)));
        assert!(message.get("detail").is_none());
        let message = json_of(&encode("x", "a1", Some(0), ts, ack(Some("why"))));
        assert_eq!(message["detail"], "why");
        assert_eq!(message["result"], "rejected");
        assert_eq!(message["cmd_id"], "00000000-0000-0000-0000-000000000007");
    }
}
