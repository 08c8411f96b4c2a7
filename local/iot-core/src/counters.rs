//! Counters of messages and invocations.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::info;

const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// A monotonic counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: usize) {
        self.0.fetch_add(amount as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a running emulator.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Messages from the broker that match a rule.
    pub(crate) received: Counter,
    /// Messages that were discarded: too large, or with QoS 0 while the queue was unavailable.
    pub(crate) dropped: Counter,
    /// Messages that the queue accepted.
    pub(crate) queued: Counter,
    /// Records that a function processed.
    pub(crate) consumed: Counter,
    /// Records that stay in the queue because a function failed.
    pub(crate) failed: Counter,
    /// Invocations by event source mappings.
    pub(crate) invocations: Counter,
    /// Invocations by schedules.
    pub(crate) scheduled: Counter,
    /// Messages published through iot-data.
    pub(crate) published: Counter,
}

/// The counter values at one instant.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct CounterSnapshot {
    received: u64,
    dropped: u64,
    queued: u64,
    consumed: u64,
    failed: u64,
    invocations: u64,
    scheduled: u64,
    published: u64,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> CounterSnapshot {
        CounterSnapshot {
            received: self.received.get(),
            dropped: self.dropped.get(),
            queued: self.queued.get(),
            consumed: self.consumed.get(),
            failed: self.failed.get(),
            invocations: self.invocations.get(),
            scheduled: self.scheduled.get(),
            published: self.published.get(),
        }
    }
}

/// Logs the changes of the counters every ten seconds, if there are any.
pub(crate) async fn report(
    counters: Arc<Counters>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut ticks = interval(REPORT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let (mut before, mut since) = (CounterSnapshot::default(), Instant::now());
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let after = counters.snapshot();
        if let Some(line) = summary_line(before, after, since.elapsed()) {
            info!("{line}");
        }
        (before, since) = (after, Instant::now());
    }
    Ok(())
}

fn summary_line(
    before: CounterSnapshot,
    after: CounterSnapshot,
    elapsed: Duration,
) -> Option<String> {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = |what, before, after| {
        (after > before).then(|| format!("{what} {:.1}/s", (after - before) as f64 / seconds))
    };
    let number =
        |what, before, after| (after > before).then(|| format!("{what} {}", after - before));
    let parts: Vec<_> = [
        rate("received", before.received, after.received),
        rate("queued", before.queued, after.queued),
        rate("consumed", before.consumed, after.consumed),
        number("invocations", before.invocations, after.invocations),
        number("scheduled", before.scheduled, after.scheduled),
        number("published", before.published, after.published),
        number("FAILED", before.failed, after.failed),
        number("DROPPED", before.dropped, after.dropped),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unchanged_counters_are_not_reported() {
        let counts = CounterSnapshot { received: 5, ..CounterSnapshot::default() };
        assert_eq!(summary_line(counts, counts, REPORT_INTERVAL), None);
    }

    #[test]
    fn report_contains_rates_of_changed_counters_only() {
        let before = CounterSnapshot { received: 100, failed: 7, ..CounterSnapshot::default() };
        let after = CounterSnapshot {
            received: 1_100,
            queued: 990,
            consumed: 500,
            invocations: 4,
            failed: 9,
            ..before
        };
        assert_eq!(
            summary_line(before, after, REPORT_INTERVAL).unwrap(),
            "received 100.0/s, queued 99.0/s, consumed 50.0/s, invocations 4, FAILED 2"
        );
    }
}
