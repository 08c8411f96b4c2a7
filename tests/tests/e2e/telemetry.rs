//! What devices say is kept, once, and readable.

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
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

/// Waits until a device has exactly so many points, ever.
async fn points(system: &System, device: &str, count: usize) -> Result<Vec<Value>> {
    let path = format!("/api/devices/{device}/metrics?{ALL_TIME}");
    system
        .eventually(&format!("{count} points of {device}"), || async {
            let points = system.list(&path).await?;
            ensure!(points.len() == count, "{} points", points.len());
            Ok(points)
        })
        .await
}

#[tokio::test]
async fn a_message_is_archived_measured_and_known_of_its_device() -> Result<()> {
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

    // The older client's call: no parameters, the last hour.
    let path = "/api/devices/dc-meter-001/metrics";
    let points = system
        .eventually("the points of the message", || async {
            let points = system.list(path).await?;
            ensure!(points.len() == 3, "{points:?}");
            Ok(points)
        })
        .await?;
    let time = now.to_string();
    ensure!(
        points
            == [
                json!({"time": time, "device_id": "dc-meter-001", "metric": "temperature", "value": 900.0, "unit": "Cel", "quality": "out_of_range"}),
                json!({"time": time, "device_id": "dc-meter-001", "metric": "voltage_dc", "value": 1500.25, "unit": "V"}),
                json!({"time": time, "device_id": "dc-meter-001", "metric": "voltage_dc", "value": 1500.5, "unit": "V"}),
            ],
        "{points:?}"
    );
    let latest = system.get("/api/devices/dc-meter-001/metrics/latest").await?;
    ensure!(latest[1]["value"] == 1500.5, "{latest}");

    let files = system.list("/api/devices/dc-meter-001/raw-data").await?;
    ensure!(files.len() == 1 && files[0]["size"] == message.to_string().len(), "{files:?}");
    let name = files[0]["filename"].as_str().context("no name")?;
    let below = name.strip_prefix("dc-meter-001/").context("not under its device")?;
    for path in [below, name] {
        let stored = system.get(&format!("/api/devices/dc-meter-001/raw-data/{path}")).await?;
        ensure!(
            stored["payload"] == message && stored["topic"] == "iot/dc-meter-001/telemetry",
            "{stored}"
        );
    }

    let device = system.get("/api/devices/dc-meter-001").await?;
    ensure!(device["connection_status"] == "online", "{device}");
    let stats = system.get("/api/stats").await?;
    ensure!(stats["total_devices"] == 1, "{stats}");
    ensure!(stats["device_by_connection"] == json!([{"status": "online", "count": 1}]), "{stats}");
    system.stack.stop().await;
    Ok(())
}

#[tokio::test]
async fn older_devices_and_odd_names_are_heard_before_they_are_registered() -> Result<()> {
    let system = System::start().await?;
    let mut device = Device::connect(system.mqtt_port(), "older").await?;
    // Version 1, without a zone; QoS 2, which the local broker takes; an id with a colon.
    let v1 = json!({"timestamp": "2026-03-01T12:00:00", "device_id": "older", "temperature": 23.5, "unit": "celsius"});
    device.publish("iot/older/telemetry", v1.to_string()).await?;
    let v2 =
        telemetry("urn:x:1", 0, "2026-03-01T12:00:00Z", None, &json!([{"type": "pf", "val": 1}]));
    device.publish_with("iot/urn:x:1/telemetry", v2.to_string(), QoS::ExactlyOnce, false).await?;

    let older = points(&system, "older", 1).await?;
    ensure!(
        older[0]
            == json!({"time": "2026-03-01T12:00:00Z", "device_id": "older", "metric": "temperature", "value": 23.5, "unit": "celsius"}),
        "{older:?}"
    );
    points(&system, "urn:x:1", 1).await?;
    points(&system, "urn%3Ax%3A1", 1).await?;
    for path in ["/api/devices/older", "/api/devices/older/status", "/api/devices/older/config"] {
        let answer = system.send(Method::GET, path, None).await?;
        ensure!(answer.status == StatusCode::NOT_FOUND, "{path}: {answer:?}");
    }
    system.register("older").await?;
    let status = system.get("/api/devices/older/status").await?;
    ensure!(status["connection_status"] == "online", "registering finds what is known: {status}");
    system.stack.stop().await;
    Ok(())
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_by_reboots_wrong_clocks_repeats_or_disorder() -> Result<()> {
    let system = System::start().await?;
    let mut messages: Vec<(String, String)> = Vec::new();
    let mut say = |device: &str, seq: u32, ts: &str, boot: Option<u32>| {
        let measurements = json!([{"type": "pf", "val": messages.len()}]);
        let message = telemetry(device, seq, ts, boot, &measurements);
        messages.push((format!("iot/{device}/telemetry"), message.to_string()));
    };
    // Reboots to 0, with and without `boot`, some with the clock back at 1970.
    for (device, named) in [("with-boot", true), ("without-boot", false)] {
        for (boot, year) in [(1, "2026"), (2, "2026"), (3, "1970"), (4, "1970")] {
            for seq in 0..10 {
                let ts = format!("{year}-03-0{boot}T00:00:{seq:02}Z");
                say(device, seq, &ts, named.then_some(boot));
            }
        }
    }
    // A number of four billion in between.
    for (n, seq) in [5, 4_000_000_000, 6, 7, 0, 4_294_967_295].into_iter().enumerate() {
        say("jumping", seq, &format!("2026-03-01T00:00:{n:02}Z"), None);
    }
    // Each five times over two connections, in random order.
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
        ensure!(values.len() == count, "{device}: {values:?}");
        let files = system.list(&format!("/api/devices/{device}/raw-data")).await?;
        ensure!(files.len() == count, "{device}: {} files", files.len());
    }
    system.stack.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_read_is_in_quarantine_and_its_neighbours_are_stored() -> Result<()> {
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
        .eventually("everything unreadable in quarantine", || async {
            let entries = system.list("/api/quarantine").await?;
            ensure!(entries.len() == cases.len(), "{} entries", entries.len());
            Ok(entries)
        })
        .await?;
    for (topic, payload, reason) in &cases {
        let found = entries.iter().find(|entry| {
            entry["topic"] == *topic
                && entry["size"] == payload.len()
                && entry["reason"].as_str().is_some_and(|text| text.starts_with(reason))
        });
        let entry = found.with_context(|| format!("no entry for {reason}: {entries:?}"))?;
        let id = entry["id"].as_str().context("no id")?;
        let url = format!("{}/api/quarantine/{id}", system.stack.rest_url());
        let bytes = reqwest::get(url).await?.bytes().await?;
        ensure!(bytes == payload.as_slice(), "{reason}: other bytes");
    }
    system.stack.stop().await;
    Ok(())
}
