//! Throughput: publishes many messages at the maximum rate and reads all of them back.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use simulator::config::Broker;
use tokio::time::{Instant, sleep};

use super::compare::{Difference, compare_archive, compare_file_names, compare_points};
use super::model::{DeviceLoad, LoadSpec};
use super::publisher::Publisher;
use super::rest::RestClient;
use crate::wait::Progress;

/// Devices that are read at the same time; more would slow down ingest.
const MAX_CONCURRENT_READS: usize = 4;
/// The time between two reads of an incomplete device.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The result of publishing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PublishResult {
    /// Messages that the broker has acknowledged, including repeats.
    pub acknowledged: u64,
    /// The time from the first publish to the last acknowledgement.
    pub elapsed: Duration,
    /// Connections that were lost and reopened.
    pub reconnects: u64,
}

/// Publishes every message of every device `repeat` times: the same bytes, all of them in each
/// round. `acknowledged` counts the acknowledgements.
///
/// # Errors
///
/// If the broker does not respond.
pub async fn publish(
    broker: &Broker,
    devices: &[DeviceLoad],
    repeat: usize,
    acknowledged: &AtomicU64,
) -> Result<PublishResult> {
    let connect = devices.iter().map(|device| Publisher::connect(broker, &device.device_id));
    let publishers: Vec<Publisher> =
        stream::iter(connect).buffered(devices.len().max(1)).try_collect().await?;
    let started_at = Instant::now();
    let publishing = devices.iter().zip(publishers).map(async |(device, mut publisher)| {
        for _ in 0..repeat {
            let payloads = device.messages.iter().map(|message| message.payload.clone());
            publisher.publish_all(&device.topic(), payloads, acknowledged).await?;
        }
        anyhow::Ok(publisher)
    });
    let publishers: Vec<Publisher> = futures::future::try_join_all(publishing).await?;
    let elapsed = started_at.elapsed();
    let reconnects = publishers.iter().map(Publisher::reconnects).sum();
    futures::future::join_all(publishers.into_iter().map(Publisher::close)).await;
    let messages: usize = devices.iter().map(|device| device.messages.len()).sum();
    Ok(PublishResult { acknowledged: (messages * repeat) as u64, elapsed, reconnects })
}

/// Waits until all points and messages of every device are readable. Returns false if no further
/// point or message became readable for the duration `no_progress`. `complete` counts the devices.
///
/// # Errors
///
/// If the API cannot be read at the end of the wait.
pub async fn wait_until_readable(
    rest: &RestClient,
    devices: &[DeviceLoad],
    no_progress: Duration,
    complete: &AtomicU64,
) -> Result<bool> {
    let readable = AtomicU64::new(0);
    let progress = RefCell::new(Progress::new(no_progress));
    let waits = devices.iter().map(async |device| {
        let expected = (device.points().count() + device.messages.len()) as u64;
        let mut counted = 0;
        loop {
            let actual = readable_count(rest, device).await;
            if let Ok(actual) = actual {
                readable.fetch_add(actual.saturating_sub(counted), Ordering::Relaxed);
                counted = counted.max(actual);
                if actual >= expected {
                    complete.fetch_add(1, Ordering::Relaxed);
                    return Ok(true);
                }
            }
            if progress.borrow_mut().is_stalled(readable.load(Ordering::Relaxed)) {
                // An API that cannot be read is an error, a missing message is a difference.
                return actual
                    .map(|_| false)
                    .with_context(|| format!("reading {}", device.device_id));
            }
            sleep(POLL_INTERVAL).await;
        }
    });
    let complete: Vec<bool> =
        stream::iter(waits).buffer_unordered(MAX_CONCURRENT_READS).try_collect().await?;
    Ok(complete.into_iter().all(|complete| complete))
}

/// The number of points and archived messages of a device, at most those that it published.
async fn readable_count(rest: &RestClient, device: &DeviceLoad) -> Result<u64> {
    let Some(range) = device.range() else { return Ok(0) };
    let points = rest.points(&device.device_id, range).await?.len();
    let files = rest.file_names(&device.device_id).await?.len();
    Ok((points.min(device.points().count()) + files.min(device.messages.len())) as u64)
}

/// Reads all points and messages and compares them with the model.
///
/// # Errors
///
/// If a response of the API violates its contract.
pub async fn verify(rest: &RestClient, devices: &[DeviceLoad]) -> Result<Vec<Difference>> {
    let reads = devices.iter().map(async |device| {
        let mut differences = Vec::new();
        if let Some(range) = device.range() {
            let points = rest.points(&device.device_id, range).await?;
            differences.extend(compare_points(device, &points));
        }
        let names = rest.file_names(&device.device_id).await?;
        differences.extend(compare_file_names(device, &names));
        let archived = rest.archived(&device.device_id).await?;
        differences.extend(compare_archive(device, &archived));
        anyhow::Ok(differences)
    });
    let found: Vec<Vec<Difference>> =
        stream::iter(reads).buffered(MAX_CONCURRENT_READS).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Reads all points and messages and fails if they differ from the model.
///
/// # Errors
///
/// If a response of the API violates its contract; the number of differences and the first ten.
pub async fn expect_no_differences(rest: &RestClient, devices: &[DeviceLoad]) -> Result<()> {
    let differences = verify(rest, devices).await?;
    let shown: Vec<String> = differences.iter().take(10).map(ToString::to_string).collect();
    anyhow::ensure!(
        differences.is_empty(),
        "{} differences between published and stored messages, first:\n{}",
        differences.len(),
        shown.join("\n")
    );
    Ok(())
}

/// Publishes one message of a new device and waits until it is readable. Messages that were
/// published before have then most likely been processed; a repeated message has no other
/// observable effect.
///
/// # Errors
///
/// If the broker does not respond, or the message does not become readable within `no_progress`.
pub async fn flush(
    broker: &Broker,
    rest: &RestClient,
    run: u32,
    no_progress: Duration,
) -> Result<()> {
    let spec = LoadSpec { prefix: "load-last", run, clients: 1, messages: 1, measurements: 1 };
    let ignored = AtomicU64::new(0);
    let device = spec.devices();
    publish(broker, &device, 1, &ignored).await?;
    let readable = wait_until_readable(rest, &device, no_progress, &ignored).await?;
    anyhow::ensure!(readable, "the message published after all others did not become readable");
    Ok(())
}

/// Registers all devices.
///
/// # Errors
///
/// If the API rejects a device.
pub async fn register(rest: &RestClient, devices: &[DeviceLoad]) -> Result<()> {
    let requests = devices.iter().map(|device| rest.register(&device.device_id));
    stream::iter(requests).buffer_unordered(MAX_CONCURRENT_READS).try_collect().await
}
