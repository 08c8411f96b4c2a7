//! Ingests batches of messages: archive, segments and points, device states, effects, in this order
//! (docs/adr/0003).
//!
//! Each step is idempotent by message id. After a crash the messages are redelivered, in other
//! batches, with the same result. A message fails alone: it is redelivered, and the other messages
//! of its batch are stored. A message that no store can ever hold is quarantined instead.

mod batch;
mod counts;
mod device_batch;
mod storage;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use meter_domain::archive::{self, Layout};
use meter_domain::id::{DeviceId, MessageId};
use meter_domain::message::{ParseError, ReceivedMessage};
use meter_domain::state::{DevicePolicy, DeviceState};
use meter_domain::time::Timestamp;
use meter_store::{
    IngestLag, IngestLagStore, QuarantineEntry, QuarantineStore, StateStore, Stores, error_chain,
};
use uuid::Uuid;

use self::batch::Batch;
pub use self::counts::BatchCounts;
use self::counts::BatchProgress;
use crate::rule_cache::RuleCache;

/// Concurrent calls to one store.
const CONCURRENCY: usize = 16;

/// Seconds between two reports of the ingest lag by one process, at least.
const LAG_REPORT_INTERVAL_S: i64 = 10;

/// A message as it was delivered to ingest.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The id that the queue assigned to the delivery; empty without a queue.
    pub id: String,
    /// The message. If `parse_error` is set, it contains the body of the delivery.
    pub received: ReceivedMessage,
    /// Why the delivery is not a forwarded message.
    pub parse_error: Option<ParseError>,
}

/// The settings of ingestion.
#[derive(Debug, Clone)]
pub struct IngestionConfig {
    /// The layout of the archive.
    pub layout: Layout,
    /// The policy of all devices.
    pub policy: DevicePolicy,
    /// Days after which stored messages expire; none: never.
    pub ttl_days: Option<u32>,
    /// Whether messages of unregistered devices are quarantined.
    pub require_registration: bool,
}

/// Ingests batches of messages.
#[derive(Debug)]
pub struct Ingestion<S> {
    stores: S,
    alert_rules: RuleCache,
    config: IngestionConfig,
    /// Identifies this process in its lag reports.
    process_id: Uuid,
    /// When the lag was last reported, in seconds since the epoch.
    lag_reported_at: AtomicI64,
    /// The greatest age of a message since then, in seconds.
    lag_s: AtomicU32,
}

/// The result of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BatchReport {
    /// The indexes of the deliveries that failed and must be redelivered.
    pub failed: BTreeSet<usize>,
    /// The counts of the batch.
    pub counts: BatchCounts,
}

impl<S: Stores> Ingestion<S> {
    /// Ingestion into `stores`.
    pub fn new(stores: S, alert_rules: RuleCache, config: IngestionConfig) -> Self {
        Self {
            stores,
            alert_rules,
            config,
            process_id: Uuid::new_v4(),
            lag_reported_at: AtomicI64::new(i64::MIN),
            lag_s: AtomicU32::new(0),
        }
    }

    /// Ingests a batch; `now` is the clock.
    pub async fn ingest(&self, deliveries: &[Delivery], now: Timestamp) -> BatchReport {
        let mut batch = Batch::parse(deliveries);
        let mut progress = BatchProgress::default();
        progress.counts.received = deliveries.len();
        progress.counts.redelivered =
            deliveries.len() - batch.messages.len() - batch.rejected.len();

        let states = match self.stores.states().get_many(&batch.devices()).await {
            Ok(states) => states,
            Err(error) => {
                let message_ids = batch.messages.keys().copied();
                progress.fail("reading device states", message_ids, &error);
                batch.messages.clear();
                HashMap::new()
            }
        };
        progress.counts.unregistered = self.check_registration(&mut batch, &states);

        let (quarantined, stored) = futures::join!(
            self.quarantine(&batch.rejected),
            self.store(&batch.messages, &batch.redeliveries, states, now)
        );
        progress.merge(quarantined);
        progress.merge(stored);
        let not_storable = take_not_storable(&mut batch, &mut progress);
        progress.merge(self.quarantine(&not_storable).await);
        if progress.counts.stored + progress.counts.quarantined > 0 {
            self.report_lag(deliveries, now).await;
        }

        let failed = progress.failed.iter().filter_map(|id| batch.deliveries.get(id));
        let failed: BTreeSet<usize> = failed.flatten().copied().collect();
        let counts = BatchCounts { failed: failed.len(), ..progress.counts };
        BatchReport { failed, counts }
    }

    /// Rejects the messages of unregistered devices if registration is required. Returns how many
    /// there are.
    fn check_registration(
        &self,
        batch: &mut Batch,
        states: &HashMap<DeviceId, DeviceState>,
    ) -> usize {
        let is_registered = |id: &DeviceId| states.get(id).is_some_and(|state| state.registered);
        let unregistered = batch.messages.values().filter(|m| !is_registered(&m.device_id));
        let unregistered: Vec<MessageId> = unregistered.map(|m| m.message_id).collect();
        if self.config.require_registration {
            for message_id in &unregistered {
                if let Some(message) = batch.messages.remove(message_id) {
                    let rejection = (message.received, ParseError::UnregisteredDevice);
                    batch.rejected.insert(*message_id, rejection);
                }
            }
        }
        unregistered.len()
    }

    /// Stores rejected messages in the archive and in the index of the quarantine.
    async fn quarantine(
        &self,
        rejected: &BTreeMap<MessageId, (ReceivedMessage, ParseError)>,
    ) -> BatchProgress {
        let mut progress = BatchProgress::default();
        if rejected.is_empty() {
            return progress;
        }
        for (message_id, (received, reason)) in rejected {
            // A topic can be 64 KB.
            let topic: String = received.topic.chars().take(200).collect();
            tracing::warn!(%message_id, topic, %reason, "quarantined");
        }
        let lines: Vec<_> = rejected
            .iter()
            .map(|(message_id, (received, reason))| (*message_id, received, reason))
            .collect();
        let locations = self.put_objects(archive::pack_quarantine(&lines), &mut progress).await;
        let entries: Vec<_> = rejected
            .iter()
            .filter_map(|(message_id, (received, reason))| {
                Some(QuarantineEntry {
                    message_id: *message_id,
                    topic: received.topic.clone(),
                    received_at: received.received_at,
                    reason: reason.to_string(),
                    size: received.payload.len() as u64,
                    location: locations.get(message_id)?.clone(),
                })
            })
            .collect();
        if let Err(error) = self.stores.messages().put_quarantined(&entries).await {
            let message_ids = error.failed.iter().copied();
            progress.fail("indexing the quarantine", message_ids, &error);
        }
        progress.counts.quarantined = rejected.len() - progress.failed.len();
        progress
    }

    /// Reports the ingest lag to the watchdog, at most once per interval. A lost report has no
    /// effect.
    async fn report_lag(&self, deliveries: &[Delivery], now: Timestamp) {
        let oldest = deliveries.iter().map(|delivery| delivery.received.received_at).min();
        let lag_s = oldest.map_or(0, |oldest| now.as_seconds() - oldest.as_seconds());
        self.lag_s.fetch_max(u32::try_from(lag_s.max(0)).unwrap_or(u32::MAX), Ordering::Relaxed);
        let reported_at = self.lag_reported_at.load(Ordering::Relaxed);
        if now.as_seconds() < reported_at.saturating_add(LAG_REPORT_INTERVAL_S) {
            return;
        }
        self.lag_reported_at.store(now.as_seconds(), Ordering::Relaxed);
        let lag_s = self.lag_s.swap(0, Ordering::Relaxed);
        let lag = IngestLag { process_id: self.process_id, reported_at: now, lag_s };
        if let Err(error) = self.stores.states().record_ingest_lag(lag).await {
            tracing::warn!(error = error_chain(&error), "reporting the ingest lag failed");
        }
    }
}

/// Removes the failed messages that can never be stored from the failures, to be quarantined.
fn take_not_storable(
    batch: &mut Batch,
    progress: &mut BatchProgress,
) -> BTreeMap<MessageId, (ReceivedMessage, ParseError)> {
    let invalid = std::mem::take(&mut progress.invalid).into_iter();
    let rejections = invalid.filter_map(|(message_id, reason)| {
        let message = batch.messages.remove(&message_id)?;
        progress.failed.remove(&message_id);
        Some((message_id, (message.received, ParseError::NotStorable(reason))))
    });
    rejections.collect()
}

#[cfg(test)]
mod tests;
