//! Operations on a running system: purge of a device, recount of the fleet.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::expect::{expect_eq, expect_len};
use blackbox::system::System;
use devstack::Options;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const ALL_TIME: &str = "start=1970-01-01T00:00:00Z&stop=2100-01-01T00:00:00Z";

/// The archived messages of a device.
async fn raw_data(system: &System, device: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for file in system.list(&format!("/api/devices/{device}/raw-data")).await? {
        let name = file["filename"].as_str().context("the file has no name")?;
        all.push(system.get(&format!("/api/devices/{device}/raw-data/{name}")).await?);
    }
    Ok(all)
}

#[tokio::test]
async fn purge_removes_only_the_data_of_its_device() -> Result<()> {
    let system = System::start().await?;
    let mut connection = Device::connect(system.mqtt_port(), "both").await?;
    for device in ["purged", "kept"] {
        system.register(device).await?;
    }
    // Alternating, so that the devices share objects of the archive.
    for n in 0..20 {
        for device in ["purged", "kept"] {
            let message = json!({"v": 2, "device_id": device, "ts": format!("2026-03-01T12:00:{n:02}Z"), "seq": n,
                "msg_type": "telemetry", "measurements": [{"type": "pf", "val": n}]});
            connection.publish(&format!("iot/{device}/telemetry"), message.to_string()).await?;
        }
    }
    let metrics = |device: &str| format!("/api/devices/{device}/metrics?{ALL_TIME}");
    for device in ["purged", "kept"] {
        system
            .eventually("20 points", || async {
                let path = metrics(device);
                expect_len(&format!("GET {path}"), &system.list(&path).await?, 20)
            })
            .await?;
    }
    let kept = raw_data(&system, "kept").await?;
    expect_len("GET /api/devices/kept/raw-data", &kept, 20)?;

    let path = "/api/devices/purged?purge=true";
    let response = system.send(Method::DELETE, path, None).await?;
    response.expect_status(&format!("DELETE {path}"), StatusCode::ACCEPTED)?;
    let latest = "/api/devices/purged/metrics/latest".to_owned();
    system
        .eventually("the purge", || async {
            for path in
                ["/api/devices/purged/raw-data".to_owned(), metrics("purged"), latest.clone()]
            {
                expect_len(&format!("GET {path}"), &system.list(&path).await?, 0)?;
            }
            Ok(())
        })
        .await?;
    expect_eq("GET /api/devices/kept/raw-data", &raw_data(&system, "kept").await?, &kept)?;
    expect_len("GET /api/devices/kept/metrics", &system.list(&metrics("kept")).await?, 20)?;
    system.register("purged").await?;
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
