//! One message at a time: how long from its publish until it can be read.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Result;
use simulator::config::Broker;
use tokio::time::{Instant, sleep};

use super::model::{DeviceLoad, LoadMessage};
use super::publisher::Publisher;
use super::rest::RestClient;

/// From one question to the next: short beside what is measured, long enough not to be the load.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// One message's times, from the moment before it was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatencySample {
    /// Until the broker acknowledged it.
    pub acknowledged: Duration,
    /// Until `GET metrics` showed it; none if that did not happen in time.
    pub readable_after: Option<Duration>,
    /// How long the last question took to be answered: the measurement is no finer than that.
    pub query_duration: Duration,
}

/// Publishes the messages of a device one by one, each when the one before is visible.
///
/// # Errors
///
/// When the broker or the API does not answer.
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
        let asked = Instant::now();
        let points = rest.points(&device.device_id, range).await?;
        let query_duration = asked.elapsed();
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

/// A few numbers that stand for many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiles {
    /// The shortest.
    pub min: Duration,
    /// Half are no longer.
    pub median: Duration,
    /// 95 of 100 are no longer.
    pub p95: Duration,
    /// The longest.
    pub max: Duration,
}

impl Quantiles {
    /// By the nearest-rank method: each is one of the values. None of nothing.
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
    fn quantiles_are_values_that_occurred() {
        assert_eq!(of((1..=100).rev()), Some([1, 50, 95, 100]));
        assert_eq!(of([7]), Some([7, 7, 7, 7]));
        assert_eq!(of([1, 1_000]), Some([1, 1, 1_000, 1_000]));
        assert_eq!(of([]), None);
    }
}
