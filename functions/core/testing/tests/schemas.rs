//! Checks that the JSON Schemas in `infra/schemas` and the tables and examples in
//! `docs/protocol.md` agree with the parser.
//!
//! A schema describes what a device should send. The parser accepts more than that; each difference
//! in the corpus is listed in [`BEYOND_SCHEMA`] and [`NOT_IN_SCHEMA`], and in the document.

#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

#[path = "schemas/document.rs"]
mod document;
#[path = "schemas/generators.rs"]
mod generators;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jsonschema::Validator;
use meter_domain::command::{self, Command, CommandStatus};
use meter_domain::id::DeviceId;
use meter_domain::message::{self, Category, Message, ReceivedMessage};
use meter_domain::metric::KNOWN_METRICS;
use meter_domain::time::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use self::generators::{odd, params, valid};

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
    ("telemetry_of_another_device", "device_id: does not match the topic"),
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

/// The schema of a message that a device publishes; `None` for other topics.
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
