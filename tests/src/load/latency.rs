//! Latency: publishes one message at a time and measures the time until it is readable.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Result;
use simulator::config::Broker;
use tokio::time::{Instant, sleep};

use super::model::{DeviceLoad, LoadMessage};
use super::publisher::Publisher;
use super::rest::RestClient;

/// The time between two queries: short compared with the latency, and long enough not to load the
/// system.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The times of one message, measured from its publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatencySample {
    /// The time until the acknowledgement of the broker.
    pub acknowledged: Duration,
    /// The time until `GET metrics` returned it; `None` after the timeout.
    pub readable_after: Option<Duration>,
    /// The duration of the last query, which is the resolution of the measurement.
    pub query_duration: Duration,
}

/// Publishes the messages of a device one by one, each after the previous one is readable.
///
/// # Errors
///
/// If the broker or the API does not respond.
pub async fn measure(
    broker: &Broker,
    rest: &RestClient,
    device: &DeviceLoad,
    timeout: Duration,
    mut progress: impl FnMut(usize, &LatencySample),
) -> Result<Vec<LatencySample>> {
    let mut publisher = Publisher::connect(broker, &device.device_id).await?;
    let mut samples = Vec::with_capacity(device.messages.len());
    for (n, message) in device.messages.iter().enumerate() {
        let sample = sample(&mut publisher, rest, device, message, timeout).await?;
        progress(n + 1, &sample);
        samples.push(sample);
    }
    publisher.close().await;
    Ok(samples)
}

async fn sample(
    publisher: &mut Publisher,
    rest: &RestClient,
    device: &DeviceLoad,
    message: &LoadMessage,
    timeout: Duration,
) -> Result<LatencySample> {
    let alone = DeviceLoad { device_id: device.device_id.clone(), messages: vec![message.clone()] };
    let ignored = AtomicU64::new(0);
    let started_at = Instant::now();
    publisher.publish_all(&device.topic(), [message.payload.clone()], &ignored).await?;
    let acknowledged = started_at.elapsed();
    let Some(range) = alone.range() else {
        return Ok(LatencySample {
            acknowledged,
            readable_after: None,
            query_duration: Duration::ZERO,
        });
    };
    loop {
        let query_started_at = Instant::now();
        let points = rest.points(&device.device_id, range).await?;
        let query_duration = query_started_at.elapsed();
        if points.len() >= message.points.len() {
            let readable_after = Some(started_at.elapsed());
            return Ok(LatencySample { acknowledged, readable_after, query_duration });
        }
        if started_at.elapsed() > timeout {
            return Ok(LatencySample { acknowledged, readable_after: None, query_duration });
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Quantiles of durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiles {
    /// The minimum.
    pub min: Duration,
    /// The median.
    pub median: Duration,
    /// The 95th percentile.
    pub p95: Duration,
    /// The maximum.
    pub max: Duration,
}

impl Quantiles {
    /// Computes quantiles by the nearest-rank method. `None` without values.
    pub fn of(values: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut sorted: Vec<_> = values.into_iter().collect();
        sorted.sort_unstable();
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).copied()
        };
        Some(Self { min: rank(0)?, median: rank(50)?, p95: rank(95)?, max: rank(100)? })
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |d: Duration| d.as_secs_f64() * 1_000.0;
        write!(
            f,
            "min {:>8.1} ms   median {:>8.1} ms   p95 {:>8.1} ms   max {:>8.1} ms",
            ms(self.min),
            ms(self.median),
            ms(self.p95),
            ms(self.max)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Option<[u64; 4]> {
        let quantiles = Quantiles::of(values.into_iter().map(Duration::from_millis))?;
        let Quantiles { min, median, p95, max } = quantiles;
        Some([min, median, p95, max].map(|d| d.as_millis() as u64))
    }

    #[test]
    fn quantiles_use_the_nearest_rank() {
        assert_eq!(of((1..=100).rev()), Some([1, 50, 95, 100]));
        assert_eq!(of([7]), Some([7, 7, 7, 7]));
        assert_eq!(of([1, 1_000]), Some([1, 1, 1_000, 1_000]));
        assert_eq!(of([]), None);
    }
}
