//! What operators do to a running system: purging a device, and counting the fleet again.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::system::System;
use devstack::Options;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const ALL_TIME: &str = "start=1970-01-01T00:00:00Z&stop=2100-01-01T00:00:00Z";

/// The names of a device's messages, and the messages.
async fn raw_data(system: &System, device: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for file in system.list(&format!("/api/devices/{device}/raw-data")).await? {
        let name = file["filename"].as_str().context("no name")?;
        all.push(system.get(&format!("/api/devices/{device}/raw-data/{name}")).await?);
    }
    Ok(all)
}

#[tokio::test]
async fn a_purged_device_leaves_nothing_and_takes_nothing_of_the_others_along() -> Result<()> {
    let system = System::start().await?;
    let mut connection = Device::connect(system.mqtt_port(), "both").await?;
    for device in ["gone", "stays"] {
        system.register(device).await?;
    }
    // Alternating, so that they share objects of the archive.
    for n in 0..20 {
        for device in ["gone", "stays"] {
            let message = json!({"v": 2, "device_id": device, "ts": format!("2026-03-01T12:00:{n:02}Z"), "seq": n,
                "msg_type": "telemetry", "measurements": [{"type": "pf", "val": n}]});
            connection.publish(&format!("iot/{device}/telemetry"), message.to_string()).await?;
        }
    }
    let metrics = |device: &str| format!("/api/devices/{device}/metrics?{ALL_TIME}");
    for device in ["gone", "stays"] {
        system
            .eventually("20 points", || async {
                let points = system.list(&metrics(device)).await?;
                ensure!(points.len() == 20, "{} points", points.len());
                Ok(())
            })
            .await?;
    }
    let neighbour = raw_data(&system, "stays").await?;
    ensure!(neighbour.len() == 20, "{} messages", neighbour.len());

    let answer = system.send(Method::DELETE, "/api/devices/gone?purge=true", None).await?;
    ensure!(answer.status == StatusCode::ACCEPTED, "{answer:?}");
    system
        .eventually("nothing of it", || async {
            ensure!(system.list("/api/devices/gone/raw-data").await?.is_empty());
            ensure!(system.list(&metrics("gone")).await?.is_empty());
            ensure!(system.list("/api/devices/gone/metrics/latest").await?.is_empty());
            Ok(())
        })
        .await?;
    ensure!(raw_data(&system, "stays").await? == neighbour, "its neighbour's messages changed");
    ensure!(system.list(&metrics("stays")).await?.len() == 20);
    system.register("gone").await?;
    system.stack.stop().await;
    Ok(())
}

#[tokio::test]
async fn recount_reports_counters_before_and_after() -> Result<()> {
    let system = System::start().await?;
    for n in 0..3 {
        system.register(&format!("m{n}")).await?;
    }
    let output = tokio::process::Command::new(Options::default().binaries.join("iot-meter"))
        .args(["recount", "--output", "json", "--local", "--data"])
        .arg(system.stack.data())
        .stderr(Stdio::inherit())
        .output()
        .await?;
    ensure!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let counts = answer["recounted"].as_array().with_context(|| format!("{answer}"))?;
    ensure!(counts.len() == 3, "{answer}");
    ensure!(counts[0]["after"] == json!({"active": 3, "inactive": 0}), "{answer}");
    ensure!(
        counts.iter().all(|of| of["before"] == of["after"] && of["skipped_shards"] == 0),
        "{answer}"
    );
    ensure!(system.get("/api/stats").await?["total_devices"] == 3);
    system.stack.stop().await;
    Ok(())
}
