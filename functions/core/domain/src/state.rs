//! What is known of a device from what it said: a pure function of its messages.
//!
//! One row a device, written under a version by whoever handles its messages
//! (docs/adr/0011). Effects on other nouns leave through the [`DeviceState::outbox`] of the same
//! write, with ids derived from their cause, so that a crash neither loses nor doubles one.

mod apply;
mod notices;
mod presence;
mod rules;
mod unrolled;
mod watch;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::presence::{Connection, OfflineAlert, Presence};
pub use self::rules::Evaluation;
pub use self::unrolled::{Hour, Unrolled, hour_of, start_of as start_of_hour};
pub use self::watch::GapAlert;
use crate::alert::Alert;
use crate::alert::Revision;
use crate::command::{AckResult, Ota};
use crate::id::DeviceId;
use crate::message::Hello;
use crate::metric::{MetricName, Point};
use crate::notice::Notice;
use crate::sequence::Sequence;
use crate::time::Timestamp;

/// What an operator may choose about devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
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
    pub notify: Notify,
}

/// Alerts that people are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    /// None: there is no topic.
    Nobody,
    /// Those of rules that say so.
    OfRules,
    /// Those, and what the platform itself finds out of devices.
    All,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            max_metrics: 64,
            offline_after_s: 60,
            hold_down_s: 300,
            gap_grace_s: 60,
            rollup_gap_s: Some(300),
            rule_hold_down_s: 300,
            reorder_s: 0,
            notify: Notify::Nobody,
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
    pub unrolled: Unrolled,
    /// Samples that were not stored as metrics because the device has too many different ones.
    #[serde(default)]
    pub metrics_refused: u64,
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
    pub sweep: Option<Sweep>,
    /// When it was last asked that what the device had said be removed: what the archive still has from before then is
    /// not brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged_at: Option<Timestamp>,
    /// When the watchdog must look at the device; to the minute, and late rather than early. The store
    /// keeps an index of it, which is why it is not moved by each message.
    #[serde(default)]
    pub due: Option<Timestamp>,
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
pub struct Sweep {
    /// Whether messages and archived data go, too.
    pub purge: bool,
    /// When the delete was asked for: the sweep is due from then on, however much the device says meanwhile.
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
        revision: Revision,
    },
    /// A device answered a command.
    FinishCommand {
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
        notice: Notice,
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
            unrolled: Unrolled::default(),
            metrics_refused: 0,
            upgrade: None,
            gap_alert: None,
            evaluation: Evaluation::default(),
            report_interval_s: None,
            sweep: None,
            purged_at: None,
            due: None,
            outbox: Vec::new(),
        }
    }

    /// The registry gets a row for the device at `at`.
    pub fn register(&mut self, at: Timestamp, rules: &Rules) {
        self.registered = true;
        self.sweep = None;
        self.arm(at, rules);
    }

    /// The registry's row goes at `at`; what hangs on the device is to be swept, by whoever deletes it or
    /// else by the watchdog.
    pub fn bury(&mut self, at: Timestamp, purge: bool, rules: &Rules) {
        self.registered = false;
        self.device_type = None;
        self.evaluation = Evaluation::default();
        self.outbox.clear();
        self.presence.alert = None;
        self.gap_alert = None;
        self.upgrade = None;
        self.report_interval_s = None;
        self.sweep = Some(Sweep { purge, since: at, purged_before: None, searched_before: None });
        if purge {
            self.purged_at = self.purged_at.max(Some(at));
        }
        self.due = None;
        self.arm(at, rules);
    }

    /// Messages and archived data of a device that is not registered are to go, too, as asked for at `at`.
    pub fn purge(&mut self, at: Timestamp, rules: &Rules) {
        if self.registered {
            return;
        }
        let since = self.sweep.map_or(at, |sweep| sweep.since);
        let purged_before = self.sweep.and_then(|sweep| sweep.purged_before);
        self.sweep = Some(Sweep { purge: true, since, purged_before, searched_before: None });
        self.purged_at = self.purged_at.max(Some(at));
        self.arm(at, rules);
    }

    /// Everything that the device said before `before` is gone, by the sweep that began at `since`. With the first of it
    /// goes what is known from it: what the device says from then on is new.
    pub fn purged(&mut self, since: Timestamp, before: Timestamp) {
        let is_this = |sweep: &Sweep| !self.registered && sweep.since == since;
        let Some(sweep) = self.sweep.filter(is_this) else { return };
        let purged_before = sweep.purged_before.max(Some(before));
        if sweep.purged_before.is_none() {
            let (version, due, purged_at) = (self.version, self.due, self.purged_at);
            *self = Self { version, due, purged_at, ..Self::new(self.device_id.clone()) };
        }
        self.sweep = Some(Sweep { purged_before, ..sweep });
    }

    /// What was received before `before` is searched for what the index did not lead to, by the sweep that began at `since`.
    pub fn searched(&mut self, since: Timestamp, before: Timestamp) {
        if let Some(sweep) = self.sweep.as_mut().filter(|sweep| sweep.since == since) {
            sweep.searched_before = sweep.searched_before.max(Some(before));
        }
    }

    /// What hung on the device is swept, by the sweep that began at `since`. One that was registered again meanwhile is
    /// left alone, deleted again or not, and so is a purge that was asked for meanwhile.
    pub fn swept(&mut self, since: Timestamp, purged: bool) {
        if self.sweep.is_some_and(|sweep| sweep.since == since && (purged || !sweep.purge)) {
            self.sweep = None;
            self.due = None;
        }
    }

    /// Whether samples of this metric are stored.
    pub fn has_metric(&self, metric: &MetricName) -> bool {
        self.latest.contains_key(metric)
    }

    /// Whether an answer to this command waits in the outbox.
    fn is_answered(&self, cmd_id: Uuid) -> bool {
        let answers = |effect: &Effect| matches!(effect, Effect::FinishCommand { cmd_id: id, .. } if *id == cmd_id);
        self.outbox.iter().any(answers)
    }

    /// Leaves an upgrade's progress, in place of one that it goes beyond.
    fn advance(&mut self, cmd_id: Uuid, ota: Ota) {
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
        self.leave(Effect::AdvanceOta { cmd_id, ota });
    }

    /// Puts an effect in the outbox, once. Only a registered device has alerts and commands.
    fn leave(&mut self, effect: Effect) {
        if self.registered && !self.outbox.contains(&effect) {
            self.outbox.push(effect);
        }
    }

    /// A change of an alert, numbered by the write that decides it: of two changes the one decided
    /// later stands, whichever is carried out first.
    fn revise(&mut self, alert_id: Uuid, resolved_at: Option<Timestamp>, message: Option<String>) {
        let revision = Revision { number: self.version + 1, resolved_at, message };
        // Only the last one stands anyway, and the same one may come again after another.
        let same =
            |e: &Effect| matches!(e, Effect::ReviseAlert { alert_id: id, .. } if *id == alert_id);
        self.outbox.retain(|effect| !same(effect));
        self.leave(Effect::ReviseAlert { alert_id, revision });
    }
}

#[cfg(test)]
mod tests;
