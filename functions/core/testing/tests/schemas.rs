//! Holds the JSON Schemas in `infra/schemas` and the tables and examples in `docs/protocol.md`
//! against the parser.
//!
//! A schema describes what a device should send. The parser accepts more than that; each difference
//! that the corpus contains is listed in [`BEYOND_SCHEMA`] and [`NOT_IN_SCHEMA`], and in the
//! document.

#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jsonschema::Validator;
use meter_domain::command::{self, Command, CommandKind, CommandStatus};
use meter_domain::id::DeviceId;
use meter_domain::message::{self, Body, Category, Message, ReceivedMessage};
use meter_domain::metric::KNOWN_METRICS;
use meter_domain::time::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use uuid::Uuid;

const NAMES: [&str; 7] =
    ["command", "command_ack", "hello", "ota_status", "status", "telemetry-v1", "telemetry-v2"];

/// Files of the corpus with a message that the parser accepts and the schema rejects.
const BEYOND_SCHEMA: [(&str, &str); 10] = [
    ("batch", "a record without device_id and timestamp"),
    ("blanks_around", "no device_id and no timestamp"),
    ("raw_value_token", "no device_id and no timestamp"),
    ("raw_value_token_inside", "no device_id and no timestamp"),
    ("telemetry_across_intervals", "a time in the year 1"),
    ("telemetry_numbers", "a negative boot"),
    ("telemetry_twice_a_key", "a repeated key, and a time without an offset"),
    ("v1", "a time without an offset"),
    ("v1_no_number", "no timestamp and no sample"),
    ("v1_untimed", "no device_id and no timestamp"),
];

/// Files of the corpus with a message that the schema accepts and the parser rejects: their rules
/// depend on the topic or on the time of receipt.
const NOT_IN_SCHEMA: [(&str, &str); 2] = [
    ("telemetry_ahead", "ts: is more than 24 h ahead of the time of receipt"),
    ("telemetry_of_another_device", "device_id: is not the topic's"),
];

const DEVICE: &str = "dc-meter-001";

static SCHEMAS: LazyLock<BTreeMap<&'static str, (Value, Validator)>> = LazyLock::new(|| {
    let load = |name| {
        let text = fs::read_to_string(schemas().join(format!("{name}.schema.json"))).unwrap();
        let schema: Value = serde_json::from_str(&text).unwrap();
        let validator = jsonschema::options().should_validate_formats(true).build(&schema);
        (name, (schema, validator.unwrap()))
    };
    NAMES.into_iter().map(load).collect()
});

static PROTOCOL: LazyLock<String> =
    LazyLock::new(|| fs::read_to_string(root().join("docs/protocol.md")).unwrap());

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn schemas() -> PathBuf {
    root().join("infra/schemas")
}

fn errors(schema: &str, value: &Value) -> Vec<String> {
    let (_, validator) = &SCHEMAS[schema];
    validator.iter_errors(value).map(|error| error.to_string()).collect()
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn parse_at(topic: &str, payload: &[u8], received_at: Timestamp) -> Result<Message, String> {
    let received =
        ReceivedMessage { topic: topic.to_owned(), payload: payload.to_vec().into(), received_at };
    message::parse(&received).map_err(|error| error.to_string())
}

fn parse(topic: &str, payload: &Value) -> Result<Message, String> {
    parse_at(topic, payload.to_string().as_bytes(), at("2026-03-01T12:00:10Z"))
}

/// The schema of a message that a device publishes; none for a topic that is not a device's.
fn schema_of(topic: &str, payload: &Value) -> Option<&'static str> {
    let (_, category) = message::parse_topic(topic).ok()?;
    match category {
        Category::Telemetry if payload["v"] == 2 => Some("telemetry-v2"),
        Category::Telemetry => Some("telemetry-v1"),
        Category::Hello => Some("hello"),
        Category::Status => Some("status"),
        Category::CommandAck => Some("command_ack"),
        Category::OtaStatus => Some("ota_status"),
        Category::Lifecycle => None,
    }
}

fn topic_of(schema: &str) -> String {
    let suffix = match schema {
        "telemetry-v1" | "telemetry-v2" => "telemetry",
        "command_ack" => "command/ack",
        "ota_status" => "ota/status",
        other => other,
    };
    format!("iot/{DEVICE}/{suffix}")
}

#[test]
fn schemas_are_valid_2020_12_schemas() {
    let files = fs::read_dir(schemas()).unwrap().map(|f| f.unwrap().file_name());
    let files: BTreeSet<_> = files.map(|name| name.into_string().unwrap()).collect();
    assert_eq!(files, NAMES.iter().map(|name| format!("{name}.schema.json")).collect());
    for (name, (schema, _)) in &*SCHEMAS {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["$id"], format!("urn:iot-meter:schema:{name}"));
        if let Err(error) = jsonschema::meta::validate(schema) {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn envelope_is_the_same_in_each_version_2_schema() {
    let envelope = |name: &str| {
        let properties = &SCHEMAS[name].0["properties"];
        ["v", "device_id", "ts", "seq", "boot"].map(|field| properties[field].clone())
    };
    let expected = envelope("telemetry-v2");
    for name in ["hello", "status", "command_ack", "ota_status"] {
        assert_eq!(envelope(name), expected, "{name}");
    }
}

#[test]
fn schema_examples_validate_and_parse() {
    for (name, (schema, _)) in &*SCHEMAS {
        let examples = schema["examples"].as_array().unwrap();
        assert!(!examples.is_empty());
        for example in examples {
            assert_eq!(errors(name, example), [""; 0], "{name}: {example}");
            if *name != "command" {
                assert_eq!(schema_of(&topic_of(name), example), Some(*name));
                parse(&topic_of(name), example).unwrap();
            }
        }
    }
}

#[test]
fn known_metrics_have_their_unit_in_the_schema() {
    let example = |metric: &str, unit: &str| {
        json!({"v": 2, "device_id": DEVICE, "ts": "2026-03-01T12:00:00Z", "seq": 0, "msg_type": "telemetry",
               "measurements": [{"type": metric, "val": 1, "unit": unit}]})
    };
    for known in &KNOWN_METRICS {
        assert_eq!(errors("telemetry-v2", &example(known.name, known.unit)), [""; 0]);
        assert_ne!(errors("telemetry-v2", &example(known.name, "furlong")), [""; 0]);
    }
    assert_eq!(errors("telemetry-v2", &example("distance", "furlong")), [""; 0]);
}

/// The messages of the corpus: file, topic, payload and time of receipt, as the fuzz target reads
/// them.
fn corpus() -> Vec<(String, String, Vec<u8>, Timestamp)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../domain/fuzz/corpus/message");
    let mut messages = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        for (index, record) in (0..).zip(bytes.split(|byte| *byte == 0x1E)) {
            let end = record.iter().position(|byte| *byte == b'\n').unwrap_or(record.len());
            let (topic, payload) = record.split_at(end);
            let topic = String::from_utf8_lossy(topic).into_owned();
            let payload = payload.get(1..).unwrap_or_default().to_vec();
            let received_at = at("2026-03-01T12:00:00Z").plus_seconds(index * 1_500);
            messages.push((name.clone(), topic, payload, received_at));
        }
    }
    assert!(messages.len() > 40);
    messages
}

#[test]
fn schemas_and_parser_agree_on_the_corpus_except_for_the_listed_files() {
    let mut beyond = BTreeMap::new();
    let mut rejected = BTreeMap::new();
    for (name, topic, payload, received_at) in corpus() {
        let Ok(value) = serde_json::from_slice(&payload) else { continue };
        let Some(schema) = schema_of(&topic, &value) else { continue };
        let invalid = errors(schema, &value);
        match parse_at(&topic, &payload, received_at) {
            Ok(_) if !invalid.is_empty() => drop(beyond.insert(name, invalid)),
            Err(reason) if invalid.is_empty() => drop(rejected.insert(name, reason)),
            _ => {}
        }
    }
    let expected: BTreeSet<_> = BEYOND_SCHEMA.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(beyond.keys().cloned().collect::<BTreeSet<_>>(), expected, "{beyond:#?}");
    let expected = NOT_IN_SCHEMA.map(|(name, reason)| (name.to_owned(), reason.to_owned()));
    assert_eq!(rejected, BTreeMap::from(expected));
}

/// The lines below a heading of docs/protocol.md, up to the next heading.
fn section(heading: &str) -> impl Iterator<Item = &'static str> {
    let mut lines =
        PROTOCOL.lines().skip_while(move |line| line.trim_start_matches('#').trim() != heading);
    assert!(lines.next().is_some(), "no section {heading:?}");
    lines.take_while(|line| !line.starts_with('#'))
}

/// The words in code style in the last column of the tables below a heading.
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
fn differences_without_a_corpus_file_exist() {
    let with_time = |ts: &str| with("hello", json!({"ts": ts}));
    let unit = json!({"measurements": [{"type": "voltage_dc", "val": 1, "unit": "mV"}]});
    let braced = json!({"cmd_id": "{019ca94b-5a00-7c31-9d64-4f1d2b7c9e10}"});
    let simple = json!({"cmd_id": "019ca94b5a007c319d644f1d2b7c9e10"});
    let long = "x".repeat(1_024);
    let beyond = [
        ("hello", with_time("2026-03-01 12:00:00Z")),
        ("hello", with_time("2026-03-01T12:00Z")),
        ("hello", with("hello", json!({"boot": null}))),
        ("hello", with("hello", json!({"boot": u64::MAX}))),
        ("hello", with("hello", json!({"boot": "é"}))),
        ("hello", with("hello", json!({"fw_version": format!("1.0.0-{}", "x".repeat(1_000))}))),
        ("telemetry-v2", with("telemetry-v2", unit)),
        ("status", with("status", json!({"conn_id": long}))),
        ("command_ack", with("command_ack", braced)),
        ("command_ack", with("command_ack", simple)),
        ("command_ack", with("command_ack", json!({"detail": long}))),
        ("ota_status", with("ota_status", json!({"fw_version_target": "next"}))),
    ];
    for (schema, value) in beyond {
        assert_ne!(errors(schema, &value), [""; 0], "{value}");
        assert!(parse(&topic_of(schema), &value).is_ok(), "{value}");
    }
    let nested = |levels: usize| {
        let value = format!("{}{}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        minimal("hello").to_string().replacen('{', &format!("{{\"new\":{value},"), 1)
    };
    let rejected = [minimal("hello").to_string().replace("\"seq\":1", "\"seq\":7.0"), nested(128)];
    let parse_text =
        |text: &str| parse_at(&topic_of("hello"), text.as_bytes(), at("2026-03-01T12:00:10Z"));
    assert!(parse_text(&nested(127)).is_ok());
    for text in rejected {
        let value = serde_json::from_str::<Value>(&text);
        assert!(value.is_err() || errors("hello", &value.unwrap()).is_empty(), "{text}");
        assert!(parse_text(&text).is_err(), "{text}");
    }
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

/// An example of docs/protocol.md: a fence ```` ```json schema=… topic=… ```` and what is in it.
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

/// A valid message of each type, without the optional fields.
fn minimal(schema: &str) -> Value {
    let id = "019ca94b-5a00-7c31-9d64-4f1d2b7c9e10";
    let mut value = json!({"v": 2, "device_id": DEVICE, "ts": "2026-03-01T12:00:00Z", "seq": 1, "msg_type": schema});
    let body = match schema {
        "telemetry-v1" => {
            return json!({"device_id": DEVICE, "timestamp": "2026-03-01T12:00:00Z", "x": 1});
        }
        "telemetry-v2" => {
            json!({"msg_type": "telemetry", "measurements": [{"type": "x", "val": 1}]})
        }
        "hello" => {
            json!({"fw_version": "1.2.3", "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0})
        }
        "status" => json!({"status": "online"}),
        "command_ack" => json!({"cmd_id": id, "result": "accepted"}),
        _ => json!({"cmd_id": id, "ota_state": "downloading"}),
    };
    value.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    value
}

/// A minimal message with fields replaced.
fn with(schema: &str, fields: Value) -> Value {
    let mut value = minimal(schema);
    value.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    value
}

/// Messages that are quarantined, and the reason.
fn rejected() -> Vec<(&'static str, Value, &'static str)> {
    let sample = |fields: Value| {
        let mut sample = json!({"type": "x", "val": 1});
        sample.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        with("telemetry-v2", json!({"measurements": [sample]}))
    };
    let many: Map<_, _> = (0..201).map(|i| (format!("m{i}"), json!(1))).collect();
    let tomorrow = "2026-03-02T12:00:11Z";
    let text = |length| "x".repeat(length);
    vec![
        ("telemetry-v2", json!([]), "payload: is not a JSON object"),
        ("telemetry-v2", with("telemetry-v2", json!({"v": 3})), "v: must be 1 or 2"),
        ("hello", json!({}), "v: must be 2 on this topic: version 1 has telemetry only"),
        ("hello", with("hello", json!({"device_id": "x"})), "device_id: is not the topic's"),
        ("hello", with("hello", json!({"seq": null})), "seq: is missing"),
        ("hello", with("hello", json!({"device_id": 1})), "device_id: must be text"),
        (
            "command_ack",
            with("command_ack", json!({"detail": text(1_025)})),
            "detail: is longer than 1024 bytes",
        ),
        (
            "hello",
            with("hello", json!({"ts": "now"})),
            "ts: is not an RFC 3339 date and time in the years 0001 to 9999",
        ),
        (
            "hello",
            with("hello", json!({"ts": tomorrow})),
            "ts: is more than 24 h ahead of the time of receipt",
        ),
        (
            "hello",
            with("hello", json!({"seq": -1})),
            "seq: must be an integer from 0 to 4294967295",
        ),
        (
            "hello",
            with("hello", json!({"boot": 1.5})),
            "boot: must be an integer or a text of 1 to 64 bytes",
        ),
        (
            "hello",
            with("hello", json!({"msg_type": "status"})),
            "msg_type: must be hello on this topic",
        ),
        (
            "telemetry-v2",
            with("telemetry-v2", json!({"measurements": 1})),
            "measurements: must be an array",
        ),
        (
            "telemetry-v2",
            with("telemetry-v2", json!({"measurements": []})),
            "measurements: must have 1 to 200 entries, not 0",
        ),
        (
            "telemetry-v2",
            with("telemetry-v2", json!({"measurements": [1]})),
            "measurements[0]: must be an object",
        ),
        (
            "telemetry-v2",
            sample(json!({"type": "a b"})),
            "measurements[0].type: must be 1 to 64 of A-Z a-z 0-9 _ . -",
        ),
        (
            "telemetry-v2",
            sample(json!({"val": "1"})),
            "measurements[0].val: must be a finite number",
        ),
        (
            "telemetry-v2",
            sample(json!({"unit": text(33)})),
            "measurements[0].unit: is longer than 32 bytes",
        ),
        (
            "telemetry-v2",
            sample(json!({"ts": tomorrow})),
            "measurements[0].ts: is more than 24 h ahead of the time of receipt",
        ),
        (
            "telemetry-v1",
            with("telemetry-v1", json!({"a b": 1})),
            "a b: must be 1 to 64 of A-Z a-z 0-9 _ . -",
        ),
        ("telemetry-v1", Value::Object(many), "payload: 201 numeric fields, more than 200"),
        (
            "hello",
            with("hello", json!({"fw_version": "1.2"})),
            "fw_version: must be a semantic version: unexpected end of input while parsing minor version number",
        ),
        ("hello", with("hello", json!({"uptime_s": -1})), "uptime_s: must be at least 0"),
        (
            "hello",
            with("hello", json!({"buf_usage_pct": 101})),
            "buf_usage_pct: must be from 0 to 100",
        ),
        (
            "status",
            with("status", json!({"status": "away"})),
            "status: must be one of online, offline",
        ),
        ("command_ack", with("command_ack", json!({"cmd_id": "7"})), "cmd_id: must be a UUID"),
        (
            "command_ack",
            with("command_ack", json!({"result": "ok"})),
            "result: must be one of accepted, rejected, error, unsupported",
        ),
        (
            "ota_status",
            with("ota_status", json!({"ota_state": "done"})),
            "ota_state: must be one of downloading, verifying, applying, success, failed",
        ),
    ]
}

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
        ("iot/x/hello", &large, "payload: 131073 bytes, more than 131072"),
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

fn time() -> impl Strategy<Value = String> {
    let date = (1970..2026, 1..13, 1..29).prop_map(|(y, m, d)| format!("{y}-{m:02}-{d:02}"));
    let clock = (0..24, 0..60, 0..60).prop_map(|(h, m, s)| format!("{h:02}:{m:02}:{s:02}"));
    let offset = "Z|[+-](0[0-9]|1[0-9]|2[0-3]):[0-5][0-9]";
    (date, clock, r"(\.[0-9]{1,9})?", offset)
        .prop_map(|(date, clock, fraction, offset)| format!("{date}T{clock}{fraction}{offset}"))
}

fn measurement() -> impl Strategy<Value = Value> {
    let metric = prop_oneof![
        "[A-Za-z0-9_.-]{1,64}".prop_map(|name| (name, "Pa".to_owned())),
        (0..KNOWN_METRICS.len())
            .prop_map(|i| (KNOWN_METRICS[i].name.to_owned(), KNOWN_METRICS[i].unit.to_owned())),
    ];
    let value = prop_oneof![
        any::<f64>()
            .prop_filter("JSON has finite numbers only", |n| n.is_finite())
            .prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
    ];
    let optional = (prop::option::of(time()), any::<bool>());
    (metric, value, optional).prop_map(|((metric, unit), value, (ts, has_unit))| {
        let mut sample = json!({"type": metric, "val": value});
        if let Some(ts) = ts {
            sample["ts"] = json!(ts);
        }
        if has_unit {
            sample["unit"] = json!(unit);
        }
        sample
    })
}

fn fields(list: Vec<(&'static str, BoxedStrategy<Value>)>) -> impl Strategy<Value = Value> {
    let (names, values): (Vec<_>, Vec<_>) = list.into_iter().unzip();
    values.prop_map(move |values| {
        let present = names.iter().zip(values).filter(|(_, value)| !value.is_null());
        Value::Object(present.map(|(name, value)| ((*name).to_owned(), value)).collect())
    })
}

fn any_of<S: Strategy + 'static>(strategy: S) -> BoxedStrategy<Value>
where
    S::Value: Into<Value>,
{
    strategy.prop_map(Into::into).boxed()
}

fn maybe<S: Strategy + 'static>(strategy: S) -> BoxedStrategy<Value>
where
    S::Value: Into<Value>,
{
    prop::option::of(strategy.prop_map(Into::into)).prop_map(|v| v.unwrap_or(Value::Null)).boxed()
}

fn uuid() -> impl Strategy<Value = String> {
    any::<u128>().prop_map(|bits| Uuid::from_u128(bits).to_string())
}

const SEMVER: &str = r"(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})(-[a-z]{1,4}(\.(0|[1-9][0-9]{0,2}))?)?(\+[A-Za-z0-9-]{1,8})?";

/// Messages that the document allows: their schema and their fields.
fn valid() -> impl Strategy<Value = (&'static str, Value)> {
    let words = |words: &'static [&'static str]| any_of(prop::sample::select(words));
    let detail = || maybe("\\PC{0,256}");
    let body = move |schema: &'static str| match schema {
        "telemetry-v2" => {
            vec![("measurements", any_of(prop::collection::vec(measurement(), 1..20)))]
        }
        "hello" => vec![
            ("fw_version", any_of(SEMVER)),
            ("uptime_s", any_of(0.0..1e12)),
            ("broker_connections", any_of(any::<u32>())),
            ("buf_usage_pct", any_of(0..=100)),
            ("temp_internal", maybe(-100.0..200.0)),
        ],
        "status" => {
            vec![("status", words(&["online", "offline"])), ("conn_id", maybe("[ -~]{1,128}"))]
        }
        "command_ack" => vec![
            ("cmd_id", any_of(uuid())),
            ("result", words(&["accepted", "rejected", "error", "unsupported"])),
            ("detail", detail()),
        ],
        _ => vec![
            ("cmd_id", any_of(uuid())),
            ("ota_state", words(&["downloading", "verifying", "applying", "success", "failed"])),
            ("progress_pct", maybe(0.0..=100.0)),
            ("fw_version_target", maybe(SEMVER)),
            ("detail", detail()),
        ],
    };
    let version_2 =
        prop::sample::select(&["telemetry-v2", "hello", "status", "command_ack", "ota_status"][..]);
    let version_2 = version_2.prop_flat_map(move |schema| {
        let mut list = body(schema);
        list.push(("ts", any_of(time())));
        list.push(("boot", prop_oneof![maybe("[ -~]{1,64}"), maybe(any::<u32>())].boxed()));
        list.push(("seq", any_of(any::<u32>())));
        fields(list).prop_map(move |body| (schema, with(schema, body)))
    });
    let samples = prop::collection::btree_map("m[.][A-Za-z0-9_.-]{1,62}", -1e9..1e9, 1..20);
    let version_1 = (samples, time(), maybe("[ -~]{0,32}")).prop_map(|(samples, time, unit)| {
        let mut value = json!({"device_id": DEVICE, "timestamp": time});
        let object = value.as_object_mut().unwrap();
        for (name, sample) in samples {
            object.entry(name).or_insert(json!(sample));
        }
        if !unit.is_null() {
            object.insert("unit".to_owned(), unit);
        }
        ("telemetry-v1", value)
    });
    prop_oneof![5 => version_2, 1 => version_1]
}

/// Values near the border between valid and invalid. An integer with a fraction of zero (`7.0`) is
/// not among them: JSON Schema counts it as an integer, and the parser does not (docs/protocol.md,
/// "Rules outside the schema").
fn odd() -> impl Strategy<Value = Value> {
    let texts = [
        "",
        "0",
        "1.2.3",
        "v1.2.3",
        "1.2",
        "01.2.3",
        "1.2.3-01",
        "99999999999999999999.0.0",
        "1.2.3-99999999999999999999",
        "2026-02-29T00:00:00Z",
        "2024-02-29T00:00:00Z",
        "2026-03-01T12:00:00",
        "2026-03-01T24:00:00Z",
        "2026-03-01t12:00:00z",
        "2016-12-31T23:59:60Z",
        "2026-03-01T12:00:60Z",
        "2026-03-01T12:00:00.1234567891Z",
        "2026-03-01T12:00:00+24:00",
        "2026-03-01T12:00:00-00:00",
        "2026-03-01T12:00:00Z\n",
        "2026-03-01T12:00:00+23:59",
        "0000-01-01T00:00:00Z",
        "{019ca94b-5a00-7c31-9d64-4f1d2b7c9e10}",
        "019CA94B-5A00-7C31-9D64-4F1D2B7C9E10",
        "019ca94b5a007c319d644f1d2b7c9e10",
        "online",
        "accepted",
        "success",
        "completed",
        "hello",
        "telemetry",
        "V",
        "é",
    ];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(vec![
            0_u64,
            1,
            2,
            3,
            100,
            101,
            u64::from(u32::MAX),
            u64::from(u32::MAX) + 1,
            u64::MAX
        ])
        .prop_map(Value::from),
        prop::sample::select(vec![0.5, -0.5, 99.5, 100.5, 1e300]).prop_map(Value::from),
        prop::sample::select(texts.to_vec()).prop_map(Value::from),
        ("\\PC", 0..1_100_usize).prop_map(|(c, n)| Value::from(c.repeat(n))),
        "\\PC{0,70}".prop_map(Value::from),
        time().prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{"type": "x", "val": 1}])),
    ]
}

proptest! {
    #[test]
    fn valid_messages_pass_schema_and_parser((schema, value) in valid()) {
        prop_assert_eq!(errors(schema, &value), [""; 0]);
        let message = parse(&topic_of(schema), &value);
        prop_assert!(message.is_ok(), "{:?}", message);
    }

    #[test]
    fn messages_that_pass_the_schema_are_accepted(
        (_, mut value) in valid(), odd in odd(), field in any::<prop::sample::Index>(), is_inner in any::<bool>(), new in "[a-z. ]{1,3}",
        schema in prop::sample::select(NAMES.iter().copied().filter(|name| *name != "command").collect::<Vec<_>>()),
    ) {
        // Half of the messages stay on the topic of their type.
        let topic = topic_of(if is_inner { schema } else { schema_by_content(&value) });
        let inner = value.pointer_mut("/measurements/0").is_some() && is_inner;
        let target = if inner { value.pointer_mut("/measurements/0").unwrap() } else { &mut value };
        let object = target.as_object_mut().unwrap();
        let mut names: Vec<_> = object.keys().filter(|name| *name != "device_id").cloned().collect();
        names.push(new);
        object.insert(field.get(&names).clone(), odd);
        if schema_of(&topic, &value).is_some_and(|schema| errors(schema, &value).is_empty()) {
            let message = parse_at(&topic, value.to_string().as_bytes(), at("2101-01-01T00:00:00Z"));
            prop_assert!(message.is_ok(), "{:?}: {}", message, value);
        }
    }

    #[test]
    fn published_commands_pass_the_schema(
        (cmd, params) in params(), bits in any::<u128>(), seconds in 0_i64..4_000_000_000, nanos in 0_i128..1_000_000_000,
        key in prop::option::of("\\PC{16,128}"),
    ) {
        let created_at = Timestamp::from_nanos(i128::from(seconds) * 1_000_000_000 + nanos).unwrap();
        let command = Command {
            cmd_id: Uuid::from_u128(bits),
            device_id: DeviceId::parse(DEVICE).unwrap(),
            cmd,
            params: params.as_object().unwrap().clone(),
            status: CommandStatus::Pending,
            ack_detail: None,
            created_at,
            published_at: None,
            acked_at: None,
            expires_at: created_at.plus_seconds(300),
            ota: None,
        };
        let document = command::payload(&command, key.as_deref());
        let mut value: Value = serde_json::from_slice(&document).unwrap();
        prop_assert_eq!(errors("command", &value), [""; 0]);
        let sig = value.as_object_mut().unwrap().remove("sig");
        prop_assert_eq!(sig, key.map(|key| Value::from(command::signature(&key, &value))));
    }
}

fn schema_by_content(value: &Value) -> &'static str {
    match value["msg_type"].as_str() {
        Some("telemetry") => "telemetry-v2",
        Some("hello") => "hello",
        Some("status") => "status",
        Some("command_ack") => "command_ack",
        Some("ota_status") => "ota_status",
        _ => "telemetry-v1",
    }
}

/// Commands with parameters that the REST API accepts.
fn params() -> impl Strategy<Value = (CommandKind, Value)> {
    let host =
        ("\\PC{1,253}", 1..=65_535).prop_map(|(host, port)| json!({"host": host, "port": port}));
    let config = fields(vec![
        ("sampling_cadence_ms", any_of(100..=60_000)),
        ("send_interval_s", maybe(1..=3_600)),
        ("hello_interval_s", maybe(5..=3_600)),
        ("brokers", maybe(prop::collection::vec(host, 1..=5))),
    ]);
    let ota = fields(vec![
        ("fw_version", any_of(SEMVER)),
        ("fw_url", any_of("[hH]ttps://[a-z]{1,20}(:[0-9]{1,4})?/[a-z0-9./]{0,40}")),
        ("fw_sha256", any_of("[0-9a-fA-F]{64}")),
        ("fw_size_bytes", any_of(1..=9_007_199_254_740_991_u64)),
    ]);
    let empty = prop::sample::select(vec![
        CommandKind::Reboot,
        CommandKind::FactoryReset,
        CommandKind::RequestStatus,
    ]);
    prop_oneof![
        config.prop_map(|params| (CommandKind::UpdateConfig, params)),
        ota.prop_map(|params| (CommandKind::StartOta, params)),
        empty.prop_map(|cmd| (cmd, json!({}))),
    ]
}
