//! Bursts, also with killed processes: each message that the broker acknowledged is stored once.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use blackbox::load::model::{DeviceLoad, LoadSpec};
use blackbox::load::rest::RestClient;
use blackbox::load::throughput;
use blackbox::system::System;
use blackbox::wait::NO_PROGRESS;
use devstack::{MetricStore, Options};
use simulator::config::Broker;

/// A run number in the past.
const RUN: u32 = 1_750_000_000;

fn burst_devices(messages: usize) -> Vec<DeviceLoad> {
    LoadSpec { prefix: "burst", run: RUN, clients: 50, messages, measurements: 1 }.devices()
}

fn broker(system: &System) -> Result<Broker> {
    format!("127.0.0.1:{}", system.mqtt_port()).parse().map_err(anyhow::Error::msg)
}

/// Waits until all messages and one published after them are readable, then compares.
async fn assert_stored_once(system: &System, devices: &[DeviceLoad]) -> Result<()> {
    let rest = RestClient::new(&system.stack.rest_url())?;
    throughput::wait_until_readable(&rest, devices, NO_PROGRESS, &AtomicU64::new(0)).await?;
    throughput::flush(&broker(system)?, &rest, RUN, NO_PROGRESS).await?;
    throughput::expect_no_differences(&rest, devices).await
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_burst_of_ten_thousand_messages_is_stored_once() -> Result<()> {
    let system = System::start().await?;
    let devices = burst_devices(10_000);
    for _ in 0..2 {
        throughput::publish(&broker(&system)?, &devices, 1, &AtomicU64::new(0)).await?;
        assert_stored_once(&system, &devices).await?;
    }
    system.stack.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_messages_survive_killed_processes_under_load() -> Result<()> {
    let mut system = System::start().await?;
    let devices = burst_devices(3_000);
    let (first, second) = devices.split_at(25);
    let broker = broker(&system)?;

    throughput::publish(&broker, first, 1, &AtomicU64::new(0)).await?;
    // While messages are being forwarded to the queue.
    system.stack.pause("iot-core").await?;
    throughput::publish(&broker, second, 1, &AtomicU64::new(0)).await?;
    system.stack.resume("iot-core").await?;
    // While messages are being stored. The supervision of the dev stack replaces the process.
    let before = system.stack.pid("ingest-1")?.context("ingest-1 is not running")?;
    system.stack.kill("ingest-1")?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    system.stack.kill("iot-core")?;

    assert_stored_once(&system, &devices).await?;
    system
        .eventually("the replacement of ingest-1", || async {
            let after = system.stack.pid("ingest-1")?.context("ingest-1 was not replaced")?;
            ensure!(before != after, "ingest-1 still has process id {before}");
            Ok(())
        })
        .await?;
    system.stack.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_keeps_stored_and_queued_messages() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let options = Options { data: Some(folder.path().to_owned()), ..Options::default() };
    let system = System::start_with(options.clone()).await?;
    system.register("m").await?;
    let devices = burst_devices(1_000);
    throughput::publish(&broker(&system)?, &devices, 1, &AtomicU64::new(0)).await?;
    system.stack.stop().await;

    let system = System::start_with(options).await?;
    assert_stored_once(&system, &devices).await?;
    system.get("/api/devices/m").await?;
    system.stack.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_burst_is_stored_once_in_timestream() -> Result<()> {
    let options = Options { metric_store: MetricStore::Timestream, ..Options::default() };
    let system = System::start_with(options).await?;
    // Within the retention of Timestream.
    let now = jiff::Timestamp::now().as_second() - 600;
    let run = u32::try_from(now).context("the system clock is out of range")?;
    let spec = LoadSpec { prefix: "stream", run, clients: 20, messages: 1_000, measurements: 3 };
    let devices = spec.devices();
    for _ in 0..2 {
        throughput::publish(&broker(&system)?, &devices, 1, &AtomicU64::new(0)).await?;
        assert_stored_once(&system, &devices).await?;
    }
    system.stack.stop().await;
    Ok(())
}
