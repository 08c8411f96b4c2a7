//! What messages, and words over REST, make of a state.

use uuid::Uuid;

use super::presence::Change;
use super::{Connection, DeviceState, Effect, OfflineAlert, Rules, Upgrade};
use crate::alert::{Alert, DEVICE_OFFLINE};
use crate::command::{Ota, OtaState};
use crate::id::Shard;
use crate::message::{Body, Hello, Measurement, Message};
use crate::metric::{Claim, Point, PointKey};
use crate::time::Timestamp;

/// Over how many seconds the hours of a fleet that end at one time are rolled up.
const ROLLUP_SPREAD_S: i64 = 1_200;

impl DeviceState {
    /// Takes in messages in the order of their receipt.
    pub fn apply(&mut self, messages: &[&Message], rules: &Rules) {
        for message in messages {
            self.take_in(message, rules);
        }
        if let Some(last) = messages.last() {
            let at = last.received.received_at;
            self.close_gaps(at, rules);
            self.arm(at, rules);
        }
    }

    /// Takes in the samples of messages from the archive, in the order of their receipt, at `now`: what was measured, and
    /// nothing of what else they said, since all of that has had its effect.
    pub fn replay<'a>(
        &mut self,
        messages: impl IntoIterator<Item = &'a Message>,
        now: Timestamp,
        rules: &Rules,
    ) {
        let refused = self.metrics_refused;
        for message in messages {
            if let Body::Telemetry(measurements) = &message.body {
                self.take_in_samples(message, measurements, now, rules);
            }
        }
        // It was counted when the message came.
        self.metrics_refused = refused;
        self.arm(now, rules);
    }

    /// Any sign of life at `at`, the time of receipt.
    pub fn heard(&mut self, at: Timestamp, rules: &Rules) {
        if let Some(change) = self.presence.heard(at) {
            self.follow(change, rules);
        }
        self.arm(at, rules);
    }

    /// What an operator says of the connection, over REST.
    pub fn override_connection(
        &mut self,
        connection: Connection,
        fw_version: Option<String>,
        at: Timestamp,
        rules: &Rules,
    ) {
        let change = match connection {
            Connection::Online => self.presence.online(at, None),
            Connection::Offline => self.presence.offline(at, None),
            Connection::Unknown => self.presence.forget(at),
        };
        if let Some(change) = change {
            self.follow(change, rules);
        }
        if fw_version.is_some() {
            self.fw_version = fw_version;
        }
        self.arm(at, rules);
    }

    fn take_in(&mut self, message: &Message, rules: &Rules) {
        let at = message.received.received_at;
        if let Some(seq) = message.seq {
            self.sequence.note(seq, message.boot.as_deref(), message.ts, at);
        }
        let change = match &message.body {
            Body::Status { online: true, conn_id } => self.presence.online(at, conn_id.as_deref()),
            Body::Status { online: false, conn_id } => {
                self.presence.offline(at, conn_id.as_deref())
            }
            Body::Lifecycle { connected, version } => {
                self.presence.lifecycle(at, *connected, *version)
            }
            _ => self.presence.heard(at),
        };
        if let Some(change) = change {
            self.follow(change, rules);
        }
        match &message.body {
            Body::Telemetry(measurements) => {
                self.take_in_samples(message, measurements, at, rules);
            }
            Body::Hello(hello) => self.take_in_hello(hello, at),
            Body::Status { .. } | Body::Lifecycle { .. } => {}
            // The first answer stands anyway: a device that repeats itself must not fill the state.
            Body::CommandAck { cmd_id, .. } if self.is_answered(*cmd_id) => {}
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

    fn take_in_samples(
        &mut self,
        message: &Message,
        measurements: &[Measurement],
        at: Timestamp,
        rules: &Rules,
    ) {
        for m in measurements {
            self.take_in_sample(message, m, rules.max_metrics);
        }
        if let Some(gap_s) = rules.rollup_gap_s {
            let version = self.version + 1;
            let times = measurements.iter().map(|m| m.ts);
            let spread = Shard::of(self.device_id.as_str().as_bytes()).share_of(ROLLUP_SPREAD_S);
            self.unrolled.note(times, at, version, (gap_s, spread));
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
        self.complete_upgrade(&hello.fw_version, at);
    }

    /// An upgrade that succeeded is complete when a heartbeat tells of its target.
    fn complete_upgrade(&mut self, fw_version: &str, at: Timestamp) {
        let complete = |upgrade: &Upgrade| {
            upgrade.succeeded_at.is_some() && upgrade.target.as_deref() == Some(fw_version)
        };
        if let Some(done) = self.upgrade.take_if(|upgrade| complete(upgrade)) {
            let ota = Ota {
                state: OtaState::Completed,
                progress_pct: Some(100.0),
                fw_version_target: done.target,
                detail: None,
                updated_at: at,
            };
            self.advance(done.cmd_id, ota);
        }
    }

    fn take_in_ota(&mut self, cmd_id: Uuid, ota: Ota) {
        let upgrade = match &mut self.upgrade {
            Some(upgrade) if upgrade.cmd_id == cmd_id => upgrade,
            // Ids of commands sort by time: what an older upgrade still says is not the current one.
            Some(upgrade) if upgrade.cmd_id > cmd_id => {
                return self.advance(cmd_id, ota);
            }
            other => other.insert(Upgrade { cmd_id, target: None, succeeded_at: None }),
        };
        if ota.fw_version_target.is_some() {
            upgrade.target.clone_from(&ota.fw_version_target);
        }
        if ota.state == OtaState::Success {
            let at = ota.updated_at;
            upgrade.succeeded_at = Some(upgrade.succeeded_at.map_or(at, |first| first.min(at)));
        }
        self.advance(cmd_id, ota);
        self.complete_upgrade_before();
    }

    /// A queue keeps no order: the heartbeat that completes an upgrade may have been handled before.
    fn complete_upgrade_before(&mut self) {
        let succeeded_at = self.upgrade.as_ref().and_then(|upgrade| upgrade.succeeded_at);
        if let (Some(at), Some((heard_at, hello))) = (succeeded_at, self.hello.clone())
            && heard_at >= at
        {
            self.complete_upgrade(&hello.fw_version, heard_at);
        }
    }

    /// Whether the upgrade under way is this command's and the device has not said where to.
    pub fn lacks_target(&self, cmd_id: Uuid) -> bool {
        let lacks = |upgrade: &Upgrade| upgrade.cmd_id == cmd_id && upgrade.target.is_none();
        self.upgrade.as_ref().is_some_and(lacks)
    }

    /// Where an upgrade is to lead by its command, for a device that does not say so.
    pub fn aim(&mut self, cmd_id: Uuid, target: &str, now: Timestamp, rules: &Rules) {
        if !self.lacks_target(cmd_id) {
            return;
        }
        if let Some(upgrade) = &mut self.upgrade {
            upgrade.target = Some(target.to_owned());
        }
        self.complete_upgrade_before();
        self.arm(now, rules);
    }

    /// What follows from a change of presence.
    pub(super) fn follow(&mut self, change: Change, rules: &Rules) {
        match change {
            Change::WentOffline(at) => self.went_offline(at, rules),
            Change::Came(at) => {
                if let Some(alert_id) = self.presence.resolve_alert(at) {
                    self.revise(alert_id, Some(at), None);
                    let message = format!("{} is back since {at}", self.device_id);
                    let end = (at, rules.hold_down_s);
                    self.tell_end((alert_id, DEVICE_OFFLINE), end, message, rules);
                }
                self.leave(Effect::RepublishCommands { at });
            }
        }
    }

    fn went_offline(&mut self, at: Timestamp, rules: &Rules) {
        if !self.registered {
            return;
        }
        let was_over = self.presence.alert.is_some_and(|alert| alert.resolved_at.is_some());
        let alert = Alert::device_offline(&self.device_id, at);
        if let Some(alert_id) = self.presence.reopen_alert(at, rules.hold_down_s) {
            self.revise(alert_id, None, None);
            if was_over && !self.take_back_end(alert_id) {
                self.tell_of_device(&Alert { alert_id, ..alert }, at, rules);
            }
            return;
        }
        self.presence.alert = Some(OfflineAlert { alert_id: alert.alert_id, resolved_at: None });
        self.tell_of_device(&alert, at, rules);
        self.leave(Effect::OpenAlert { alert });
    }
}
