//! What is known of a device from what it said: a pure function of its messages.
//!
//! One row a device, written under a version by whoever handles its messages
//! (docs/adr/0011). Effects on other nouns leave through the [`DeviceState::outbox`] of the same
//! write, with ids derived from their cause, so that a crash neither loses nor doubles one.

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

/// What an operator may choose about devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevicePolicy {
    /// Different metrics not known by name that a device may have.
    pub max_metrics: usize,
    /// The least silence, in seconds, after which a device is offline.
    pub offline_after_s: u32,
    /// A device that goes again within so many seconds of its return reopens its alert instead of
    /// raising another.
    pub hold_down_s: u32,
    /// How long, in seconds, sequence numbers may be missing before an alert says so.
    pub gap_grace_s: u32,
    /// The longest gap, in seconds, that rollups bridge in an integral; none: nothing is rolled up.
    pub rollup_gap_s: Option<u32>,
    /// The alert of a rule that ended no longer ago than so many seconds is reopened in place of another.
    pub rule_hold_down_s: u32,
    /// How much later than a newer one, in seconds of the device's clock, a sample may come and still be judged in its
    /// turn. Samples are held back for so long.
    pub reorder_s: u32,
    /// What people are told of.
    pub notify: NotificationPolicy,
}

/// Alerts that people are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationPolicy {
    /// None: there is no topic.
    Disabled,
    /// Those of rules that say so.
    RulesOnly,
    /// Those, and what the platform itself finds out of devices.
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

/// Everything that is known of a device but the owner's words, which are in the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceState {
    /// Whose.
    pub device_id: DeviceId,
    /// Counts writes of this row; 0: never written. A write names the version that it read.
    #[serde(skip)]
    pub version: u64,
    /// Whether the registry has a row. Set in the transactions that register and delete.
    pub registered: bool,
    /// The registry's type of the device, which alert rules may be for; kept by the transactions that change it.
    #[serde(skip)]
    pub device_type: Option<String>,
    /// Whether it is there.
    pub presence: Presence,
    /// Its power-ons and what was seen of each.
    #[serde(default)]
    pub sequence: Sequence,
    /// The newest heartbeat, by receipt, and when that was.
    #[serde(default)]
    pub hello: Option<(Timestamp, Hello)>,
    /// The firmware as last told, by a heartbeat or over REST.
    #[serde(default)]
    pub fw_version: Option<String>,
    /// The newest point of each metric by its own time; also the set of metrics that the device has.
    #[serde(default)]
    pub latest: BTreeMap<MetricName, Point>,
    /// Hours whose rollups do not say what the points say.
    #[serde(default)]
    pub pending_rollups: PendingRollups,
    /// Samples that were not stored as metrics because the device has too many different ones.
    #[serde(default)]
    pub samples_rejected: u64,
    /// The firmware upgrade that the device told of last.
    #[serde(default)]
    pub upgrade: Option<Upgrade>,
    /// The alert that is open because sequence numbers are missing.
    #[serde(default)]
    pub gap_alert: Option<GapAlert>,
    /// How far the alert rules are with it.
    #[serde(default, skip_serializing_if = "Evaluation::is_empty")]
    pub evaluation: Evaluation,
    /// The shorter of the intervals, in seconds, at which the device sends or says hello, as last read
    /// from its configuration; none: the defaults of docs/protocol.md.
    #[serde(default)]
    pub report_interval_s: Option<u32>,
    /// What hangs on the device must be removed, because it was deleted.
    #[serde(default)]
    pub cleanup: Option<DeviceCleanup>,
    /// When it was last asked that what the device had said be removed: what the archive still has from before then is
    /// not brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged_at: Option<Timestamp>,
    /// When the watchdog must look at the device; to the minute, and late rather than early. The store
    /// keeps an index of it, which is why it is not moved by each message.
    #[serde(default)]
    pub next_check: Option<Timestamp>,
    /// What must still be done elsewhere because of this state, in order.
    #[serde(default)]
    pub outbox: Vec<Effect>,
}

/// A firmware upgrade that is under way, or that ended and waits for its heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// By which command.
    pub cmd_id: Uuid,
    /// Where to: as the device said or, as long as it has not, as the command says.
    pub target: Option<String>,
    /// When the device's `success` was received, the first one; a heartbeat from the target completes it.
    #[serde(default)]
    pub succeeded_at: Option<Timestamp>,
}

/// The second half of a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCleanup {
    /// Whether messages and archived data go, too.
    pub purge: bool,
    /// When the delete was asked for: the cleanup is due from then on, however much the device says meanwhile.
    #[serde(default = "Timestamp::min")]
    pub since: Timestamp,
    /// How far a purge is: everything before this is gone. None: it has not begun.
    #[serde(default)]
    pub purged_before: Option<Timestamp>,
    /// How far the search for what the index did not lead to is: what was received before this is searched. None: the
    /// index is not empty yet.
    #[serde(default)]
    pub searched_before: Option<Timestamp>,
}

/// Something that must happen elsewhere, any number of times to the same end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Raise this alert.
    OpenAlert {
        /// The whole alert; its id is derived from its cause.
        alert: Alert,
    },
    /// What an alert says has changed.
    ReviseAlert {
        /// Which.
        alert_id: Uuid,
        /// What it says now.
        revision: AlertRevision,
    },
    /// A device answered a command.
    RecordCommandAck {
        /// Which.
        cmd_id: Uuid,
        /// Its answer.
        result: AckResult,
        /// Its words.
        detail: Option<String>,
        /// When the answer was received.
        at: Timestamp,
    },
    /// A firmware upgrade went on.
    AdvanceOta {
        /// Of which command.
        cmd_id: Uuid,
        /// How far.
        ota: Ota,
    },
    /// The device came online: commands that wait for it and do no harm when they come twice are
    /// published again.
    RepublishCommands {
        /// When it did.
        at: Timestamp,
    },
    /// People are told something of an alert.
    Notify {
        /// What.
        notification: Notification,
        /// Not before then.
        not_before: Timestamp,
        /// When that failed first.
        since: Option<Timestamp>,
    },
}

impl DeviceState {
    /// What is known of a device that was never heard.
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

    /// The registry gets a row for the device at `at`.
    pub fn register(&mut self, at: Timestamp, policy: &DevicePolicy) {
        self.registered = true;
        self.cleanup = None;
        self.schedule_check(at, policy);
    }

    /// The registry's row goes at `at`; what hangs on the device is to be swept, by whoever deletes it or
    /// else by the watchdog.
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

    /// Messages and archived data of a device that is not registered are to go, too, as asked for at `at`.
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

    /// Everything that the device said before `before` is gone, by the cleanup that began at `since`. With the first of it
    /// goes what is known from it: what the device says from then on is new.
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

    /// What was received before `before` is searched for what the index did not lead to, by the cleanup that began at `since`.
    pub fn record_searched_before(&mut self, since: Timestamp, before: Timestamp) {
        if let Some(cleanup) = self.cleanup.as_mut().filter(|cleanup| cleanup.since == since) {
            cleanup.searched_before = cleanup.searched_before.max(Some(before));
        }
    }

    /// What hung on the device is swept, by the cleanup that began at `since`. One that was registered again meanwhile is
    /// left alone, deleted again or not, and so is a purge that was asked for meanwhile.
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

    /// Whether an answer to this command waits in the outbox.
    fn has_queued_ack(&self, cmd_id: Uuid) -> bool {
        let answers = |effect: &Effect| matches!(effect, Effect::RecordCommandAck { cmd_id: id, .. } if *id == cmd_id);
        self.outbox.iter().any(answers)
    }

    /// Leaves an upgrade's progress, in place of one that it goes beyond.
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

    /// Puts an effect in the outbox, once. Only a registered device has alerts and commands.
    fn enqueue_effect(&mut self, effect: Effect) {
        if self.registered && !self.outbox.contains(&effect) {
            self.outbox.push(effect);
        }
    }

    /// A change of an alert, numbered by the write that decides it: of two changes the one decided
    /// later stands, whichever is carried out first.
    fn enqueue_alert_revision(
        &mut self,
        alert_id: Uuid,
        resolved_at: Option<Timestamp>,
        message: Option<String>,
    ) {
        let revision = AlertRevision { state_version: self.version + 1, resolved_at, message };
        // Only the last one stands anyway, and the same one may come again after another.
        let same =
            |e: &Effect| matches!(e, Effect::ReviseAlert { alert_id: id, .. } if *id == alert_id);
        self.outbox.retain(|effect| !same(effect));
        self.enqueue_effect(Effect::ReviseAlert { alert_id, revision });
    }
}

#[cfg(test)]
mod tests;
