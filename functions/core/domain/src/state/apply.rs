//! Application of messages and REST requests to a device state.

use super::{Connection, DevicePolicy, DeviceState, Effect};
use crate::command::Ota;
use crate::message::{Body, Hello, Message};
use crate::metric::{Point, Sample};
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
        for sample in measurements {
            let point = Point::new(sample, message.precedence());
            if !self.latest.record(point, policy.max_metrics) {
                self.samples_rejected += 1;
            }
        }
        if let Some(gap_s) = policy.rollup_gap_s {
            let version = self.version + 1;
            let times = measurements.iter().map(|m| m.time);
            let spread = self.device_id.shard().stagger(ROLLUP_STAGGER_S);
            self.pending_rollups.mark(times, at, version, (gap_s, spread));
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
}
