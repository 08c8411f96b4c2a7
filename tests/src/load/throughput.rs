//! Many messages as fast as they go, and then all of them read back.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use simulator::config::Broker;
use tokio::time::{Instant, sleep};

use super::compare::{Difference, compare_archive, compare_file_names, compare_points};
use super::model::{DeviceLoad, LoadSpec};
use super::publisher::Publisher;
use super::rest::RestClient;

/// Devices that are read at once: readers should not starve what they wait for.
const MAX_CONCURRENT_READS: usize = 4;
/// From one look at an unfinished device to the next.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// What publishing took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PublishResult {
    /// Messages that the broker has acknowledged, repeats included.
    pub acknowledged: u64,
    /// From the first publish to the last acknowledgement.
    pub elapsed: Duration,
    /// Connections that were lost on the way.
    pub reconnects: u64,
}

/// Publishes every message of every device, `repeat` times the same bytes: all once, then all again.
/// `acknowledged` rises as it goes.
///
/// # Errors
///
/// When the broker does not answer.
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

/// Waits until as much is readable as was published, of every device, and answers whether that was
/// before the deadline. `complete` rises with each device.
///
/// # Errors
///
/// When the API cannot be read even at the deadline.
pub async fn wait_until_readable(
    rest: &RestClient,
    devices: &[DeviceLoad],
    deadline: Instant,
    complete: &AtomicU64,
) -> Result<bool> {
    let waits = devices.iter().map(async |device| {
        loop {
            let seen = is_readable(rest, device).await;
            if matches!(seen, Ok(true)) {
                complete.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                return Ok(true);
            }
            if Instant::now() >= deadline {
                // A system that never came up is an error; one that is short of messages is a finding.
                return seen.with_context(|| format!("reading {}", device.device_id));
            }
            sleep(POLL_INTERVAL).await;
        }
    });
    let complete: Vec<bool> =
        stream::iter(waits).buffer_unordered(MAX_CONCURRENT_READS).try_collect().await?;
    Ok(complete.into_iter().all(|complete| complete))
}

async fn is_readable(rest: &RestClient, device: &DeviceLoad) -> Result<bool> {
    let Some(range) = device.range() else { return Ok(true) };
    if rest.points(&device.device_id, range).await?.len() < device.points().count() {
        return Ok(false);
    }
    Ok(rest.file_names(&device.device_id).await?.len() >= device.messages.len())
}

/// Reads everything and holds it against the model.
///
/// # Errors
///
/// When the API does not answer as its contract says.
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

/// Publishes one message of a new device and waits until it is readable: what was published before it
/// has then, most likely, been handled too. Repeats leave no other trace to wait for.
///
/// # Errors
///
/// When the broker does not answer, or the message cannot be read before the deadline.
pub async fn flush(broker: &Broker, rest: &RestClient, run: u32, deadline: Instant) -> Result<()> {
    let spec = LoadSpec { prefix: "load-last", run, clients: 1, messages: 1, measurements: 1 };
    let ignored = AtomicU64::new(0);
    let device = spec.devices();
    publish(broker, &device, 1, &ignored).await?;
    let readable = wait_until_readable(rest, &device, deadline, &ignored).await?;
    anyhow::ensure!(readable, "a message published after all others did not become readable");
    Ok(())
}

/// Registers all devices.
///
/// # Errors
///
/// When the API refuses.
pub async fn register(rest: &RestClient, devices: &[DeviceLoad]) -> Result<()> {
    let requests = devices.iter().map(|device| rest.register(&device.device_id));
    stream::iter(requests).buffer_unordered(MAX_CONCURRENT_READS).try_collect().await
}
