//! Messages are archived and stored once, and readable over REST.

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::expect::{expect_eq, expect_fields, expect_len};
use blackbox::system::System;
use rand::seq::SliceRandom;
use reqwest::{Method, StatusCode};
use rumqttc::QoS;
use serde_json::{Value, json};

const ALL_TIME: &str = "start=1970-01-01T00:00:00Z&stop=2100-01-01T00:00:00Z";

fn telemetry(device: &str, seq: u32, ts: &str, boot: Option<u32>, measurements: &Value) -> Value {
    let mut message = json!({"v": 2, "device_id": device, "ts": ts, "seq": seq,
        "msg_type": "telemetry", "measurements": measurements});
    if let Some(boot) = boot {
        message["boot"] = json!(boot);
    }
    message
}

/// Waits until a device has exactly `count` points.
async fn points(system: &System, device: &str, count: usize) -> Result<Vec<Value>> {
    let path = format!("/api/devices/{device}/metrics?{ALL_TIME}");
    system
        .eventually(&format!("{count} points of {device}"), || async {
            let points = system.list(&path).await?;
            expect_len(&format!("GET {path}"), &points, count)?;
            Ok(points)
        })
        .await
}

#[tokio::test]
async fn message_is_archived_stored_and_recorded_as_activity() -> Result<()> {
    let system = System::start().await?;
    system.register("dc-meter-001").await?;
    let mut device = Device::connect(system.mqtt_port(), "dc-meter-001").await?;
    let now = jiff::Timestamp::now();
    let message = telemetry(
        "dc-meter-001",
        1,
        &now.to_string(),
        Some(1),
        &json!([
            {"type": "voltage_dc", "val": 1500.25, "unit": "V"},
            {"type": "voltage_dc", "val": 1500.5, "unit": "V"},
            {"type": "temperature", "val": 900}
        ]),
    );
    device.publish("iot/dc-meter-001/telemetry", message.to_string()).await?;

    // Without parameters, as older clients query: the last hour.
    let path = "/api/devices/dc-meter-001/metrics";
    let points = system
        .eventually("the points of the message", || async {
            let points = system.list(path).await?;
            expect_len(path, &points, 3)?;
            Ok(points)
        })
        .await?;
    let time = now.to_string();
    let expected = json!([
        {"time": time, "device_id": "dc-meter-001", "metric": "temperature", "value": 900.0, "unit": "Cel", "quality": "out_of_range"},
        {"time": time, "device_id": "dc-meter-001", "metric": "voltage_dc", "value": 1500.25, "unit": "V"},
        {"time": time, "device_id": "dc-meter-001", "metric": "voltage_dc", "value": 1500.5, "unit": "V"},
    ]);
    expect_eq(path, &points, &expected)?;
    let path = "/api/devices/dc-meter-001/metrics/latest";
    expect_fields(path, &system.get(path).await?, [("/1/value", json!(1500.5))])?;

    let files = system.list("/api/devices/dc-meter-001/raw-data").await?;
    expect_len("GET raw-data", &files, 1)?;
    expect_fields("GET raw-data", &files[0], [("/size", json!(message.to_string().len()))])?;
    let name = files[0]["filename"].as_str().context("the file has no name")?;
    let relative = name.strip_prefix("dc-meter-001/").context("the name lacks the device id")?;
    for name in [relative, name] {
        let path = format!("/api/devices/dc-meter-001/raw-data/{name}");
        let expected =
            [("/payload", message.clone()), ("/topic", json!("iot/dc-meter-001/telemetry"))];
        expect_fields(&path, &system.get(&path).await?, expected)?;
    }

    let path = "/api/devices/dc-meter-001";
    expect_fields(path, &system.get(path).await?, [("/connection_status", json!("online"))])?;
    let expected = [
        ("/total_devices", json!(1)),
        ("/device_by_connection", json!([{"status": "online", "count": 1}])),
    ];
    expect_fields("GET /api/stats", &system.get("/api/stats").await?, expected)?;
    system.stack.stop().await;
    Ok(())
}

#[tokio::test]
async fn messages_of_unregistered_devices_are_stored() -> Result<()> {
    let system = System::start().await?;
    let mut device = Device::connect(system.mqtt_port(), "older").await?;
    // Version 1 without a time zone; QoS 2, which the local broker accepts; an id with a colon.
    let v1 = json!({"timestamp": "2026-03-01T12:00:00", "device_id": "older", "temperature": 23.5, "unit": "celsius"});
    device.publish("iot/older/telemetry", v1.to_string()).await?;
    let v2 =
        telemetry("urn:x:1", 0, "2026-03-01T12:00:00Z", None, &json!([{"type": "pf", "val": 1}]));
    device.publish_with("iot/urn:x:1/telemetry", v2.to_string(), QoS::ExactlyOnce, false).await?;

    let older = points(&system, "older", 1).await?;
    let expected = json!({"time": "2026-03-01T12:00:00Z", "device_id": "older", "metric": "temperature", "value": 23.5, "unit": "celsius"});
    expect_eq("GET /api/devices/older/metrics", &older[0], &expected)?;
    points(&system, "urn:x:1", 1).await?;
    points(&system, "urn%3Ax%3A1", 1).await?;
    for path in ["/api/devices/older", "/api/devices/older/status", "/api/devices/older/config"] {
        let response = system.send(Method::GET, path, None).await?;
        response.expect_status(&format!("GET {path}"), StatusCode::NOT_FOUND)?;
    }
    system.register("older").await?;
    // The registration finds the recorded activity.
    let path = "/api/devices/older/status";
    expect_fields(path, &system.get(path).await?, [("/connection_status", json!("online"))])?;
    system.stack.stop().await;
    Ok(())
}

#[tokio::test]
async fn repeated_and_reordered_messages_of_several_boots_are_stored_once() -> Result<()> {
    let system = System::start().await?;
    let mut messages: Vec<(String, String)> = Vec::new();
    let mut add = |device: &str, seq: u32, ts: &str, boot: Option<u32>| {
        let measurements = json!([{"type": "pf", "val": messages.len()}]);
        let message = telemetry(device, seq, ts, boot, &measurements);
        messages.push((format!("iot/{device}/telemetry"), message.to_string()));
    };
    // Sequence numbers that restart at 0, with and without `boot`, some with the clock at 1970.
    for (device, named) in [("with-boot", true), ("without-boot", false)] {
        for (boot, year) in [(1, "2026"), (2, "2026"), (3, "1970"), (4, "1970")] {
            for seq in 0..10 {
                let ts = format!("{year}-03-0{boot}T00:00:{seq:02}Z");
                add(device, seq, &ts, named.then_some(boot));
            }
        }
    }
    // A sequence with jumps to the end of the range.
    for (n, seq) in [5, 4_000_000_000, 6, 7, 0, 4_294_967_295].into_iter().enumerate() {
        add("jumping", seq, &format!("2026-03-01T00:00:{n:02}Z"), None);
    }
    // Each message five times over two connections, in random order.
    let mut rng = rand::rng();
    let mut first = Device::connect(system.mqtt_port(), "first").await?;
    let mut second = Device::connect(system.mqtt_port(), "second").await?;
    let mut repeated: Vec<_> = (0..5).flat_map(|_| messages.iter()).collect();
    repeated.shuffle(&mut rng);
    for (n, (topic, payload)) in repeated.into_iter().enumerate() {
        let connection = if n % 2 == 0 { &mut first } else { &mut second };
        connection.publish(topic, payload.as_bytes()).await?;
    }

    for (device, count) in [("with-boot", 40), ("without-boot", 40), ("jumping", 6)] {
        let points = points(&system, device, count).await?;
        let mut values: Vec<_> = points.iter().filter_map(|p| p["value"].as_f64()).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        ensure!(values.len() == count, "{device}: expected {count} values, actual {values:?}");
        let files = system.list(&format!("/api/devices/{device}/raw-data")).await?;
        expect_len(&format!("GET raw-data of {device}"), &files, count)?;
    }
    system.stack.stop().await;
    Ok(())
}

#[tokio::test]
async fn invalid_messages_are_quarantined_and_valid_ones_stored() -> Result<()> {
    let system = System::start().await?;
    let mut device = Device::connect(system.mqtt_port(), "m").await?;
    let good = |seq| {
        telemetry(
            "m",
            seq,
            &format!("2026-03-01T12:00:0{seq}Z"),
            None,
            &json!([{"type": "pf", "val": seq}]),
        )
    };
    let with = |field: &str, value: Value| {
        let mut message = good(1);
        message[field] = value;
        message.to_string().into_bytes()
    };
    let future = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(25);
    let too_many: Vec<_> = (0..201).map(|_| json!({"type": "pf", "val": 1})).collect();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("iot/m/telemetry", b"\xff\x00 no json".to_vec(), "payload: is not JSON"),
        ("iot/m/telemetry", Vec::new(), "payload: is not JSON"),
        ("iot/m/telemetry", b"[]".to_vec(), "payload: is not a JSON object"),
        ("iot/m/telemetry", vec![b'['; 120_000], "payload: is not JSON"),
        ("iot/m/telemetry", with("v", json!(9)), "v: must be 1 or 2"),
        ("iot/m/telemetry", with("device_id", json!("other")), "device_id: does not match the topic"),
        ("iot/m/telemetry", with("ts", json!("noon")), "ts: is not an RFC 3339"),
        ("iot/m/telemetry", with("ts", json!(future.to_string())), "ts: is more than 24 h ahead"),
        ("iot/m/telemetry", with("seq", json!(-1)), "seq: must be an integer"),
        ("iot/m/telemetry", with("msg_type", json!("hello")), "msg_type: must be telemetry"),
        ("iot/m/telemetry", with("measurements", json!(too_many)), "measurements: must have 1 to 200"),
        ("iot/m/telemetry", with("measurements", json!([{"type": "pf", "val": true}])), "measurements[0].val"),
        ("iot/m/status", br#"{"v":2,"device_id":"m","ts":"2026-03-01T12:00:00Z","status":"away"}"#.to_vec(), "status: must be one of"),
        ("iot/m/hello", br#"{"v":2,"device_id":"m","ts":"2026-03-01T12:00:00Z","seq":1,"msg_type":"hello"}"#.to_vec(), "fw_version: is missing"),
        ("iot/m/command/ack", br#"{"v":2,"device_id":"m","ts":"2026-03-01T12:00:00Z","seq":1,"msg_type":"command_ack","cmd_id":"x","result":"accepted"}"#.to_vec(), "cmd_id: must be a UUID"),
        ("iot/m x/telemetry", b"{}".to_vec(), "topic: the device id must be"),
    ];
    device.publish("iot/m/telemetry", good(1).to_string()).await?;
    for (topic, payload, _) in &cases {
        device.publish(topic, payload.clone()).await?;
    }
    device.publish("iot/m/telemetry", good(2).to_string()).await?;

    points(&system, "m", 2).await?;
    let entries = system
        .eventually("the quarantined messages", || async {
            let entries = system.list("/api/quarantine").await?;
            expect_len("GET /api/quarantine", &entries, cases.len())?;
            Ok(entries)
        })
        .await?;
    for (topic, payload, reason) in &cases {
        let found = entries.iter().find(|entry| {
            entry["topic"] == *topic
                && entry["size"] == payload.len()
                && entry["reason"].as_str().is_some_and(|text| text.starts_with(reason))
        });
        let entry = found.with_context(|| {
            format!("no entry for {reason} in {:#}", Value::from(entries.as_slice()))
        })?;
        let id = entry["id"].as_str().context("the entry has no id")?;
        let url = format!("{}/api/quarantine/{id}", system.stack.rest_url());
        let bytes = reqwest::get(url).await?.bytes().await?;
        ensure!(
            bytes == payload.as_slice(),
            "{reason}: the quarantined bytes differ from the payload"
        );
    }
    system.stack.stop().await;
    Ok(())
}
