//! Commands and their acknowledgements, and the connection status in the registry.

use anyhow::{Context as _, Result};
use blackbox::device::Device;
use blackbox::expect::{expect_fields, expect_len};
use blackbox::system::System;
use serde_json::{Value, json};

/// Waits until a field of the device's newest command has the expected value.
async fn newest_command(
    system: &System,
    device: &str,
    field: &'static str,
    expected: Value,
) -> Result<Value> {
    let path = format!("/api/devices/{device}/commands");
    system
        .eventually(&format!("{field} {expected}"), || async {
            let commands = system.list(&path).await?;
            let newest = commands.first().context("the device has no command")?;
            expect_fields(&format!("GET {path}"), newest, [(field, expected.clone())])?;
            Ok(newest.clone())
        })
        .await
}

/// The next command that is not in `seen`: commands are published again when the device comes
/// online.
async fn next_command(device: &mut Device, seen: &mut Vec<Value>) -> Result<Value> {
    loop {
        let command: Value = serde_json::from_slice(&device.next_message().await?.payload)?;
        if !seen.contains(&command["cmd_id"]) {
            seen.push(command["cmd_id"].clone());
            return Ok(command);
        }
    }
}

fn envelope(device: &str, seq: u32, kind: &str, fields: Value) -> String {
    let now = jiff::Timestamp::now().to_string();
    let mut message =
        json!({"v": 2, "device_id": device, "ts": now, "seq": seq, "boot": "b", "msg_type": kind});
    for (name, value) in fields.as_object().into_iter().flatten() {
        message[name] = value.clone();
    }
    message.to_string()
}

#[tokio::test]
async fn command_and_acknowledgement_are_delivered() -> Result<()> {
    let system = System::start().await?;
    system.register("m").await?;
    let mut device = Device::connect(system.mqtt_port(), "m").await?;
    device.subscribe("iot/m/command").await?;

    let params = json!({"send_interval_s": 30});
    let answer = system
        .post("/api/devices/m/commands", json!({"cmd": "update_config", "params": params}))
        .await?;
    expect_fields("POST /api/devices/m/commands", &answer, [("/status", json!("pending"))])?;
    let mut seen = Vec::new();
    let command = next_command(&mut device, &mut seen).await?;
    let expected = [
        ("/cmd", json!("update_config")),
        ("/params", params),
        ("/cmd_id", answer["cmd_id"].clone()),
        ("/v", json!(2)),
    ];
    expect_fields("iot/m/command", &command, expected)?;

    let ack = json!({"cmd_id": command["cmd_id"], "result": "accepted", "detail": "done"});
    device.publish("iot/m/command/ack", envelope("m", 1, "command_ack", ack)).await?;
    let command = newest_command(&system, "m", "/status", json!("accepted")).await?;
    let expected = [("/ack_detail", json!("done"))];
    expect_fields("GET /api/devices/m/commands", &command, expected)?;
    let config = system.get("/api/devices/m/config").await?;
    let expected = [("/send_interval_s", json!(30))];
    expect_fields("GET /api/devices/m/config", &config, expected)?;

    // A complete firmware upgrade.
    let params = json!({"fw_version": "2.0.0", "fw_url": "https://example.com/fw", "fw_sha256": "0".repeat(64), "fw_size_bytes": 10});
    system.post("/api/devices/m/commands", json!({"cmd": "start_ota", "params": params})).await?;
    let command = next_command(&mut device, &mut seen).await?;
    let progress = |state: &str, pct: u32| json!({"cmd_id": command["cmd_id"], "ota_state": state, "progress_pct": pct, "fw_version_target": "2.0.0"});
    for (seq, (state, pct)) in
        (2..).zip([("downloading", 50), ("verifying", 10), ("downloading", 90), ("success", 100)])
    {
        device
            .publish("iot/m/ota/status", envelope("m", seq, "ota_status", progress(state, pct)))
            .await?;
    }
    newest_command(&system, "m", "/ota/state", json!("success")).await?;
    let hello =
        json!({"fw_version": "2.0.0", "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0});
    device.publish("iot/m/hello", envelope("m", 9, "hello", hello)).await?;
    newest_command(&system, "m", "/ota/state", json!("completed")).await?;
    let status = system.get("/api/devices/m/status").await?;
    let expected = [("/fw_version", json!("2.0.0"))];
    expect_fields("GET /api/devices/m/status", &status, expected)?;
    system.stack.stop().await;
    Ok(())
}

#[tokio::test]
async fn lost_connection_raises_one_alert_until_reconnect() -> Result<()> {
    let system = System::start().await?;
    system.register("m").await?;
    let connection = |expected: &'static str| {
        let system = &system;
        system.eventually(expected, move || async move {
            let status = system.get("/api/devices/m/status").await?;
            let expected = [("/connection_status", json!(expected))];
            expect_fields("GET /api/devices/m/status", &status, expected)
        })
    };
    let status = |word: &str, conn_id: &str| {
        json!({"v": 2, "device_id": "m", "ts": jiff::Timestamp::now().to_string(), "status": word, "conn_id": conn_id}).to_string()
    };
    let will = status("offline", "c1");
    let mut device =
        Device::connect_with_will(system.mqtt_port(), "m", "iot/m/status", &will).await?;
    device.publish("iot/m/status", status("online", "c1")).await?;
    connection("online").await?;
    device.abort_connection();
    connection("offline").await?;

    let alerts = system
        .eventually("an offline alert", || async {
            let alerts = system.list("/api/devices/m/alerts").await?;
            expect_len("GET /api/devices/m/alerts", &alerts, 1)?;
            Ok(alerts)
        })
        .await?;
    let expected = [("/alert_type", json!("device_offline")), ("/resolved_at", Value::Null)];
    expect_fields("GET /api/devices/m/alerts", &alerts[0], expected)?;
    let stats = system.get("/api/stats").await?;
    expect_fields("GET /api/stats", &stats, [("/unacknowledged_alerts", json!(1))])?;

    let mut device = Device::connect(system.mqtt_port(), "m").await?;
    device.publish("iot/m/status", status("online", "c2")).await?;
    connection("online").await?;
    system
        .eventually("the end of the alert", || async {
            let alerts = system.list("/api/alerts").await?;
            expect_len("GET /api/alerts", &alerts, 1)?;
            expect_fields("GET /api/alerts", &alerts[0], [("/state", json!("resolved"))])
        })
        .await?;
    system.stack.stop().await;
    Ok(())
}
