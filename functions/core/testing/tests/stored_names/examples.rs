//! One example of each stored value, with every optional field set.

use meter_domain::alert::{Alert, Severity};
use meter_domain::archive::Location;
use meter_domain::command::{Command, CommandKind, CommandStatus, Ota, OtaState};
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{CertificateId, DeviceId, MessageId};
use meter_domain::message::{Message, ReceivedMessage, parse};
use meter_domain::metric::{DevicePoint, MetricName, Point, PointKey, Precedence, Sample};
use meter_domain::rule::{Condition, Limits, MessageTemplate, Operator, Rule, Scope};
use meter_domain::time::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Seconds after the start of 2026.
pub(crate) fn second(seconds: i64) -> Timestamp {
    Timestamp::parse("2026-01-01T00:00:00Z").unwrap().plus_seconds(seconds)
}

pub(crate) fn device_id() -> DeviceId {
    DeviceId::parse("m").unwrap()
}

pub(crate) fn message_id() -> MessageId {
    MessageId::of("iot/m/telemetry", b"1")
}

pub(crate) fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub(crate) fn metric(name: &str) -> MetricName {
    MetricName::parse(name).unwrap()
}

fn object(name: &str) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), json!(1))])
}

pub(crate) fn device() -> Device {
    Device {
        id: uuid(1),
        device_id: device_id(),
        device_name: "name".to_owned(),
        device_type: Some("power_meter_dc".to_owned()),
        location: Some("depot".to_owned()),
        status: DeviceStatus::Active,
        metadata: object("metadata_field"),
        config: object("config_field"),
        command_key: Some("key".to_owned()),
        claimable: true,
        claimed_by: Some(CertificateId::try_from("0a".repeat(32)).unwrap()),
        created_at: second(0),
        updated_at: second(1),
        revision: 2,
    }
}

pub(crate) fn alert() -> Alert {
    Alert {
        alert_id: uuid(2),
        device_id: device_id(),
        alert_type: "general".to_owned(),
        severity: Severity::Info,
        message: "text".to_owned(),
        acknowledged: true,
        acknowledged_at: Some(second(2)),
        acknowledged_by: Some("user".to_owned()),
        resolved_at: Some(second(3)),
        created_at: second(1),
        rule_id: Some(uuid(3)),
    }
}

pub(crate) fn rule() -> Rule {
    Rule {
        rule_id: uuid(3),
        name: "rule".to_owned(),
        enabled: true,
        scope: Scope::DeviceType("power_meter_dc".to_owned()),
        metric: metric("voltage_dc"),
        condition: Condition::RateOfChange(
            Limits::range(Operator::Outside, (0.0, 2.0), Some((0.5, 1.5))).unwrap(),
        ),
        for_s: 60,
        severity: Severity::Critical,
        message: Some(MessageTemplate::parse("{value}").unwrap()),
        notify: true,
        created_at: second(0),
        updated_at: second(1),
        version: 1,
    }
}

pub(crate) fn ota() -> Ota {
    Ota {
        state: OtaState::Downloading,
        progress_pct: Some(50.0),
        fw_version_target: Some("2.0.0".to_owned()),
        detail: Some("text".to_owned()),
        updated_at: second(4),
    }
}

pub(crate) fn command(cmd: CommandKind) -> Command {
    Command {
        cmd_id: uuid(4),
        device_id: device_id(),
        cmd,
        params: object("parameter"),
        status: CommandStatus::Pending,
        ack_detail: Some("text".to_owned()),
        created_at: second(0),
        published_at: Some(second(1)),
        acked_at: Some(second(2)),
        expires_at: second(300),
        ota: Some(ota()),
    }
}

pub(crate) fn sample(name: &str, sample_index: u16) -> Sample {
    Sample {
        metric: metric(name),
        time: second(1),
        sample_index,
        value: 1.5,
        unit: Some("V".to_owned()),
    }
}

pub(crate) fn location() -> Location {
    Location { object: "archive/x.ndjson.gz".to_owned(), member: Some((10, 20)) }
}

pub(crate) fn point(name: &str, unit: Option<&str>) -> DevicePoint {
    let key = PointKey { time: second(1), metric: metric(name), sample_index: 1 };
    let precedence = Precedence { ts: second(1), message_id: message_id() };
    let point = Point { key, value: 1.5, unit: unit.map(str::to_owned), precedence };
    DevicePoint { device_id: device_id(), point }
}

/// A message of a suffix of `iot/m/`, with the fields of its type.
pub(crate) fn message(suffix: &str, fields: Value) -> Message {
    let mut payload = json!({"v": 2, "device_id": "m", "ts": second(1), "seq": 1, "boot": 1,
        "msg_type": suffix.replace('/', "_")});
    for (name, value) in fields.as_object().unwrap() {
        payload[name] = value.clone();
    }
    let received = ReceivedMessage {
        topic: format!("iot/m/{suffix}"),
        payload: payload.to_string().into(),
        received_at: second(2),
    };
    parse(&received).unwrap()
}
