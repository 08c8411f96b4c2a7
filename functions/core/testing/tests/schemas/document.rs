//! Tables and examples of docs/protocol.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::LazyLock;

use meter_domain::command;
use meter_domain::message::{self, Body};
use meter_domain::metric::KNOWN_METRICS;
use serde_json::{Map, Value, json};

use super::{
    BEYOND_SCHEMA, DEVICE, NAMES, NOT_IN_SCHEMA, at, errors, parse, parse_at, root, schema_of,
    topic_of, with,
};

static PROTOCOL: LazyLock<String> =
    LazyLock::new(|| fs::read_to_string(root().join("docs/protocol.md")).unwrap());

/// The lines below a heading of docs/protocol.md, up to the next heading.
fn section(heading: &str) -> impl Iterator<Item = &'static str> {
    let mut lines =
        PROTOCOL.lines().skip_while(move |line| line.trim_start_matches('#').trim() != heading);
    assert!(lines.next().is_some(), "no section {heading:?}");
    lines.take_while(|line| !line.starts_with('#'))
}

/// The inline code in the last column of the tables below a heading.
fn last_column(heading: &str) -> BTreeSet<&'static str> {
    let rows = section(heading).filter(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn document_lists_the_differences_between_schemas_and_parser() {
    let names = |list: &[(&'static str, &str)]| list.iter().map(|(name, _)| *name).collect();
    assert_eq!(last_column("Accepted beyond the schema"), names(&BEYOND_SCHEMA));
    assert_eq!(last_column("Rules outside the schema"), names(&NOT_IN_SCHEMA));
}

#[test]
fn document_lists_the_known_metrics() {
    for known in &KNOWN_METRICS {
        let unit = if known.unit.is_empty() { "none" } else { known.unit };
        let row = format!("| `{}` | {unit} | {} to {} |", known.name, known.min, known.max);
        let is_listed = section("Known metrics").any(|line| line.starts_with(&row));
        assert!(is_listed, "{row}");
    }
}

/// An example of docs/protocol.md: a fence ```` ```json schema=… topic=… ```` and its content.
struct Example {
    marks: BTreeMap<&'static str, &'static str>,
    text: String,
}

fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    let mut lines = PROTOCOL.lines();
    while let Some(line) = lines.next() {
        let Some(marks) = line.strip_prefix("```json ") else {
            assert_ne!(line, "```json", "an example without schema and topic is not checked");
            continue;
        };
        let marks = marks.split(' ').map(|mark| mark.split_once('=').unwrap()).collect();
        let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        examples.push(Example { marks, text: text.join("\n") });
    }
    examples
}

#[test]
fn document_examples_validate_and_parse_as_described() {
    let mut seen = BTreeSet::new();
    for Example { marks, text } in examples() {
        let value: Value = serde_json::from_str(&text).unwrap();
        let (schema, topic) = (marks["schema"], marks["topic"]);
        seen.insert(schema);
        assert_eq!(errors(schema, &value), [""; 0], "{text}");
        if schema == "command" {
            assert_eq!(topic, format!("iot/{DEVICE}/command"));
            if let Some(key) = marks.get("key") {
                let mut unsigned = value.clone();
                let sig = unsigned.as_object_mut().unwrap().remove("sig").unwrap();
                assert_eq!(sig, command::signature(key, &unsigned));
                let canonical = serde_json_canonicalizer::to_string(&unsigned).unwrap();
                assert!(PROTOCOL.contains(&canonical), "{canonical}");
            }
            continue;
        }
        let message = parse_at(topic, text.as_bytes(), at("2026-03-01T12:00:10Z")).unwrap();
        assert_eq!(schema_of(topic, &value), Some(schema));
        let points = match &message.body {
            Body::Telemetry(measurements) => Some(measurements.len().to_string()),
            _ => None,
        };
        assert_eq!(marks.get("points").copied(), points.as_deref(), "{text}");
        if let Some(mid) = marks.get("message_id") {
            assert_eq!(*mid, message.message_id.to_string());
        }
    }
    assert_eq!(seen, BTreeSet::from(NAMES));
}

/// Quarantined messages and the reason for each.
fn rejected() -> Vec<(&'static str, Value, &'static str)> {
    let numbers: Map<_, _> = (0..201).map(|i| (format!("m{i}"), json!(1))).collect();
    let mut rejected = vec![
        ("telemetry-v2", json!([]), "payload: is not a JSON object"),
        ("hello", json!({}), "v: must be 2 on this topic: version 1 has telemetry only"),
        ("telemetry-v1", Value::Object(numbers), "payload: has 201 numeric fields, more than 200"),
    ];
    let fields = INVALID_FIELDS.map(|(schema, field, value, reason)| {
        let value: Value = serde_json::from_str(value).unwrap();
        (schema, with(schema, json!({field: value})), reason)
    });
    let samples = INVALID_SAMPLES.map(|(field, value, reason)| {
        let mut sample = json!({"type": "x", "val": 1});
        sample[field] = serde_json::from_str(value).unwrap();
        ("telemetry-v2", with("telemetry-v2", json!({"measurements": [sample]})), reason)
    });
    let long = with("command_ack", json!({"detail": "x".repeat(1_025)}));
    rejected.push(("command_ack", long, "detail: is longer than 1024 bytes"));
    rejected.into_iter().chain(fields).chain(samples).collect()
}

/// Schema, field and invalid JSON value, and the reason for quarantine.
#[rustfmt::skip]
const INVALID_FIELDS: [(&str, &str, &str, &str); 20] = [
    ("telemetry-v2", "v", "3", "v: must be 1 or 2"),
    ("hello", "device_id", r#""x""#, "device_id: does not match the topic"),
    ("hello", "seq", "null", "seq: is missing"),
    ("hello", "device_id", "1", "device_id: must be a string"),
    ("hello", "ts", r#""now""#, "ts: is not an RFC 3339 date and time in the years 0001 to 9999"),
    ("hello", "ts", r#""2026-03-02T12:00:11Z""#, "ts: is more than 24 h ahead of the time of receipt"),
    ("hello", "seq", "-1", "seq: must be an integer from 0 to 4294967295"),
    ("hello", "boot", "1.5", "boot: must be an integer or a string of 1 to 64 bytes"),
    ("hello", "msg_type", r#""status""#, "msg_type: must be hello on this topic"),
    ("telemetry-v2", "measurements", "1", "measurements: must be an array"),
    ("telemetry-v2", "measurements", "[]", "measurements: must have 1 to 200 entries, not 0"),
    ("telemetry-v2", "measurements", "[1]", "measurements[0]: must be an object"),
    ("telemetry-v1", "a b", "1", "a b: must be 1 to 64 of A-Z a-z 0-9 _ . -"),
    ("hello", "fw_version", r#""1.2""#, "fw_version: must be a semantic version: unexpected end of input while parsing minor version number"),
    ("hello", "uptime_s", "-1", "uptime_s: must be at least 0"),
    ("hello", "buf_usage_pct", "101", "buf_usage_pct: must be from 0 to 100"),
    ("status", "status", r#""away""#, "status: must be one of online, offline"),
    ("command_ack", "cmd_id", r#""7""#, "cmd_id: must be a UUID"),
    ("command_ack", "result", r#""ok""#, "result: must be one of accepted, rejected, error, unsupported"),
    ("ota_status", "ota_state", r#""done""#, "ota_state: must be one of downloading, verifying, applying, success, failed"),
];

/// Field of a sample and invalid JSON value, and the reason for quarantine.
#[rustfmt::skip]
const INVALID_SAMPLES: [(&str, &str, &str); 4] = [
    ("type", r#""a b""#, "measurements[0].type: must be 1 to 64 of A-Z a-z 0-9 _ . -"),
    ("val", r#""1""#, "measurements[0].val: must be a finite number"),
    ("unit", r#""xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx""#, "measurements[0].unit: is longer than 32 bytes"),
    ("ts", r#""2026-03-02T12:00:11Z""#, "measurements[0].ts: is more than 24 h ahead of the time of receipt"),
];

#[test]
fn document_lists_the_reasons_for_quarantine() {
    let is_listed = |reason: &str| {
        section("Quarantined messages").any(|line| line.contains(&format!("`{reason}`")))
    };
    for (schema, value, reason) in rejected() {
        let message = parse(&topic_of(schema), &value);
        assert_eq!(message.unwrap_err(), reason);
        assert!(is_listed(reason), "{reason}");
    }
    let received_at = at("2026-03-01T12:00:10Z");
    let large = vec![b' '; message::MAX_PAYLOAD_BYTES + 1];
    for (topic, payload, reason) in [
        (
            "iot/x/other",
            "{}".as_bytes(),
            "topic: is not iot/{device_id}/telemetry, hello, status, command/ack or ota/status",
        ),
        ("iot/a.b/hello", b"{}", "topic: the device id must be 1 to 128 of A-Z a-z 0-9 _ : -"),
        ("iot/x/hello", &large, "payload: is 131073 bytes, more than 131072"),
        (
            "iot/x/hello",
            b"{",
            "payload: is not JSON: EOF while parsing an object at line 1 column 1",
        ),
    ] {
        assert_eq!(parse_at(topic, payload, received_at).unwrap_err(), reason);
        assert!(is_listed(reason), "{reason}");
    }
    assert!(is_listed(&message::ParseError::UnregisteredDevice.to_string()));
}
