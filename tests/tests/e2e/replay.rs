//! The metric store is changed, there and back, and `devstack replay` brings what was measured along.

use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::system::System;
use devstack::{MetricStore, Options};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const DEVICE: &str = "m";
const MESSAGES: usize = 40;

/// A system on the same data as the one before, with another metric store.
async fn start(data: &std::path::Path, metric_store: MetricStore) -> Result<System> {
    let data = Some(data.to_owned());
    System::start_with(Options { data, metric_store, ..Options::default() }).await
}

/// Publishes readings of the last minutes; the `n`-th has the value `n`.
async fn publish(system: &System, readings: std::ops::Range<usize>) -> Result<()> {
    let mut connection = Device::connect(system.mqtt_port(), DEVICE).await?;
    for n in readings {
        let ts = Timestamp::now() - SignedDuration::from_secs(300 - n as i64);
        // With line breaks, which the archive does not keep.
        let message = json!({"v": 2, "device_id": DEVICE, "ts": ts.to_string(), "seq": n, "msg_type": "telemetry",
            "measurements": [{"type": "voltage_dc", "val": n}, {"type": "current_dc", "val": 2}]});
        connection.publish(&format!("iot/{DEVICE}/telemetry"), format!("{message:#}")).await?;
    }
    Ok(())
}

/// The device's points, when there are so many.
async fn points(system: &System, count: usize) -> Result<Vec<Value>> {
    let path = format!("/api/devices/{DEVICE}/metrics?start=-1d");
    system
        .eventually(&format!("{count} points"), || async {
            let points = system.list(&path).await?;
            ensure!(points.len() == count, "{} points", points.len());
            Ok(points)
        })
        .await
}

/// What a person does.
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

/// What it says when it has come to its end.
async fn replay_stdout(system: &System, arguments: &[&str]) -> Result<String> {
    let output = replay(system, arguments).await?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

#[tokio::test]
async fn what_was_measured_moves_to_another_metric_store_and_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let system = start(folder.path(), MetricStore::Dynamodb).await?;
    system.register(DEVICE).await?;
    publish(&system, 0..MESSAGES).await?;
    let measured = points(&system, 3 * MESSAGES).await?;
    system.stack.stop().await;

    let system = start(folder.path(), MetricStore::Timestream).await?;
    points(&system, 0).await?;
    let elsewhere = ["--start", "-1d", "--stop", "-1h"];
    ensure!(replay_stdout(&system, &elsewhere).await?.contains(" 0 messages"));
    let others = ["--start", "-1d", "--device", "other"];
    ensure!(replay_stdout(&system, &others).await?.contains(" 0 messages"));
    points(&system, 0).await?;
    for _ in 0..2 {
        let said = replay_stdout(&system, &["--start", "-1d"]).await?;
        ensure!(said.contains(" 40 messages and 120 points"), "{said}");
        ensure!(points(&system, 3 * MESSAGES).await? == measured);
    }
    publish(&system, MESSAGES..2 * MESSAGES).await?;
    let measured = points(&system, 6 * MESSAGES).await?;
    system.stack.stop().await;

    let system = start(folder.path(), MetricStore::Dynamodb).await?;
    let said = replay_stdout(&system, &["--start", "-1d", "--device", DEVICE]).await?;
    ensure!(said.contains(" 80 messages and 240 points"), "{said}");
    ensure!(points(&system, 6 * MESSAGES).await? == measured);
    let files = system.list(&format!("/api/devices/{DEVICE}/raw-data")).await?;
    ensure!(files.len() == 2 * MESSAGES, "{} messages", files.len());
    let alerts = system.list(&format!("/api/devices/{DEVICE}/alerts")).await?;
    ensure!(alerts.is_empty(), "{alerts:?}");
    system.stack.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_run_that_ended_on_its_way_is_gone_on_with_and_what_is_wrong_is_named() -> Result<()> {
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
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(named), "{arguments:?}: {said}");
    }

    // Stopped at once, before or after it has noted something; then whole, however that was.
    let mut child = tokio::process::Command::new(Options::default().binaries.join("replay"))
        .args(["--start", "-1d"])
        .envs(system.stack.settings())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    child.kill().await?;
    let said = replay_stdout(&system, &["--start", "-1d"]).await?;
    ensure!(said.contains(" 3 messages and 9 points"), "{said}");
    points(&system, 9).await?;
    system.stack.stop().await;
    Ok(())
}
