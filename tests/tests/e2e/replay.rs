//! `iot-meter replay` copies metrics to another metric store, and resumes a run that was killed.

use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::expect::expect_len;
use blackbox::system::System;
use devstack::{MetricStore, Options};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const DEVICE: &str = "m";
const MESSAGES: usize = 40;

/// Starts a system with a metric store on existing data.
async fn start(data: &std::path::Path, metric_store: MetricStore) -> Result<System> {
    let data = Some(data.to_owned());
    System::start_with(Options { data, metric_store, ..Options::default() }).await
}

/// Publishes messages of the last minutes; message `n` has the value `n`.
async fn publish(system: &System, numbers: std::ops::Range<usize>) -> Result<()> {
    let mut connection = Device::connect(system.mqtt_port(), DEVICE).await?;
    for n in numbers {
        let ts = Timestamp::now() - SignedDuration::from_secs(300 - n as i64);
        // With line breaks, which the archive removes.
        let message = json!({"v": 2, "device_id": DEVICE, "ts": ts.to_string(), "seq": n, "msg_type": "telemetry",
            "measurements": [{"type": "voltage_dc", "val": n}, {"type": "current_dc", "val": 2}]});
        connection.publish(&format!("iot/{DEVICE}/telemetry"), format!("{message:#}")).await?;
    }
    Ok(())
}

/// Waits until the device has exactly `count` points.
async fn points(system: &System, count: usize) -> Result<Vec<Value>> {
    let path = format!("/api/devices/{DEVICE}/metrics?start=-1d");
    system
        .eventually(&format!("{count} points"), || async {
            let points = system.list(&path).await?;
            expect_len(&format!("GET {path}"), &points, count)?;
            Ok(points)
        })
        .await
}

/// Runs the command for the local system.
async fn replay(system: &System, arguments: &[&str]) -> Result<Output> {
    let output = tokio::process::Command::new(Options::default().binaries.join("iot-meter"))
        .args(["replay", "--output", "json", "--local", "--data"])
        .arg(system.stack.data())
        .args(arguments)
        .stderr(Stdio::piped())
        .output()
        .await
        .context("cannot run iot-meter replay")?;
    Ok(output)
}

/// The counts of messages and points of a replay, which must succeed.
async fn replayed(system: &System, arguments: &[&str]) -> Result<(u64, u64)> {
    let output = replay(system, arguments).await?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let counts: Value = serde_json::from_str(&text)?;
    let count = |name: &str| counts[name].as_u64().with_context(|| format!("{name}: {text}"));
    Ok((count("messages")?, count("points")?))
}

#[tokio::test]
async fn replay_copies_metrics_to_another_metric_store_and_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let system = start(folder.path(), MetricStore::Dynamodb).await?;
    system.register(DEVICE).await?;
    publish(&system, 0..MESSAGES).await?;
    let measured = points(&system, 3 * MESSAGES).await?;
    system.stack.stop().await;

    let system = start(folder.path(), MetricStore::Timestream).await?;
    points(&system, 0).await?;
    let elsewhere = ["--start", "-1d", "--stop", "-1h"];
    ensure!(replayed(&system, &elsewhere).await? == (0, 0));
    let others = ["--start", "-1d", "--device", "other"];
    ensure!(replayed(&system, &others).await? == (0, 0));
    points(&system, 0).await?;
    for _ in 0..2 {
        ensure!(replayed(&system, &["--start", "-1d"]).await? == (40, 120));
        ensure!(points(&system, 3 * MESSAGES).await? == measured);
    }
    publish(&system, MESSAGES..2 * MESSAGES).await?;
    let measured = points(&system, 6 * MESSAGES).await?;
    system.stack.stop().await;

    let system = start(folder.path(), MetricStore::Dynamodb).await?;
    ensure!(replayed(&system, &["--start", "-1d", "--device", DEVICE]).await? == (80, 240));
    ensure!(points(&system, 6 * MESSAGES).await? == measured);
    let files = system.list(&format!("/api/devices/{DEVICE}/raw-data")).await?;
    expect_len("GET raw-data", &files, 2 * MESSAGES)?;
    let alerts = system.list(&format!("/api/devices/{DEVICE}/alerts")).await?;
    expect_len("GET alerts", &alerts, 0)?;
    system.stack.stop().await;
    Ok(())
}

#[tokio::test]
async fn replay_resumes_after_kill_and_refuses_invalid_arguments() -> Result<()> {
    let system = System::start().await?;
    system.register(DEVICE).await?;
    publish(&system, 0..3).await?;
    points(&system, 9).await?;
    for (arguments, named) in [
        (&["--start", "yesterday"][..], "--start"),
        (&["--start", "-1d", "--device", "a/b"], "--device"),
        (&["--start", "-1h", "--stop", "-1d"], "--stop"),
        (&[], "--start"),
    ] {
        let output = replay(&system, arguments).await?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2) && error.contains(named), "{arguments:?}: {error}");
    }

    // Killed before or after its first checkpoint.
    let mut child = tokio::process::Command::new(Options::default().binaries.join("iot-meter"))
        .args(["replay", "--start", "-1d", "--local", "--data"])
        .arg(system.stack.data())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    child.kill().await?;
    ensure!(replayed(&system, &["--start", "-1d"]).await? == (3, 9));
    points(&system, 9).await?;
    system.stack.stop().await;
    Ok(())
}
