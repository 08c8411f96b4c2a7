//! Commands reach devices and their answers come back; the registry knows who is there.

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::system::System;
use serde_json::{Value, json};

/// The field of a device's newest command, once it is as expected.
async fn newest_command(
    system: &System,
    device: &str,
    field: &str,
    expected: Value,
) -> Result<Value> {
    let path = format!("/api/devices/{device}/commands");
    system
        .eventually(&format!("{field} {expected}"), || async {
            let commands = system.list(&path).await?;
            let newest = commands.first().context("no command")?;
            let value = newest.pointer(field).cloned().unwrap_or_default();
            ensure!(value == expected, "{field} is {value}");
            Ok(newest.clone())
        })
        .await
}

/// The next command that the device has not seen before: when it comes online, some come again.
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
async fn a_command_travels_to_its_device_and_the_answer_back() -> Result<()> {
    let system = System::start().await?;
    system.register("m").await?;
    let mut device = Device::connect(system.mqtt_port(), "m").await?;
    device.subscribe("iot/m/command").await?;

    let params = json!({"send_interval_s": 30});
    let answer = system
        .post("/api/devices/m/commands", json!({"cmd": "update_config", "params": params}))
        .await?;
    ensure!(answer["status"] == "pending", "{answer}");
    let mut seen = Vec::new();
    let command = next_command(&mut device, &mut seen).await?;
    ensure!(command["cmd"] == "update_config" && command["params"] == params, "{command}");
    ensure!(command["cmd_id"] == answer["cmd_id"] && command["v"] == 2, "{command}");

    let ack = json!({"cmd_id": command["cmd_id"], "result": "accepted", "detail": "done"});
    device.publish("iot/m/command/ack", envelope("m", 1, "command_ack", ack)).await?;
    let command = newest_command(&system, "m", "/status", json!("accepted")).await?;
    ensure!(command["ack_detail"] == "done", "{command}");
    let config = system.get("/api/devices/m/config").await?;
    ensure!(config["send_interval_s"] == 30, "the accepted parameters are in force: {config}");

    // A firmware upgrade, to its end.
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
    ensure!(status["fw_version"] == "2.0.0", "{status}");
    system.stack.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_device_that_loses_power_is_offline_with_one_alert_until_it_comes_back() -> Result<()> {
    let system = System::start().await?;
    system.register("m").await?;
    let connection = |expected: &'static str| {
        let system = &system;
        system.eventually(expected, move || async move {
            let status = system.get("/api/devices/m/status").await?;
            ensure!(status["connection_status"] == expected, "{status}");
            Ok(())
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
        .eventually("the alert", || async {
            let alerts = system.list("/api/devices/m/alerts").await?;
            ensure!(alerts.len() == 1, "{alerts:?}");
            Ok(alerts)
        })
        .await?;
    ensure!(
        alerts[0]["alert_type"] == "device_offline" && alerts[0]["resolved_at"].is_null(),
        "{alerts:?}"
    );
    ensure!(system.get("/api/stats").await?["unacknowledged_alerts"] == 1, "it is counted");

    let mut device = Device::connect(system.mqtt_port(), "m").await?;
    device.publish("iot/m/status", status("online", "c2")).await?;
    connection("online").await?;
    system
        .eventually("the alert resolved", || async {
            let alerts = system.list("/api/alerts").await?;
            ensure!(alerts.len() == 1 && alerts[0]["resolved_at"].is_string(), "{alerts:?}");
            Ok(())
        })
        .await?;
    system.stack.stop().await;
    Ok(())
}
