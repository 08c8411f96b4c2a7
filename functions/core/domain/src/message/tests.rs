use proptest::prelude::*;
use serde_json::json;

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn received(topic: &str, payload: impl Into<Bytes>) -> ReceivedMessage {
    ReceivedMessage {
        topic: topic.to_owned(),
        payload: payload.into(),
        received_at: at("2026-03-01T12:00:00.250Z"),
    }
}

fn parse_json(topic: &str, payload: serde_json::Value) -> Result<Message, String> {
    parse(&received(topic, payload.to_string())).map_err(|e| e.to_string())
}

fn telemetry(measurements: serde_json::Value) -> serde_json::Value {
    json!({"v": 2, "device_id": "m1", "ts": "2026-03-01T12:00:00Z", "seq": 7, "boot": 3,
           "msg_type": "telemetry", "measurements": measurements})
}

/// A valid telemetry message with one envelope field replaced; null counts as missing.
fn with(field: &str, value: serde_json::Value) -> serde_json::Value {
    let mut message = telemetry(json!([{"type": "pf", "val": 0.5}]));
    message[field] = value;
    message
}

#[test]
fn version_2_telemetry_keeps_the_order_of_samples() {
    let message = parse_json(
        "iot/m1/telemetry",
        telemetry(json!([
            {"type": "voltage_dc", "val": 1500, "unit": "V"},
            {"type": "voltage_dc", "val": 1501.5},
            {"type": "voltage_dc", "val": 1.0, "ts": "1970-01-01T00:00:09Z"}
        ])),
    )
    .unwrap();
    let Body::Telemetry(list) = &message.body else { panic!("{message:?}") };
    let seen: Vec<_> = list.iter().map(|m| (m.time, m.sample_index, m.value)).collect();
    assert_eq!(
        seen,
        [
            (at("2026-03-01T12:00:00Z"), 0, 1500.0),
            (at("2026-03-01T12:00:00Z"), 1, 1501.5),
            (at("1970-01-01T00:00:09Z"), 0, 1.0)
        ]
    );
    assert_eq!((message.seq, message.boot.as_deref()), (Some(7), Some("3")));
}

#[test]
fn message_must_match_its_topic() {
    assert_eq!(
        parse_json("iot/m2/telemetry", telemetry(json!([{"type": "pf", "val": 1}]))).unwrap_err(),
        "device_id: does not match the topic"
    );
    for topic in [
        "",
        "iot",
        "iot/m1",
        "iot/m1/",
        "iot/m1/other",
        "x/m1/hello",
        "iot/m1/command",
        "iot/m1/hello/x",
    ] {
        assert_eq!(parse(&received(topic, "{}")), Err(ParseError::UnknownTopic), "{topic}");
    }
    let error = parse(&received("iot/a b/hello", "{}")).unwrap_err().to_string();
    assert_eq!(error, "topic: the device id must be 1 to 128 of A-Z a-z 0-9 _ : -");
}

#[test]
fn payload_that_is_not_a_json_object_is_rejected() {
    let not_json: [&[u8]; 5] = [b"", b"{", b"\xff\xfe", b"{\"v\":1e999}", b"nonsense"];
    for payload in not_json {
        let error = parse(&received("iot/m1/telemetry", payload.to_vec())).unwrap_err();
        assert!(matches!(error, ParseError::NotJson(_)), "{error}");
    }
    for payload in ["[]", "1", "null", "\"x\""] {
        assert_eq!(parse(&received("iot/m1/telemetry", payload)), Err(ParseError::NotAnObject));
    }
    let nested = "[".repeat(100_000);
    assert!(matches!(parse(&received("iot/m1/telemetry", nested)), Err(ParseError::NotJson(_))));
    let large = vec![b' '; MAX_PAYLOAD_BYTES + 1];
    assert_eq!(
        parse(&received("iot/m1/telemetry", large)),
        Err(ParseError::TooLarge(MAX_PAYLOAD_BYTES + 1))
    );
}

#[test]
fn error_names_the_invalid_field() {
    let cases = [
        ("v", json!(3), "v: must be 1 or 2"),
        ("v", json!("2"), "v: must be 1 or 2"),
        ("device_id", json!(null), "device_id: is missing"),
        ("device_id", json!(1), "device_id: must be a string"),
        ("ts", json!(null), "ts: is missing"),
        (
            "ts",
            json!("yesterday"),
            "ts: is not an RFC 3339 date and time in the years 0001 to 9999",
        ),
        (
            "ts",
            json!("2026-03-01T12:00:00"),
            "ts: is not an RFC 3339 date and time in the years 0001 to 9999",
        ),
        ("ts", json!("2026-03-02T12:00:01Z"), "ts: is more than 24 h ahead of the time of receipt"),
        ("seq", json!(null), "seq: is missing"),
        ("seq", json!(-1), "seq: must be an integer from 0 to 4294967295"),
        ("seq", json!(4_294_967_296_u64), "seq: must be an integer from 0 to 4294967295"),
        ("seq", json!(1.5), "seq: must be an integer from 0 to 4294967295"),
        ("boot", json!(true), "boot: must be an integer or a string of 1 to 64 bytes"),
        ("msg_type", json!(null), "msg_type: is missing"),
        ("msg_type", json!("hello"), "msg_type: must be telemetry on this topic"),
    ];
    for (field, value, expected) in cases {
        assert_eq!(parse_json("iot/m1/telemetry", with(field, value)).unwrap_err(), expected);
    }
}

#[test]
fn error_names_the_invalid_sample() {
    let cases = [
        (json!(null), "measurements: is missing"),
        (json!({}), "measurements: must be an array"),
        (json!([]), "measurements: must have 1 to 200 entries, not 0"),
        (json!([1]), "measurements[0]: must be an object"),
        (json!([{"val": 1}]), "measurements[0].type: is missing"),
        (
            json!([{"type": "a b", "val": 1}]),
            "measurements[0].type: must be 1 to 64 of A-Z a-z 0-9 _ . -",
        ),
        (json!([{"type": "pf", "val": 1}, {"type": "pf"}]), "measurements[1].val: is missing"),
        (json!([{"type": "pf", "val": true}]), "measurements[0].val: must be a finite number"),
        (json!([{"type": "pf", "val": "1"}]), "measurements[0].val: must be a finite number"),
        (json!([{"type": "pf", "val": 1, "ts": 5}]), "measurements[0].ts: must be a string"),
        (
            json!([{"type": "pf", "val": 1, "unit": "x".repeat(33)}]),
            "measurements[0].unit: is longer than 32 bytes",
        ),
        (
            json!([{"type": "pf", "val": 1, "ts": "2026-03-02T12:00:01Z"}]),
            "measurements[0].ts: is more than 24 h ahead of the time of receipt",
        ),
    ];
    for (value, expected) in cases {
        assert_eq!(
            parse_json("iot/m1/telemetry", with("measurements", value)).unwrap_err(),
            expected
        );
    }
    let many: Vec<_> = (0..201).map(|_| json!({"type": "pf", "val": 1})).collect();
    let error = parse_json("iot/m1/telemetry", with("measurements", json!(many))).unwrap_err();
    assert_eq!(error, "measurements: must have 1 to 200 entries, not 201");
}

#[test]
fn unknown_fields_and_old_times_are_accepted() {
    assert!(parse_json("iot/m1/telemetry", with("future", json!({"a": [1]}))).is_ok());
    assert!(parse_json("iot/m1/telemetry", with("ts", json!("1970-01-01T00:00:00Z"))).is_ok());
}

#[test]
fn last_will_is_accepted_without_seq_and_msg_type() {
    let will = json!({"v": 2, "device_id": "m1", "ts": "2026-03-01T12:00:00Z", "status": "offline", "conn_id": "c1"});
    let message = parse_json("iot/m1/status", will).unwrap();
    assert_eq!(message.body, Body::Status { online: false, conn_id: Some("c1".to_owned()) });
    assert_eq!(message.seq, None);
    let bad = json!({"v": 2, "device_id": "m1", "ts": "2026-03-01T12:00:00Z", "status": "away"});
    assert_eq!(
        parse_json("iot/m1/status", bad).unwrap_err(),
        "status: must be one of online, offline"
    );
}

#[test]
fn fields_of_hello_ack_and_ota_status_are_validated() {
    let envelope = |kind: &str, rest: serde_json::Value| {
        let mut message = json!({"v": 2, "device_id": "m1", "ts": "2026-03-01T12:00:00Z", "seq": 1, "msg_type": kind});
        for (name, value) in rest.as_object().unwrap() {
            message[name] = value.clone();
        }
        message
    };
    let id = "0198c5a0-0000-7000-8000-000000000001";
    let good_hello =
        json!({"fw_version": "1.2.3", "uptime_s": 5, "broker_connections": 1, "buf_usage_pct": 0});
    assert!(parse_json("iot/m1/hello", envelope("hello", good_hello.clone())).is_ok());
    let bad_hello = |name: &str, value| {
        let mut hello = good_hello.clone();
        hello[name] = value;
        parse_json("iot/m1/hello", envelope("hello", hello)).unwrap_err()
    };
    assert!(
        bad_hello("fw_version", json!("one")).starts_with("fw_version: must be a semantic version")
    );
    assert_eq!(bad_hello("uptime_s", json!(-1)), "uptime_s: must be at least 0");
    assert_eq!(bad_hello("buf_usage_pct", json!(101)), "buf_usage_pct: must be from 0 to 100");
    assert_eq!(bad_hello("temp_internal", json!("hot")), "temp_internal: must be a finite number");

    let ack = |cmd_id: &str, result: &str| {
        parse_json(
            "iot/m1/command/ack",
            envelope("command_ack", json!({"cmd_id": cmd_id, "result": result})),
        )
    };
    assert!(ack(id, "accepted").is_ok());
    assert_eq!(ack("7", "accepted").unwrap_err(), "cmd_id: must be a UUID");
    assert_eq!(
        ack(id, "ok").unwrap_err(),
        "result: must be one of accepted, rejected, error, unsupported"
    );
    let ota = |state: &str, pct: f64| {
        let body = json!({"cmd_id": id, "ota_state": state, "progress_pct": pct});
        parse_json("iot/m1/ota/status", envelope("ota_status", body))
    };
    assert!(ota("verifying", 50.0).is_ok());
    assert!(ota("completed", 50.0).unwrap_err().starts_with("ota_state: must be one of"));
    assert_eq!(ota("verifying", -0.5).unwrap_err(), "progress_pct: must be from 0 to 100");
}

#[test]
fn lifecycle_event_is_parsed_and_validated() {
    let event = |topic: &str, client_id: &str, kind: &str| {
        let event = json!({"clientId": client_id, "timestamp": 1_772_366_400_000_u64, "eventType": kind,
            "sessionIdentifier": "s", "principalIdentifier": "p", "versionNumber": 7});
        parse_json(topic, event)
    };
    let message = event("$aws/events/presence/disconnected/m1", "m1", "disconnected").unwrap();
    assert_eq!(message.body, Body::Lifecycle { connected: false, version: 7 });
    assert_eq!((message.category.as_str(), message.ts), ("lifecycle", at("2026-03-01T12:00:00Z")));
    assert_eq!(
        event("$aws/events/presence/connected/m2", "m1", "connected").unwrap_err(),
        "clientId: does not match the topic"
    );
    assert_eq!(
        event("$aws/events/presence/connected/m1", "m1", "gone").unwrap_err(),
        "eventType: must be one of connected, disconnected"
    );
}

#[test]
fn version_1_numeric_fields_are_samples() {
    let message = parse_json(
        "iot/m1/telemetry",
        json!({"timestamp": "2026-03-01T11:59:59", "device_id": "m1", "temperature": 23.5,
               "humidity": 40, "seq": 9, "unit": "celsius", "note": "x"}),
    )
    .unwrap();
    let Body::Telemetry(list) = &message.body else { panic!("{message:?}") };
    let mut seen: Vec<_> = list.iter().map(|m| (m.metric.as_str(), m.value, m.time)).collect();
    seen.sort_by_key(|m| m.0);
    let ts = at("2026-03-01T11:59:59Z");
    assert_eq!(seen, [("humidity", 40.0, ts), ("temperature", 23.5, ts)]);
    assert_eq!(message.seq, None);

    let none = parse_json(
        "iot/m1/telemetry",
        json!({"timestamp": "2026-03-01T11:59:59Z", "device_id": "m1"}),
    );
    assert_eq!(none.unwrap().body, Body::Telemetry(vec![]));
    assert_eq!(
        parse_json("iot/m1/telemetry", json!({"timestamp": 5, "temperature": 1})).unwrap_err(),
        "timestamp: must be a string"
    );
    assert_eq!(
        parse_json("iot/m1/telemetry", json!({"device_id": "m2", "temperature": 1})).unwrap_err(),
        "device_id: does not match the topic"
    );
    assert_eq!(
        parse_json("iot/m1/hello", json!({"device_id": "m1"})).unwrap_err(),
        "v: must be 2 on this topic: version 1 has telemetry only"
    );
}

#[test]
fn message_id_includes_receipt_time_only_without_device_time() {
    let mut first = received("iot/m1/telemetry", r#"{"temperature": 1}"#);
    let again = parse(&first).unwrap();
    assert_eq!(parse(&first).unwrap().message_id, again.message_id);
    first.received_at = at("2026-03-01T12:00:01Z");
    assert_ne!(parse(&first).unwrap().message_id, again.message_id);

    let mut timed =
        received("iot/m1/telemetry", r#"{"timestamp":"2026-03-01T12:00:00Z","temperature": 1}"#);
    let message_id = parse(&timed).unwrap().message_id;
    timed.received_at = at("2026-03-01T12:00:01Z");
    assert_eq!(parse(&timed).unwrap().message_id, message_id);
}

proptest! {
    #[test]
    fn parser_does_not_panic_on_any_bytes(payload in prop::collection::vec(any::<u8>(), 0..200), topic in "\\PC{0,30}") {
        let _ = parse(&received(&topic, payload.clone()));
        let _ = parse(&received("iot/m1/telemetry", payload));
    }

    #[test]
    fn parser_does_not_panic_on_any_json(field in "v|ts|seq|boot|msg_type|measurements|device_id|timestamp",
                                      value in prop_oneof![Just(json!(null)), any::<i64>().prop_map(|n| json!(n)),
                                                           any::<f64>().prop_map(|n| json!(n)), ".*".prop_map(|s| json!(s)),
                                                           Just(json!([[{"ts": {}}]])), Just(json!({"type": []}))]) {
        for category in Category::ALL {
            let topic = match category.topic_suffix() {
                Some(suffix) => format!("iot/m1/{suffix}"),
                None => "$aws/events/presence/connected/m1".to_owned(),
            };
            let _ = parse_json(&topic, with(&field, value.clone()));
        }
    }
}
