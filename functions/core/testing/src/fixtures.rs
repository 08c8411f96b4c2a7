//! Entities to store, and preparations of stores.

// Fixtures are test code, where clippy allows this; here it cannot recognize it.
#![allow(clippy::unwrap_used)]

use meter_domain::alert::{Alert, Severity};
use meter_domain::archive::Location;
use meter_domain::command::{Command, CommandKind, CommandStatus};
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{self, DeviceId, MessageId};
use meter_domain::message::Category;
use meter_domain::metric::MetricName;
use meter_domain::metric::Sample;
use meter_domain::rule::{Condition, Limits, MessageTemplate, Operator, Rule, Scope};
use meter_domain::segments::{IndexEntry, MessageSegment};
use meter_domain::state::{Connection, DevicePolicy, DeviceState};
use meter_domain::time::Timestamp;
use meter_store::{DeviceStore, PageRequest, QuarantineEntry, StateStore};
use serde_json::{Map, Value, json};

use crate::contract::Ports;

pub fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// Seconds after 2026-01-01T00:00:00Z.
pub fn second(seconds: i64) -> Timestamp {
    at("2026-01-01T00:00:00Z").plus_seconds(seconds)
}

pub fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

pub fn message_id(number: usize) -> MessageId {
    MessageId::of("iot/m/telemetry", &number.to_be_bytes())
}

pub fn sample(metric: &str, time: Timestamp, sample_index: u16, value: f64) -> Sample {
    Sample {
        metric: MetricName::parse(metric).unwrap(),
        time,
        sample_index,
        value,
        unit: (metric == "voltage_dc").then(|| "V".to_owned()),
    }
}

pub fn location(object: &str) -> Location {
    Location { object: object.to_owned(), member: Some((1_000_000, 345)) }
}

/// The first segment of message `number`, with a sample at the time of the message.
pub fn first_segment(device: &str, ts: Timestamp, number: usize) -> MessageSegment {
    MessageSegment {
        device_id: id(device),
        message_id: message_id(number),
        ts,
        index_entry: Some(IndexEntry {
            category: Category::Telemetry,
            received_at: ts.plus_seconds(1),
            size: 123,
            location: location("archive/dt=2026-01-01/hh=00/x.ndjson.gz"),
        }),
        envelope_ts: ts,
        samples: vec![sample("voltage_dc", ts, 0, 1_503.5)],
        ttl: None,
    }
}

/// A continuation of message `number` in the interval that starts at `ts`.
pub fn continuation_segment(device: &str, ts: Timestamp, number: usize) -> MessageSegment {
    MessageSegment {
        index_entry: None,
        envelope_ts: ts.plus_seconds(1_000),
        ..first_segment(device, ts, number)
    }
}

pub fn quarantined(received_at: Timestamp, number: usize) -> QuarantineEntry {
    QuarantineEntry {
        message_id: message_id(number),
        topic: "iot/é/\u{1}".to_owned(),
        received_at,
        reason: "payload: is not JSON".to_owned(),
        size: number as u64,
        location: location("quarantine/dt=2026-01-01/hh=00/x.ndjson.gz"),
    }
}

pub fn device(device_id: &str, created_at: Timestamp) -> Device {
    Device {
        id: id::new_id(created_at),
        device_id: id(device_id),
        device_name: "Métro 7".to_owned(),
        device_type: Some("power_meter_dc".to_owned()),
        location: None,
        status: DeviceStatus::Active,
        metadata: object(edge_case_json()),
        config: Map::new(),
        command_key: Some("é\n".to_owned()),
        claimable: true,
        claimed_by: None,
        created_at,
        updated_at: created_at,
        revision: 0,
    }
}

/// JSON with numbers and keys that DynamoDB's document types cannot represent exactly.
pub fn edge_case_json() -> Value {
    json!({"": "", "tiny": 5e-324, "huge": -1.7e308, "exact": 0.1, "long": u64::MAX, "null": null, "é#.": [[], {}]})
}

pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("not a JSON object: {other}"),
    }
}

/// Registers a device; returns it as it is stored.
pub async fn register_device(ports: &impl Ports, device_id: &str) -> Device {
    let device = device(device_id, second(0));
    let mut state = state(ports, device_id).await;
    state.register(second(0), &DevicePolicy::default());
    ports.devices().create(&device, &state).await.unwrap();
    device
}

/// Replaces a device by its tombstone.
pub async fn delete_device(ports: &impl Ports, device: &Device) {
    let mut state = state(ports, device.device_id.as_str()).await;
    state.mark_deleted(second(0), false, &DevicePolicy::default());
    ports.devices().create_tombstone(device, &state).await.unwrap();
}

/// Returns the stored state of a device, or a new one.
pub async fn state(ports: &impl Ports, device_id: &str) -> DeviceState {
    let device_id = id(device_id);
    let mut found = ports.states().get_many(std::slice::from_ref(&device_id)).await.unwrap();
    found.remove(&device_id).unwrap_or_else(|| DeviceState::new(device_id))
}

pub fn with_connection(mut state: DeviceState, connection: Connection) -> DeviceState {
    state.presence.connection = connection;
    state
}

pub fn alert(device_id: &str, created_at: Timestamp) -> Alert {
    Alert {
        alert_id: id::new_id(created_at),
        device_id: id(device_id),
        alert_type: "general".to_owned(),
        severity: Severity::Info,
        message: String::new(),
        acknowledged: false,
        acknowledged_at: None,
        acknowledged_by: None,
        resolved_at: None,
        created_at,
        rule_id: None,
    }
}

/// A rule with numbers that DynamoDB's number type cannot represent.
pub fn rule(created_at: Timestamp) -> Rule {
    Rule {
        rule_id: id::new_id(created_at),
        name: "é\n".to_owned(),
        enabled: true,
        scope: Scope::DeviceType("power_meter_dc".to_owned()),
        metric: MetricName::parse("voltage_dc").unwrap(),
        condition: Condition::RateOfChange(
            Limits::range(Operator::Outside, (-1.7e308, 0.1), Some((5e-324, 0.1))).unwrap(),
        ),
        for_s: 60,
        severity: Severity::Critical,
        message: Some(MessageTemplate::parse("{{}} {value}").unwrap()),
        notify: true,
        created_at,
        updated_at: created_at,
        version: 1,
    }
}

pub fn command(device_id: &str, cmd: CommandKind, created_at: Timestamp) -> Command {
    Command {
        cmd_id: id::new_id(created_at),
        device_id: id(device_id),
        cmd,
        params: Map::new(),
        status: CommandStatus::Pending,
        ack_detail: None,
        created_at,
        published_at: None,
        acked_at: None,
        expires_at: created_at.plus_seconds(300),
        ota: None,
    }
}

/// A request for the first page.
pub fn first(limit: usize) -> PageRequest {
    PageRequest { limit, after: None }
}

/// Reads all pages of a list.
macro_rules! collect_pages {
    ($limit:expr, |$request:ident| $page:expr) => {{
        let mut all = Vec::new();
        let mut $request = $crate::fixtures::first($limit);
        loop {
            let page = $page.await.unwrap();
            assert!(page.items.len() <= $limit);
            all.extend(page.items);
            match page.next {
                Some(next) => $request.after = Some(next),
                None => break all,
            }
        }
    }};
}
pub(crate) use collect_pages;
