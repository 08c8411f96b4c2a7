//! Bursts, and what dies under them: every message acknowledged to its device is there, once.

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

/// Instants before this one are in the past on any clock.
const RUN: u32 = 1_750_000_000;

fn burst_devices(messages: usize) -> Vec<DeviceLoad> {
    LoadSpec { prefix: "burst", run: RUN, clients: 50, messages, measurements: 1 }.devices()
}

fn broker(system: &System) -> Result<Broker> {
    format!("127.0.0.1:{}", system.mqtt_port()).parse().map_err(anyhow::Error::msg)
}

/// Waits until everything is readable, then for a message published after it all, then compares.
async fn assert_stored_once(system: &System, devices: &[DeviceLoad]) -> Result<()> {
    let rest = RestClient::new(&system.stack.rest_url())?;
    throughput::wait_until_readable(&rest, devices, NO_PROGRESS, &AtomicU64::new(0)).await?;
    throughput::flush(&broker(system)?, &rest, RUN, NO_PROGRESS).await?;
    throughput::expect_no_differences(&rest, devices).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_messages_of_fifty_clients_are_there_once_and_so_are_they_when_published_again()
-> Result<()> {
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
async fn what_was_acknowledged_survives_the_death_of_the_edge_and_of_functions_under_load()
-> Result<()> {
    let mut system = System::start().await?;
    let devices = burst_devices(3_000);
    let (first, second) = devices.split_at(25);
    let broker = broker(&system)?;

    throughput::publish(&broker, first, 1, &AtomicU64::new(0)).await?;
    // In the middle of handing them on.
    system.stack.pause("iot-core").await?;
    throughput::publish(&broker, second, 1, &AtomicU64::new(0)).await?;
    system.stack.resume("iot-core").await?;
    // In the middle of storing them: one does not come back by itself, supervision replaces it.
    let before = system.stack.pid("ingest-1")?.context("it runs")?;
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
async fn a_second_run_finds_the_data_of_the_first_and_what_was_still_on_its_way() -> Result<()> {
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
async fn measurements_that_are_kept_in_timestream_are_there_once_as_well() -> Result<()> {
    let options = Options { metric_store: MetricStore::Timestream, ..Options::default() };
    let system = System::start_with(options).await?;
    // Timestream takes what is about as old as now.
    let now = jiff::Timestamp::now().as_second() - 600;
    let run = u32::try_from(now).context("the clock")?;
    let spec = LoadSpec { prefix: "stream", run, clients: 20, messages: 1_000, measurements: 3 };
    let devices = spec.devices();
    for _ in 0..2 {
        throughput::publish(&broker(&system)?, &devices, 1, &AtomicU64::new(0)).await?;
        assert_stored_once(&system, &devices).await?;
    }
    system.stack.stop().await;
    Ok(())
}
