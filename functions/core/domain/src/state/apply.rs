//! Application of messages and REST requests to a device state.

use uuid::Uuid;

use super::presence::ConnectionChange;
use super::{Connection, DevicePolicy, DeviceState, Effect, OfflineAlert, Upgrade};
use crate::alert::{Alert, DEVICE_OFFLINE};
use crate::command::{Ota, OtaState};
use crate::id::Shard;
use crate::message::{Body, Hello, Message};
use crate::metric::Sample;
use crate::metric::{Point, PointKey, Precedence};
use crate::time::Timestamp;

/// Seconds over which the rollups of hours that end at the same time are spread in a fleet.
const ROLLUP_STAGGER_S: i64 = 1_200;

impl DeviceState {
    /// Applies messages in the order of receipt.
    pub fn apply(&mut self, messages: &[&Message], policy: &DevicePolicy) {
        for message in messages {
            self.apply_message(message, policy);
        }
        if let Some(last) = messages.last() {
            let at = last.received.received_at;
            self.resolve_gap_alert(at, policy);
            self.schedule_check(at, policy);
        }
    }

    /// Applies the samples of archived messages in the order of receipt, at `now`. Other effects of
    /// the messages are not repeated.
    pub fn replay<'a>(
        &mut self,
        messages: impl IntoIterator<Item = &'a Message>,
        now: Timestamp,
        policy: &DevicePolicy,
    ) {
        let samples_rejected = self.samples_rejected;
        for message in messages {
            if let Body::Telemetry(measurements) = &message.body {
                self.apply_samples(message, measurements, now, policy);
            }
        }
        // These samples were counted when the message was first applied.
        self.samples_rejected = samples_rejected;
        self.schedule_check(now, policy);
    }

    /// Records activity of the device at `at`, the receipt time.
    pub fn record_activity(&mut self, at: Timestamp, policy: &DevicePolicy) {
        if let Some(change) = self.presence.record_activity(at) {
            self.apply_connection_change(change, policy);
        }
        self.schedule_check(at, policy);
    }

    /// Sets the connection status and the firmware version as requested over REST.
    pub fn override_connection(
        &mut self,
        connection: Connection,
        fw_version: Option<String>,
        at: Timestamp,
        policy: &DevicePolicy,
    ) {
        let change = match connection {
            Connection::Online => self.presence.online(at, None),
            Connection::Offline => self.presence.offline(at, None),
            Connection::Unknown => self.presence.reset_to_unknown(at),
        };
        if let Some(change) = change {
            self.apply_connection_change(change, policy);
        }
        if fw_version.is_some() {
            self.fw_version = fw_version;
        }
        self.schedule_check(at, policy);
    }

    fn apply_message(&mut self, message: &Message, policy: &DevicePolicy) {
        let at = message.received.received_at;
        if let Some(seq) = message.seq {
            self.sequence.record(seq, message.boot.as_deref(), message.ts, at);
        }
        let change = match &message.body {
            Body::Status { online: true, conn_id } => self.presence.online(at, conn_id.as_deref()),
            Body::Status { online: false, conn_id } => {
                self.presence.offline(at, conn_id.as_deref())
            }
            Body::Lifecycle { connected, version } => {
                self.presence.lifecycle(at, *connected, *version)
            }
            _ => self.presence.record_activity(at),
        };
        if let Some(change) = change {
            self.apply_connection_change(change, policy);
        }
        match &message.body {
            Body::Telemetry(measurements) => {
                self.apply_samples(message, measurements, at, policy);
            }
            Body::Hello(hello) => self.apply_hello(hello, at),
            Body::Status { .. } | Body::Lifecycle { .. } => {}
            // Only the first acknowledgement has an effect; repeated ones must not fill the outbox.
            Body::CommandAck { cmd_id, .. } if self.has_queued_ack(*cmd_id) => {}
            Body::CommandAck { cmd_id, result, detail } => {
                self.enqueue_effect(Effect::RecordCommandAck {
                    cmd_id: *cmd_id,
                    result: *result,
                    detail: detail.clone(),
                    at,
                })
            }
            Body::OtaStatus { cmd_id, ota_state, progress_pct, fw_version_target, detail } => {
                let ota = Ota {
                    state: *ota_state,
                    progress_pct: *progress_pct,
                    fw_version_target: fw_version_target.clone(),
                    detail: detail.clone(),
                    updated_at: at,
                };
                self.apply_ota(*cmd_id, ota);
            }
        }
    }

    fn apply_samples(
        &mut self,
        message: &Message,
        measurements: &[Sample],
        at: Timestamp,
        policy: &DevicePolicy,
    ) {
        for m in measurements {
            self.apply_sample(message, m, policy.max_metrics);
        }
        if let Some(gap_s) = policy.rollup_gap_s {
            let version = self.version + 1;
            let times = measurements.iter().map(|m| m.time);
            let spread = Shard::of(self.device_id.as_str().as_bytes()).stagger(ROLLUP_STAGGER_S);
            self.pending_rollups.mark(times, at, version, (gap_s, spread));
        }
    }

    fn apply_sample(&mut self, message: &Message, m: &Sample, max_metrics: usize) {
        if !self.has_metric(&m.metric) && m.metric.known().is_none() {
            let unknown = self.latest.keys().filter(|metric| metric.known().is_none()).count();
            if unknown >= max_metrics {
                self.samples_rejected += 1;
                return;
            }
        }
        let point = Point {
            key: PointKey { time: m.time, metric: m.metric.clone(), sample_index: m.sample_index },
            value: m.value,
            unit: m.unit.clone(),
            precedence: Precedence { ts: message.ts, message_id: message.message_id },
        };
        let rank = |p: &Point| (p.key.time, p.key.sample_index, p.precedence);
        match self.latest.get_mut(&m.metric) {
            Some(held) if rank(held) >= rank(&point) => {}
            Some(held) => *held = point,
            None => {
                self.latest.insert(m.metric.clone(), point);
            }
        }
    }

    fn apply_hello(&mut self, hello: &Hello, at: Timestamp) {
        if self.hello.as_ref().is_some_and(|(newest, _)| *newest > at) {
            return;
        }
        self.hello = Some((at, hello.clone()));
        self.fw_version = Some(hello.fw_version.clone());
        self.complete_upgrade(&hello.fw_version, at);
    }

    /// Completes an upgrade that succeeded, if `fw_version` is its target.
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
            self.enqueue_ota_progress(done.cmd_id, ota);
        }
    }

    fn apply_ota(&mut self, cmd_id: Uuid, ota: Ota) {
        let upgrade = match &mut self.upgrade {
            Some(upgrade) if upgrade.cmd_id == cmd_id => upgrade,
            // Command ids sort by time: the report belongs to an upgrade before the current one.
            Some(upgrade) if upgrade.cmd_id > cmd_id => {
                return self.enqueue_ota_progress(cmd_id, ota);
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
        self.enqueue_ota_progress(cmd_id, ota);
        self.complete_upgrade_from_last_hello();
    }

    /// Completes an upgrade with a hello message that was applied before the report of success,
    /// because the queue is not ordered.
    fn complete_upgrade_from_last_hello(&mut self) {
        let succeeded_at = self.upgrade.as_ref().and_then(|upgrade| upgrade.succeeded_at);
        if let (Some(at), Some((hello_at, hello))) = (succeeded_at, self.hello.clone())
            && hello_at >= at
        {
            self.complete_upgrade(&hello.fw_version, hello_at);
        }
    }

    /// Whether the current upgrade belongs to this command and the device did not report a target.
    pub fn lacks_target(&self, cmd_id: Uuid) -> bool {
        let lacks = |upgrade: &Upgrade| upgrade.cmd_id == cmd_id && upgrade.target.is_none();
        self.upgrade.as_ref().is_some_and(lacks)
    }

    /// Sets the target of an upgrade from its command, for a device that does not report one.
    pub fn set_upgrade_target(
        &mut self,
        cmd_id: Uuid,
        target: &str,
        now: Timestamp,
        policy: &DevicePolicy,
    ) {
        if !self.lacks_target(cmd_id) {
            return;
        }
        if let Some(upgrade) = &mut self.upgrade {
            upgrade.target = Some(target.to_owned());
        }
        self.complete_upgrade_from_last_hello();
        self.schedule_check(now, policy);
    }

    /// Applies the consequences of a change of the connection status.
    pub(super) fn apply_connection_change(
        &mut self,
        change: ConnectionChange,
        policy: &DevicePolicy,
    ) {
        match change {
            ConnectionChange::WentOffline(at) => self.went_offline(at, policy),
            ConnectionChange::CameOnline(at) => {
                if let Some(alert_id) = self.presence.resolve_alert(at) {
                    self.enqueue_alert_revision(alert_id, Some(at), None);
                    let message = format!("{} is online since {at}", self.device_id);
                    let end = (at, policy.hold_down_s);
                    self.notify_resolved((alert_id, DEVICE_OFFLINE), end, message, policy);
                }
                self.enqueue_effect(Effect::RepublishCommands { at });
            }
        }
    }

    fn went_offline(&mut self, at: Timestamp, policy: &DevicePolicy) {
        if !self.registered {
            return;
        }
        let was_resolved = self.presence.alert.is_some_and(|alert| alert.resolved_at.is_some());
        let alert = Alert::device_offline(&self.device_id, at);
        if let Some(alert_id) = self.presence.reopen_alert(at, policy.hold_down_s) {
            self.enqueue_alert_revision(alert_id, None, None);
            if was_resolved && !self.cancel_resolved_notification(alert_id) {
                self.notify_device_alert(&Alert { alert_id, ..alert }, at, policy);
            }
            return;
        }
        self.presence.alert = Some(OfflineAlert { alert_id: alert.alert_id, resolved_at: None });
        self.notify_device_alert(&alert, at, policy);
        self.enqueue_effect(Effect::OpenAlert { alert });
    }
}
