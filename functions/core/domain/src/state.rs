//! The state of a device: a pure function of its messages and of the requests about it.
//!
//! Each device has one state item, written as an optimistic update (docs/adr/0011). Effects on
//! other items are part of the same write, in [`DeviceState::outbox`] (docs/adr/0004). Their ids
//! are derived from their cause, so a crash neither loses nor duplicates an effect.

mod apply;
mod checks;
mod evaluation;
mod notifications;
mod pending_rollups;
mod presence;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::checks::GapAlert;
pub use self::evaluation::Evaluation;
pub use self::pending_rollups::{Hour, PendingRollups, hour_of, start_of_hour};
pub use self::presence::{Connection, OfflineAlert, Presence};
use crate::alert::Alert;
use crate::alert::AlertRevision;
use crate::command::{AckResult, Ota};
use crate::id::DeviceId;
use crate::message::Hello;
use crate::metric::{MetricName, Point};
use crate::notification::Notification;
use crate::sequence::Sequence;
use crate::time::Timestamp;

/// Settings that apply to all devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevicePolicy {
    /// Maximum number of metrics of a device that are not known metrics.
    pub max_metrics: usize,
    /// Minimum silence, in seconds, after which a device is offline.
    pub offline_after_s: u32,
    /// Seconds after the end of an offline alert in which a new one reopens it.
    pub hold_down_s: u32,
    /// Seconds for which sequence numbers may be missing before an alert opens.
    pub gap_grace_s: u32,
    /// Longest gap, in seconds, that an integral bridges; `None`: rollups are disabled.
    pub rollup_gap_s: Option<u32>,
    /// Seconds after the end of an alert of a rule in which a new cause reopens it.
    pub rule_hold_down_s: u32,
    /// Reorder window of alert rules, in seconds of device time: a sample that arrives at most this
    /// much later than a newer one is still judged in order. Samples are held back for as long.
    pub reorder_s: u32,
    /// Alerts for which notifications are sent.
    pub notify: NotificationPolicy,
}

/// Alerts for which notifications are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationPolicy {
    /// None; no topic is configured.
    Disabled,
    /// Alerts of rules with `notify`.
    RulesOnly,
    /// Alerts of rules with `notify` and alerts of the platform.
    All,
}

impl Default for DevicePolicy {
    fn default() -> Self {
        Self {
            max_metrics: 64,
            offline_after_s: 60,
            hold_down_s: 300,
            gap_grace_s: 60,
            rollup_gap_s: Some(300),
            rule_hold_down_s: 300,
            reorder_s: 0,
            notify: NotificationPolicy::Disabled,
        }
    }
}

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
    pub latest: BTreeMap<MetricName, Point>,
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
    pub outbox: Vec<Effect>,
}

/// A firmware upgrade that is in progress, or that succeeded and waits for a hello message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// Id of the `start_ota` command.
    pub cmd_id: Uuid,
    /// Target version as reported by the device or, until then, as in the command.
    pub target: Option<String>,
    /// Receipt time of the first `success`. A hello message with the target version completes the
    /// upgrade.
    #[serde(default)]
    pub succeeded_at: Option<Timestamp>,
}

/// The cleanup of a deleted device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCleanup {
    /// Whether messages and archived data are removed as well.
    pub purge: bool,
    /// Time of the deletion. The cleanup is due from then on and is not postponed by messages.
    #[serde(default = "Timestamp::min")]
    pub since: Timestamp,
    /// Progress of a purge: messages before this time are removed. `None`: not started.
    #[serde(default)]
    pub purged_before: Option<Timestamp>,
    /// Progress of the archive search for messages without an index entry: objects received before
    /// this time are searched. `None`: the index is not empty yet.
    #[serde(default)]
    pub searched_before: Option<Timestamp>,
}

/// A change outside of the device state; executing it repeatedly has the same result as once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Create an alert.
    OpenAlert {
        /// The alert; its id is derived from its cause.
        alert: Alert,
    },
    /// Apply a change to an alert.
    ReviseAlert {
        /// Id of the alert.
        alert_id: Uuid,
        /// The change.
        revision: AlertRevision,
    },
    /// Record the acknowledgement of a command.
    RecordCommandAck {
        /// Id of the command.
        cmd_id: Uuid,
        /// Result in the acknowledgement.
        result: AckResult,
        /// Text of the device.
        detail: Option<String>,
        /// Receipt time of the acknowledgement.
        at: Timestamp,
    },
    /// Record the progress of a firmware upgrade.
    AdvanceOta {
        /// Id of the command.
        cmd_id: Uuid,
        /// The progress.
        ota: Ota,
    },
    /// Publish pending repeatable commands again, because the device came online.
    RepublishCommands {
        /// Time at which the device came online.
        at: Timestamp,
    },
    /// Send a notification.
    Notify {
        /// The notification.
        notification: Notification,
        /// Earliest time of sending.
        not_before: Timestamp,
        /// Time of the first failed attempt.
        since: Option<Timestamp>,
    },
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
            latest: BTreeMap::new(),
            pending_rollups: PendingRollups::default(),
            samples_rejected: 0,
            upgrade: None,
            gap_alert: None,
            evaluation: Evaluation::default(),
            report_interval_s: None,
            cleanup: None,
            purged_at: None,
            next_check: None,
            outbox: Vec::new(),
        }
    }

    /// Applies the registration of the device at `at`. Ends a cleanup.
    pub fn register(&mut self, at: Timestamp, policy: &DevicePolicy) {
        self.registered = true;
        self.cleanup = None;
        self.schedule_check(at, policy);
    }

    /// Applies the deletion of the device at `at` and starts its cleanup. `purge` removes messages
    /// and archived data as well.
    pub fn mark_deleted(&mut self, at: Timestamp, purge: bool, policy: &DevicePolicy) {
        self.registered = false;
        self.device_type = None;
        self.evaluation = Evaluation::default();
        self.outbox.clear();
        self.presence.alert = None;
        self.gap_alert = None;
        self.upgrade = None;
        self.report_interval_s = None;
        self.cleanup =
            Some(DeviceCleanup { purge, since: at, purged_before: None, searched_before: None });
        if purge {
            self.purged_at = self.purged_at.max(Some(at));
        }
        self.next_check = None;
        self.schedule_check(at, policy);
    }

    /// Applies a purge request at `at`, if the device is not registered.
    pub fn request_purge(&mut self, at: Timestamp, policy: &DevicePolicy) {
        if self.registered {
            return;
        }
        let since = self.cleanup.map_or(at, |cleanup| cleanup.since);
        let purged_before = self.cleanup.and_then(|cleanup| cleanup.purged_before);
        self.cleanup =
            Some(DeviceCleanup { purge: true, since, purged_before, searched_before: None });
        self.purged_at = self.purged_at.max(Some(at));
        self.schedule_check(at, policy);
    }

    /// Records that messages received before `before` are removed by the cleanup that started at
    /// `since`. The first call also resets everything that is derived from messages; later messages
    /// start from an empty state.
    pub fn record_purged_before(&mut self, since: Timestamp, before: Timestamp) {
        let is_this = |cleanup: &DeviceCleanup| !self.registered && cleanup.since == since;
        let Some(cleanup) = self.cleanup.filter(is_this) else { return };
        let purged_before = cleanup.purged_before.max(Some(before));
        if cleanup.purged_before.is_none() {
            let (version, next_check, purged_at) = (self.version, self.next_check, self.purged_at);
            *self = Self { version, next_check, purged_at, ..Self::new(self.device_id.clone()) };
        }
        self.cleanup = Some(DeviceCleanup { purged_before, ..cleanup });
    }

    /// Records that objects received before `before` have been searched by the cleanup that started
    /// at `since`.
    pub fn record_searched_before(&mut self, since: Timestamp, before: Timestamp) {
        if let Some(cleanup) = self.cleanup.as_mut().filter(|cleanup| cleanup.since == since) {
            cleanup.searched_before = cleanup.searched_before.max(Some(before));
        }
    }

    /// Completes the cleanup that started at `since`, unless the device was registered again
    /// meanwhile or a purge was requested that this cleanup did not include.
    pub fn complete_cleanup(&mut self, since: Timestamp, purged: bool) {
        if self.cleanup.is_some_and(|cleanup| cleanup.since == since && (purged || !cleanup.purge))
        {
            self.cleanup = None;
            self.next_check = None;
        }
    }

    /// Whether samples of this metric are stored.
    pub fn has_metric(&self, metric: &MetricName) -> bool {
        self.latest.contains_key(metric)
    }

    /// Whether an acknowledgement of this command is in the outbox.
    fn has_queued_ack(&self, cmd_id: Uuid) -> bool {
        let answers = |effect: &Effect| matches!(effect, Effect::RecordCommandAck { cmd_id: id, .. } if *id == cmd_id);
        self.outbox.iter().any(answers)
    }

    /// Enqueues the progress of an upgrade, replacing an earlier report.
    fn enqueue_ota_progress(&mut self, cmd_id: Uuid, ota: Ota) {
        for effect in &mut self.outbox {
            if let Effect::AdvanceOta { cmd_id: id, ota: held } = effect
                && *id == cmd_id
            {
                if held.is_advanced_by(&ota) {
                    *held = ota;
                }
                return;
            }
        }
        self.enqueue_effect(Effect::AdvanceOta { cmd_id, ota });
    }

    /// Enqueues an effect once. Only registered devices have alerts and commands.
    fn enqueue_effect(&mut self, effect: Effect) {
        if self.registered && !self.outbox.contains(&effect) {
            self.outbox.push(effect);
        }
    }

    /// Enqueues a change of an alert, numbered by the version of the write that decides it: the
    /// later decision applies in any order of execution (docs/adr/0017).
    fn enqueue_alert_revision(
        &mut self,
        alert_id: Uuid,
        resolved_at: Option<Timestamp>,
        message: Option<String>,
    ) {
        let revision = AlertRevision { state_version: self.version + 1, resolved_at, message };
        // The last revision replaces all earlier ones, and an equal one may follow a different one.
        let same =
            |e: &Effect| matches!(e, Effect::ReviseAlert { alert_id: id, .. } if *id == alert_id);
        self.outbox.retain(|effect| !same(effect));
        self.enqueue_effect(Effect::ReviseAlert { alert_id, revision });
    }
}

#[cfg(test)]
mod tests;
