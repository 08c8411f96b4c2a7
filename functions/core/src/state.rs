//! What is known of a device from what it said: a pure function of its messages.
//!
//! One row a device, written under a version by whoever handles its messages (architecture.md,
//! decision 3c). Effects on other nouns leave through the [`DeviceState::outbox`] of the same write,
//! with ids derived from their cause, so that a crash neither loses nor doubles one.

mod presence;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::presence::Change;
pub use self::presence::{Connection, Presence};
use crate::alert::Alert;
use crate::command::{AckResult, Ota, OtaState};
use crate::id::DeviceId;
use crate::message::{Body, Hello, Measurement, Message};
use crate::metric::{Claim, MetricName, Point, PointKey};
use crate::sequence::Sequence;
use crate::time::Timestamp;

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
    /// Samples that were not stored as metrics because the device has too many different ones.
    #[serde(default)]
    pub metrics_refused: u64,
    /// The firmware upgrade that the device told of last.
    #[serde(default)]
    pub upgrade: Option<Upgrade>,
    /// What must still be done elsewhere because of this state, in order.
    #[serde(default)]
    pub outbox: Vec<Effect>,
}

/// A firmware upgrade that is under way, or that ended and waits for its heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// By which command.
    pub cmd_id: Uuid,
    /// Where to, as soon as the device said so.
    pub target: Option<String>,
    /// The device said `success`; a heartbeat from the target completes it.
    pub succeeded: bool,
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
    /// The cause of an alert has ended.
    ResolveAlert {
        /// Which.
        alert_id: Uuid,
        /// When it ended.
        at: Timestamp,
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
}

impl DeviceState {
    /// What is known of a device that was never heard.
    pub fn new(device_id: DeviceId) -> Self {
        Self {
            device_id,
            version: 0,
            registered: false,
            presence: Presence::default(),
            sequence: Sequence::default(),
            hello: None,
            fw_version: None,
            latest: BTreeMap::new(),
            metrics_refused: 0,
            upgrade: None,
            outbox: Vec::new(),
        }
    }

    /// Takes in messages in the order of their receipt. `max_metrics` is how many different metrics that
    /// are not known by name the device may have; see [`DeviceState::has_metric`].
    pub fn apply(&mut self, messages: &[&Message], max_metrics: usize) {
        for message in messages {
            self.take_in(message, max_metrics);
        }
    }

    /// Whether samples of this metric are stored.
    pub fn has_metric(&self, metric: &MetricName) -> bool {
        self.latest.contains_key(metric)
    }

    /// Any sign of life at `at`, the time of receipt.
    pub fn heard(&mut self, at: Timestamp) {
        if let Some(change) = self.presence.heard(at) {
            self.follow(change);
        }
    }

    /// What an operator says of the connection, over REST.
    pub fn override_connection(
        &mut self,
        connection: Connection,
        fw_version: Option<String>,
        at: Timestamp,
    ) {
        let change = match connection {
            Connection::Online => self.presence.online(at, None),
            Connection::Offline => self.presence.offline(at, None),
            Connection::Unknown => self.presence.forget(at),
        };
        if let Some(change) = change {
            self.follow(change);
        }
        if fw_version.is_some() {
            self.fw_version = fw_version;
        }
    }

    fn take_in(&mut self, message: &Message, max_metrics: usize) {
        let at = message.received.received_at;
        if let Some(seq) = message.seq {
            self.sequence.note(seq, message.boot.as_deref(), message.ts, at);
        }
        let change = match &message.body {
            Body::Status { online: true, conn_id } => self.presence.online(at, conn_id.as_deref()),
            Body::Status { online: false, conn_id } => {
                self.presence.offline(at, conn_id.as_deref())
            }
            _ => self.presence.heard(at),
        };
        if let Some(change) = change {
            self.follow(change);
        }
        match &message.body {
            Body::Telemetry(measurements) => {
                for m in measurements {
                    self.take_in_sample(message, m, max_metrics);
                }
            }
            Body::Hello(hello) => self.take_in_hello(hello, at),
            Body::Status { .. } => {}
            Body::CommandAck { cmd_id, result, detail } => self.leave(Effect::FinishCommand {
                cmd_id: *cmd_id,
                result: *result,
                detail: detail.clone(),
                at,
            }),
            Body::OtaStatus { cmd_id, ota_state, progress_pct, fw_version_target, detail } => {
                let ota = Ota {
                    state: *ota_state,
                    progress_pct: *progress_pct,
                    fw_version_target: fw_version_target.clone(),
                    detail: detail.clone(),
                    updated_at: at,
                };
                self.take_in_ota(*cmd_id, ota);
            }
        }
    }

    fn take_in_sample(&mut self, message: &Message, m: &Measurement, max_metrics: usize) {
        if !self.has_metric(&m.metric) && m.metric.known().is_none() {
            let unknown = self.latest.keys().filter(|metric| metric.known().is_none()).count();
            if unknown >= max_metrics {
                self.metrics_refused += 1;
                return;
            }
        }
        let point = Point {
            key: PointKey { time: m.ts, metric: m.metric.clone(), ordinal: m.ordinal },
            value: m.value,
            unit: m.unit.clone(),
            claim: Claim { ts: message.ts, mid: message.mid },
        };
        let rank = |p: &Point| (p.key.time, p.key.ordinal, p.claim);
        match self.latest.get_mut(&m.metric) {
            Some(held) if rank(held) >= rank(&point) => {}
            Some(held) => *held = point,
            None => {
                self.latest.insert(m.metric.clone(), point);
            }
        }
    }

    fn take_in_hello(&mut self, hello: &Hello, at: Timestamp) {
        if self.hello.as_ref().is_some_and(|(newest, _)| *newest > at) {
            return;
        }
        self.hello = Some((at, hello.clone()));
        self.fw_version = Some(hello.fw_version.clone());
        let complete = |upgrade: &Upgrade| {
            upgrade.succeeded && upgrade.target.as_ref() == Some(&hello.fw_version)
        };
        if let Some(done) = self.upgrade.take_if(|upgrade| complete(upgrade)) {
            let ota = Ota {
                state: OtaState::Completed,
                progress_pct: Some(100.0),
                fw_version_target: done.target,
                detail: None,
                updated_at: at,
            };
            self.leave(Effect::AdvanceOta { cmd_id: done.cmd_id, ota });
        }
    }

    fn take_in_ota(&mut self, cmd_id: Uuid, ota: Ota) {
        let upgrade = match &mut self.upgrade {
            Some(upgrade) if upgrade.cmd_id == cmd_id => upgrade,
            // Ids of commands sort by time: what an older upgrade still says is not the current one.
            Some(upgrade) if upgrade.cmd_id > cmd_id => {
                return self.leave(Effect::AdvanceOta { cmd_id, ota });
            }
            other => other.insert(Upgrade { cmd_id, target: None, succeeded: false }),
        };
        if ota.fw_version_target.is_some() {
            upgrade.target.clone_from(&ota.fw_version_target);
        }
        upgrade.succeeded |= ota.state == OtaState::Success;
        self.leave(Effect::AdvanceOta { cmd_id, ota });
    }

    fn follow(&mut self, change: Change) {
        match change {
            Change::WentOffline(at) => {
                if self.registered {
                    let alert = Alert::device_offline(&self.device_id, at);
                    self.presence.open_alert = Some(alert.alert_id);
                    self.leave(Effect::OpenAlert { alert });
                }
            }
            Change::CameBack(at) => {
                if let Some(alert_id) = self.presence.open_alert.take() {
                    self.leave(Effect::ResolveAlert { alert_id, at });
                }
            }
        }
    }

    /// Puts an effect in the outbox, once. Only a registered device has alerts and commands.
    fn leave(&mut self, effect: Effect) {
        if self.registered && !self.outbox.contains(&effect) {
            self.outbox.push(effect);
        }
    }
}

#[cfg(test)]
mod tests;
