//! `devstack replay` rebuilds the metrics of another metric store from the archive.

use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::expect::{expect_eq, expect_len};
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

/// Runs `devstack replay`.
async fn replay(system: &System, arguments: &[&str]) -> Result<Output> {
    let output = tokio::process::Command::new(Options::default().binaries.join("devstack"))
        .arg("--data")
        .arg(system.stack.data())
        .arg("replay")
        .args(arguments)
        .stderr(Stdio::piped())
        .output()
        .await
        .context("cannot run devstack replay")?;
    Ok(output)
}

/// Runs `devstack replay`, which must succeed, and returns its output.
async fn replay_stdout(system: &System, arguments: &[&str]) -> Result<String> {
    let output = replay(system, arguments).await?;
    let report = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    Ok(report)
}

#[tokio::test]
async fn replay_moves_metrics_to_another_store_and_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let system = start(folder.path(), MetricStore::Dynamodb).await?;
    system.register(DEVICE).await?;
    publish(&system, 0..MESSAGES).await?;
    let measured = points(&system, 3 * MESSAGES).await?;
    system.stack.stop().await;

    let system = start(folder.path(), MetricStore::Timestream).await?;
    points(&system, 0).await?;
    for filter in [["--stop", "-1h"], ["--device", "other"]] {
        let report = replay_stdout(&system, &[&["--start", "-1d"], &filter[..]].concat()).await?;
        ensure!(report.contains(" 0 messages"), "{filter:?}: {report}");
    }
    points(&system, 0).await?;
    for _ in 0..2 {
        let report = replay_stdout(&system, &["--start", "-1d"]).await?;
        ensure!(report.contains(" 40 messages and 120 points"), "{report}");
        expect_eq("GET metrics", &points(&system, 3 * MESSAGES).await?, &measured)?;
    }
    publish(&system, MESSAGES..2 * MESSAGES).await?;
    let measured = points(&system, 6 * MESSAGES).await?;
    system.stack.stop().await;

    let system = start(folder.path(), MetricStore::Dynamodb).await?;
    let report = replay_stdout(&system, &["--start", "-1d", "--device", DEVICE]).await?;
    ensure!(report.contains(" 80 messages and 240 points"), "{report}");
    expect_eq("GET metrics", &points(&system, 6 * MESSAGES).await?, &measured)?;
    let files = system.list(&format!("/api/devices/{DEVICE}/raw-data")).await?;
    expect_len("GET raw-data", &files, 2 * MESSAGES)?;
    let alerts = system.list(&format!("/api/devices/{DEVICE}/alerts")).await?;
    expect_len("GET alerts", &alerts, 0)?;
    system.stack.stop().await;
    Ok(())
}

#[tokio::test]
async fn killed_replay_resumes_and_invalid_arguments_are_reported() -> Result<()> {
    let system = System::start().await?;
    system.register(DEVICE).await?;
    publish(&system, 0..3).await?;
    points(&system, 9).await?;
    for (arguments, named) in [
        (&["--start", "yesterday"][..], "--start"),
        (&["--start", "-1d", "--device", "a/b"], "--device"),
        (&["--start", "-1h", "--stop", "-1d"], "--stop"),
        (&[], "replay"),
    ] {
        let output = replay(&system, arguments).await?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && error.contains(named), "{arguments:?}: {error}");
    }

    // Killed before or after its first checkpoint; the next run completes in both cases.
    let mut child = tokio::process::Command::new(Options::default().binaries.join("replay"))
        .args(["--start", "-1d"])
        .envs(system.stack.settings())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    child.kill().await?;
    let report = replay_stdout(&system, &["--start", "-1d"]).await?;
    ensure!(report.contains(" 3 messages and 9 points"), "{report}");
    points(&system, 9).await?;
    system.stack.stop().await;
    Ok(())
}
