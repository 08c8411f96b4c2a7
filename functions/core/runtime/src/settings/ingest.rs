//! Storage of messages.

use meter_domain::archive::Layout;
use meter_domain::state::DevicePolicy;

use super::{Alerting, Environment, Metrics, Presence, Settings};

/// Settings for the storage of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// `ARCHIVE_LAYOUT`: the objects of the archive, `batch` (default) or `message`; see
    /// [`Layout`].
    pub archive_layout: Layout,
    /// `REQUIRE_REGISTRATION`: `true` quarantines messages of unregistered devices; `false`
    /// (default) stores them, so that they are available once the device is registered.
    pub require_registration: bool,
    /// `MESSAGE_TTL_DAYS`: days after receipt when the index entry and the samples of a message are
    /// deleted, 1 to 36,500; 0 (default) keeps them. The lifecycle of the bucket alone deletes
    /// archive objects.
    pub message_ttl_days: u32,
    /// `MAX_METRICS_PER_DEVICE`: different metrics that a device can have, 1 to 1,000, default 64.
    /// Each takes about 150 bytes of the device state, which is read and written with every batch.
    pub max_metrics_per_device: u32,
}

impl Settings for Ingest {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self {
            archive_layout: environment.one_of(
                "ARCHIVE_LAYOUT",
                Layout::Batch,
                &[("batch", Layout::Batch), ("message", Layout::Message)],
            ),
            require_registration: environment.flag("REQUIRE_REGISTRATION", false),
            message_ttl_days: environment.integer("MESSAGE_TTL_DAYS", 0, 0..=36_500),
            max_metrics_per_device: environment.integer("MAX_METRICS_PER_DEVICE", 64, 1..=1_000),
        }
    }
}

impl Ingest {
    /// Days after which a message is deleted; `None` keeps it.
    pub fn message_ttl_days(&self) -> Option<u32> {
        (self.message_ttl_days > 0).then_some(self.message_ttl_days)
    }

    /// Returns the device policy of ingest.
    pub fn device_policy(
        &self,
        presence: &Presence,
        metrics: &Metrics,
        alerting: &Alerting,
    ) -> DevicePolicy {
        alerting.extend_policy(DevicePolicy {
            max_metrics: self.max_metrics_per_device as usize,
            rollup_gap_s: metrics.rollup_gap_s(),
            ..presence.device_policy()
        })
    }
}
