//! Offline detection, sequence gaps and lifecycle events of IoT Core.

use anyhow::{Context as _, Result};
use blackbox::device::Device;
use blackbox::expect::{expect_eq, expect_fields, expect_len};
use blackbox::system::System;
use devstack::Options;
use serde_json::{Value, json};

/// Runs the watchdog in addition to its schedule.
async fn run_watchdog(system: &System) -> Result<Value> {
    let url = system.stack.functions_url() + "/2015-03-31/functions/watchdog/invocations";
    Ok(reqwest::Client::new().post(url).json(&json!({})).send().await?.json().await?)
}

async fn connection(system: &System, expected: &str) -> Result<()> {
    let status = system.get("/api/devices/m/status").await?;
    let expected = [("/connection_status", json!(expected))];
    expect_fields("GET /api/devices/m/status", &status, expected)
}

fn telemetry(seq: u32) -> String {
    let now = jiff::Timestamp::now().to_string();
    json!({"v": 2, "device_id": "m", "ts": now, "seq": seq, "boot": 1, "msg_type": "telemetry",
        "measurements": [{"type": "pf", "val": seq}]})
    .to_string()
}

#[tokio::test]
async fn silence_and_gap_raise_alerts_that_missing_messages_resolve() -> Result<()> {
    let settings = [("OFFLINE_AFTER_S", "1"), ("GAP_GRACE_S", "1")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let system =
        System::start_with(Options { settings: settings.to_vec(), ..Options::default() }).await?;
    system.register("m").await?;
    let mut device = Device::connect(system.mqtt_port(), "m").await?;
    for seq in [1, 5] {
        device.publish("iot/m/telemetry", telemetry(seq)).await?;
    }
    // The scheduled watchdog may report the device offline before a request finds it online.
    // Deadlines are rounded to the minute.
    system
        .eventually("offline detection", async || {
            run_watchdog(&system).await?;
            connection(&system, "offline").await
        })
        .await?;
    let alerts_path = "/api/devices/m/alerts";
    let opened = system
        .eventually("two open alerts", async || {
            run_watchdog(&system).await?;
            let mut alerts = system.list(alerts_path).await?;
            alerts.sort_by_key(|alert| alert["alert_type"].to_string());
            let fields: Vec<_> =
                alerts.iter().map(|a| json!([a["alert_type"], a["state"]])).collect();
            let expected = json!([["device_offline", "open"], ["sequence_gap", "open"]]);
            expect_eq(alerts_path, &fields, &expected)?;
            Ok(alerts)
        })
        .await?;
    for seq in [2, 3, 4] {
        device.publish("iot/m/telemetry", telemetry(seq)).await?;
    }
    // The device can be offline again with a third alert before a request finds the first ones
    // resolved.
    system
        .eventually("two resolved alerts", async || {
            let alerts = system.list(alerts_path).await?;
            for opened in &opened {
                let alert = alerts.iter().find(|alert| alert["id"] == opened["id"]);
                let alert = alert.context("an alert is missing")?;
                expect_fields(alerts_path, alert, [("/state", json!("resolved"))])?;
            }
            Ok(())
        })
        .await?;
    system.stack.stop().await;
    Ok(())
}

#[tokio::test]
async fn lifecycle_events_are_ordered_by_version() -> Result<()> {
    let system = System::start().await?;
    system.register("m").await?;
    let mut core = Device::connect(system.mqtt_port(), "core").await?;
    let event = |kind: &str, version: u32| {
        let topic = format!("$aws/events/presence/{kind}/m");
        let now = jiff::Timestamp::now().as_millisecond();
        let event =
            json!({"clientId": "m", "timestamp": now, "eventType": kind, "versionNumber": version});
        (topic, event.to_string())
    };
    // The event for the end of the first connection follows the second one; each event is repeated.
    for (kind, version) in [("connected", 1), ("connected", 2), ("disconnected", 1)] {
        let (topic, event) = event(kind, version);
        core.publish(&topic, event.clone()).await?;
        core.publish(&topic, event).await?;
    }
    let (topic, marker) = ("iot/marker/telemetry", r#"{"temperature":1}"#);
    core.publish(topic, marker).await?;
    system
        .eventually("the last message", async || {
            let points = system.list("/api/devices/marker/metrics").await?;
            expect_len("GET /api/devices/marker/metrics", &points, 1)
        })
        .await?;
    system.eventually("the device to be online", || connection(&system, "online")).await?;
    let (topic, event) = event("disconnected", 2);
    core.publish(&topic, event).await?;
    system.eventually("the device to be offline", || connection(&system, "offline")).await?;
    system.stack.stop().await;
    Ok(())
}
