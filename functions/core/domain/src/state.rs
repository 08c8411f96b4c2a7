//! The state of a device: a pure function of its messages and of the requests about it.
//!
//! Each device has one state item, written as an optimistic update (docs/adr/0011). Effects on
//! other items are part of the same write, in [`DeviceState::outbox`] (docs/adr/0004). Their ids
//! are derived from their cause, so a crash neither loses nor duplicates an effect.

mod apply;
mod checks;
mod deletion;
mod evaluation;
mod gap_alert;
mod latest;
mod notifications;
mod offline_alert;
mod outbox;
mod pending_rollups;
mod policy;
mod presence;
mod upgrade;

use serde::{Deserialize, Serialize};

pub use self::deletion::{DeviceCleanup, PurgeStage};
pub use self::evaluation::Evaluation;
pub use self::gap_alert::GapAlert;
pub use self::latest::LatestPoints;
pub use self::outbox::{Effect, Outbox};
pub use self::pending_rollups::{Hour, PendingHours, PendingRollups, hour_of, start_of_hour};
pub use self::policy::{DevicePolicy, NotificationPolicy};
pub use self::presence::{Connection, OfflineAlert, Presence};
pub use self::upgrade::Upgrade;
use crate::id::DeviceId;
use crate::message::Hello;
use crate::metric::MetricName;
use crate::sequence::Sequence;
use crate::time::Timestamp;

/// Everything that is derived from the messages of a device. The settings of the owner are in the
/// registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceState {
    /// The device.
    pub device_id: DeviceId,
    /// Number of writes of the item; 0: never written. A write is conditional on the version that
    /// was read.
    #[serde(skip)]
    pub version: u64,
    /// Whether the device is in the registry; set in the transactions that register and delete it.
    pub registered: bool,
    /// Type of the device in the registry, for the scope of alert rules; set in the transactions
    /// that change it.
    #[serde(skip)]
    pub device_type: Option<String>,
    /// Connection status of the device.
    pub presence: Presence,
    /// Boot sessions and sequence numbers.
    #[serde(default)]
    pub sequence: Sequence,
    /// The latest hello message and its receipt time.
    #[serde(default)]
    pub hello: Option<(Timestamp, Hello)>,
    /// Firmware version as last reported by a hello message or over REST.
    #[serde(default)]
    pub fw_version: Option<String>,
    /// The newest point of each metric by device time. The keys are the metrics of the device.
    #[serde(default)]
    pub latest: LatestPoints,
    /// Hours whose rollups are out of date.
    #[serde(default)]
    pub pending_rollups: PendingRollups,
    /// Number of samples that were not stored because of the metric limit.
    #[serde(default)]
    pub samples_rejected: u64,
    /// The firmware upgrade that the device reported last.
    #[serde(default)]
    pub upgrade: Option<Upgrade>,
    /// The open alert for missing sequence numbers.
    #[serde(default)]
    pub gap_alert: Option<GapAlert>,
    /// Progress of the alert rules.
    #[serde(default, skip_serializing_if = "Evaluation::is_empty")]
    pub evaluation: Evaluation,
    /// Report interval in seconds from the configuration of the device; `None`: the defaults of
    /// docs/protocol.md.
    #[serde(default)]
    pub report_interval_s: Option<u32>,
    /// The cleanup of a deleted device, until it is complete.
    #[serde(default)]
    pub cleanup: Option<DeviceCleanup>,
    /// Time of the last purge request. Archived messages received up to then are not replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged_at: Option<Timestamp>,
    /// Deadline of the next check by the watchdog, rounded up to the minute. An index contains it,
    /// so it is not moved by each message.
    #[serde(default)]
    pub next_check: Option<Timestamp>,
    /// Effects that are not executed yet, in order.
    #[serde(default)]
    pub outbox: Outbox,
}

impl DeviceState {
    /// The state of a device without messages.
    pub fn new(device_id: DeviceId) -> Self {
        Self {
            device_id,
            version: 0,
            registered: false,
            device_type: None,
            presence: Presence::default(),
            sequence: Sequence::default(),
            hello: None,
            fw_version: None,
            latest: LatestPoints::default(),
            pending_rollups: PendingRollups::default(),
            samples_rejected: 0,
            upgrade: None,
            gap_alert: None,
            evaluation: Evaluation::default(),
            report_interval_s: None,
            cleanup: None,
            purged_at: None,
            next_check: None,
            outbox: Outbox::default(),
        }
    }

    /// Whether samples of this metric are stored.
    pub fn has_metric(&self, metric: &MetricName) -> bool {
        self.latest.contains_key(metric)
    }
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
