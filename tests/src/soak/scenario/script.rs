//! The messages of a device in detail: envelopes, sequence numbers, clocks and repeats.

use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::profile::{BootIdKind, DeviceProfile};
use super::{LATE_PHASE, Message, MessageContent, Receipt, Rng, Sample, Scenario, chance};

/// Metrics with the unit in the message: `temperature` is a known metric of the platform, the
/// others are not.
const METRICS: [(&str, Option<&str>); 5] = [
    ("temperature", None),
    ("m.1", None),
    ("m-2", Some("kPa")),
    ("M_3", Some("%")),
    ("battery", Some("V")),
];

/// The pause between two phases, longer than every hold-down and reorder time.
const PHASE_GAP: SignedDuration = SignedDuration::from_hours(1);

/// Builds the messages of one device.
pub(super) struct ScriptBuilder<'a> {
    pub(super) rng: &'a mut Rng,
    scenario: &'a mut Scenario,
    device: usize,
    profile: &'a DeviceProfile,
    /// The clock of the platform.
    receipt_time: Timestamp,
    /// The offset of the device's clock to that of the platform.
    clock_offset: SignedDuration,
    phase: usize,
    /// Whether messages are added to [`LATE_PHASE`].
    is_late: bool,
    allows_repeats: bool,
    /// The version number of the connection in lifecycle events.
    version: u64,
    boot: Option<Value>,
    seq: u32,
    /// Makes values distinct, and thereby messages.
    message_counter: u32,
    /// Published points: metric, unit and time.
    published_points: Vec<(&'static str, Option<&'static str>, Timestamp)>,
    last_ts: Option<Timestamp>,
}

impl<'a> ScriptBuilder<'a> {
    pub(super) fn new(
        device: usize,
        profile: &'a DeviceProfile,
        start_time: Timestamp,
        rng: &'a mut Rng,
        scenario: &'a mut Scenario,
    ) -> Self {
        Self {
            rng,
            scenario,
            device,
            profile,
            receipt_time: start_time,
            clock_offset: SignedDuration::ZERO,
            phase: 0,
            is_late: false,
            allows_repeats: true,
            version: 0,
            boot: None,
            seq: 0,
            message_counter: 0,
            published_points: Vec::new(),
            last_ts: None,
        }
    }

    /// Whether upgrade messages contain the target version.
    pub(super) fn reports_target_version(&self) -> bool {
        self.device.is_multiple_of(2)
    }

    /// Boots the device: sequence numbers restart, and the clock may be wrong.
    pub(super) fn boot(&mut self, number: usize) {
        self.boot = match self.profile.boot {
            BootIdKind::Absent => None,
            BootIdKind::Counter => Some(json!(number + 1)),
            BootIdKind::Text => {
                Some(json!(format!("boot-{number}-{}", self.rng.random_range(0..1000))))
            }
        };
        // Some sequences start just below the wrap-around.
        self.seq = if chance(self.rng, 0.1) { u32::MAX - 5 } else { 0 };
        self.clock_offset = match self.rng.random_range(0..10) {
            0 => self.receipt_time.duration_until(Timestamp::UNIX_EPOCH),
            1 => SignedDuration::from_secs(3_600),
            2 => SignedDuration::from_secs(-100),
            _ => SignedDuration::ZERO,
        };
    }

    /// Starts a phase: its messages are delivered when all earlier ones are processed.
    pub(super) fn next_phase(&mut self) {
        self.phase += 1;
        self.receipt_time += PHASE_GAP;
    }

    /// Starts a phase without a pause.
    pub(super) fn next_phase_without_gap(&mut self) {
        self.phase += 1;
    }

    /// Adds the messages of `send` to [`LATE_PHASE`].
    pub(super) fn send_late(&mut self, send: impl FnOnce(&mut Self)) {
        self.is_late = true;
        send(self);
        self.is_late = false;
    }

    /// Adds the messages of `send` without repeats. A repeat of the last message could be processed
    /// in a later batch, and would change the time at which the device was last seen.
    pub(super) fn without_repeats(&mut self, send: impl FnOnce(&mut Self)) {
        self.allows_repeats = false;
        send(self);
        self.allows_repeats = true;
    }

    /// Sends the lifecycle event for a new connection.
    pub(super) fn send_connected(&mut self) {
        self.version += 1;
        self.send_lifecycle("connected", self.version, true);
    }

    /// Sends the lifecycle event for the end of the connection.
    pub(super) fn send_disconnected(&mut self) {
        self.version += 1;
        self.send_lifecycle("disconnected", self.version, false);
    }

    /// Sends the lifecycle event for the end of the previous connection, after that for the new
    /// one.
    pub(super) fn send_stale_disconnected(&mut self) {
        self.send_lifecycle("disconnected", self.version - 1, true);
    }

    fn send_lifecycle(&mut self, event: &str, version: u64, is_online: bool) {
        let id = &self.profile.id;
        let ts = self.receipt_time.as_millisecond();
        let payload = json!({"clientId": id, "timestamp": ts, "eventType": event,
            "versionNumber": version, "sessionIdentifier": "s", "principalIdentifier": "p"});
        let topic = format!("$aws/events/presence/{event}/{id}");
        let content = MessageContent::Lifecycle { ts: self.receipt_time, is_online };
        self.publish_to(topic, payload.to_string().into_bytes(), content);
    }

    /// The time of the device's clock for the next message.
    pub(super) fn device_time(&mut self) -> Timestamp {
        let ts = match self.last_ts {
            // Two messages with the same time: the message id decides the precedence of their
            // points.
            Some(last) if chance(self.rng, 0.05) => last,
            // Never a whole millisecond, unlike a time of receipt: otherwise the time of a message
            // could equal the time of receipt of another one, and the precedence would be
            // undetermined.
            _ => self.receipt_time + self.clock_offset + SignedDuration::from_micros(7),
        };
        self.last_ts = Some(ts);
        ts
    }

    pub(super) fn send_telemetry(&mut self) {
        let ts = self.device_time();
        let mut samples = Vec::new();
        for _ in 0..self.rng.random_range(1..=10) {
            let (metric, unit) = METRICS[self.rng.random_range(0..METRICS.len())];
            let ago = match self.rng.random_range(0..10) {
                0..4 => None,
                4..9 => Some(SignedDuration::from_secs(self.rng.random_range(0..10))),
                // In another five-minute segment than the envelope.
                _ => Some(SignedDuration::from_secs(self.rng.random_range(300..4_000))),
            };
            samples.push(self.next_sample(metric, unit, ago.map(|ago| ts - ago)));
        }
        if !self.published_points.is_empty() && chance(self.rng, 0.3) {
            // Publishes earlier points again with other values.
            for _ in 0..self.rng.random_range(1..=3) {
                let (metric, unit, at) =
                    self.published_points[self.rng.random_range(0..self.published_points.len())];
                samples.push(self.next_sample(metric, unit, Some(at)));
            }
        }
        self.published_points
            .extend(samples.iter().map(|r| (r.metric, r.unit, r.ts.unwrap_or(ts))));
        let measurements: Vec<_> = samples
            .iter()
            .map(|r| {
                let mut json = json!({"type": r.metric, "val": r.value});
                if let Some(ts) = r.ts {
                    json["ts"] = json!(ts);
                }
                if let Some(unit) = r.unit {
                    json["unit"] = json!(unit);
                }
                json
            })
            .collect();
        let content = MessageContent::Telemetry { ts: Some(ts), samples };
        self.send_v2_at(
            "telemetry",
            "telemetry",
            ts,
            json!({"measurements": measurements}),
            content,
        );
    }

    fn next_sample(
        &mut self,
        metric: &'static str,
        unit: Option<&'static str>,
        ts: Option<Timestamp>,
    ) -> Sample {
        self.message_counter += 1;
        // Eighths are exact in binary, and so unchanged by any conversion to text.
        Sample { metric, ts, value: f64::from(self.message_counter) / 8.0, unit }
    }

    /// Sends a message of version 1, with or without a time.
    pub(super) fn send_v1_telemetry(&mut self) {
        let ts = chance(self.rng, 0.7).then(|| self.device_time());
        let sample = self.next_sample("temperature", Some("celsius"), None);
        let mut payload =
            json!({"device_id": self.profile.id, "temperature": sample.value, "unit": "celsius"});
        if let Some(ts) = ts {
            payload["timestamp"] = json!(ts);
        }
        let content = MessageContent::Telemetry { ts, samples: vec![sample] };
        self.publish("telemetry", payload.to_string().into_bytes(), content);
    }

    pub(super) fn send_hello(&mut self, fw_version: &str) {
        let ts = self.device_time();
        self.message_counter += 1;
        self.send_v2_at(
            "hello",
            "hello",
            ts,
            json!({"fw_version": fw_version, "uptime_s": self.message_counter, "broker_connections": 1, "buf_usage_pct": 0}),
            MessageContent::Hello { ts, fw_version: fw_version.to_owned() },
        );
    }

    /// Sends a status message.
    pub(super) fn send_status(&mut self, online: bool, conn_id: Option<&str>) {
        self.send_status_as(online, conn_id, online);
    }

    /// Sends the last will of a previous connection.
    pub(super) fn send_stale_last_will(&mut self, conn_id: &str) {
        self.send_status_as(false, Some(conn_id), true);
    }

    fn send_status_as(&mut self, online: bool, conn_id: Option<&str>, is_online: bool) {
        let ts = self.device_time();
        self.message_counter += 1;
        let status = if online { "online" } else { "offline" };
        let mut payload = json!({"v": 2, "device_id": self.profile.id, "ts": ts, "status": status, "n": self.message_counter});
        if let Some(conn_id) = conn_id {
            payload["conn_id"] = json!(conn_id);
        }
        self.publish(
            "status",
            payload.to_string().into_bytes(),
            MessageContent::Status { ts, is_online },
        );
    }

    /// Sends an acknowledgement of an unknown command.
    pub(super) fn send_unknown_ack(&mut self) {
        let ts = self.device_time();
        let id = Uuid::from_u128(self.rng.random());
        let content =
            MessageContent::Ack { ts, planned_command: None, result: "accepted", detail: None };
        self.send_v2_at(
            "command/ack",
            "command_ack",
            ts,
            json!({"cmd_id": id, "result": "accepted"}),
            content,
        );
    }

    pub(super) fn send_invalid_message(&mut self) {
        self.message_counter += 1;
        let n = self.message_counter;
        let id = &self.profile.id;
        let kind = self.rng.random_range(0..8);
        let v2 = |field: &str, value: Value| {
            let mut payload = json!({"v": 2, "device_id": id, "ts": "2024-01-01T00:00:00Z", "seq": n,
                "msg_type": "telemetry", "measurements": [{"type": "m", "val": n}]});
            payload[field] = value;
            payload.to_string().into_bytes()
        };
        let payload = match kind {
            0 => format!("no json {n}").into_bytes(),
            1 => [&b"\xff\x00\n"[..], &n.to_be_bytes()].concat(),
            2 => v2("device_id", json!("other-device")),
            3 => v2("v", json!(3)),
            4 => v2("ts", json!("yesterday")),
            5 => v2("measurements", json!([{"type": "m", "val": "much"}, {"n": n}])),
            6 => [vec![b'['; 20_000], n.to_be_bytes().to_vec()].concat(),
            _ => format!("not the output of an IoT rule: {id} {n}").into_bytes(),
        };
        let content = if kind == 7 {
            MessageContent::InvalidEnvelope
        } else {
            MessageContent::InvalidPayload
        };
        self.publish("telemetry", payload, content);
    }

    /// Sends a message of version 2 with the time of its content.
    pub(super) fn send_v2(
        &mut self,
        suffix: &str,
        msg_type: &str,
        more: Value,
        content: MessageContent,
    ) {
        let ts = match &content {
            MessageContent::Ack { ts, .. } | MessageContent::Upgrade { ts, .. } => *ts,
            _ => self.device_time(),
        };
        self.send_v2_at(suffix, msg_type, ts, more, content);
    }

    fn send_v2_at(
        &mut self,
        suffix: &str,
        msg_type: &str,
        ts: Timestamp,
        more: Value,
        content: MessageContent,
    ) {
        if chance(self.rng, 0.05) {
            // A gap: these sequence numbers are never sent.
            self.seq = self.seq.wrapping_add(self.rng.random_range(1..=3));
        }
        let mut payload = json!({"v": 2, "device_id": self.profile.id, "ts": ts, "seq": self.seq, "msg_type": msg_type});
        self.seq = self.seq.wrapping_add(1);
        if let Some(boot) = &self.boot {
            payload["boot"] = boot.clone();
        }
        if let (Some(payload), Value::Object(more)) = (payload.as_object_mut(), more) {
            payload.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        }
        let bytes = match chance(self.rng, 0.1) {
            true => serde_json::to_vec_pretty(&payload).unwrap_or_default(),
            false => payload.to_string().into_bytes(),
        };
        self.publish(suffix, bytes, content);
    }

    /// Publishes a message one or more times, as QoS 1 permits.
    fn publish(&mut self, suffix: &str, payload: Vec<u8>, content: MessageContent) {
        let topic = format!("iot/{}/{suffix}", self.profile.id);
        self.publish_to(topic, payload, content);
    }

    fn publish_to(&mut self, topic: String, payload: Vec<u8>, content: MessageContent) {
        let phase = if self.is_late { LATE_PHASE } else { self.phase };
        let message = self.scenario.messages.len();
        self.scenario.messages.push(Message { device: self.device, topic, payload, content });
        let is_repeated = chance(self.rng, 0.15) && self.allows_repeats;
        let times = if is_repeated { self.rng.random_range(2..=3) } else { 1 };
        for _ in 0..times {
            let pause = match self.rng.random_range(0..10) {
                0..3 => 1,
                3..9 => self.rng.random_range(1..2_000),
                _ => self.rng.random_range(2_000..120_000),
            };
            self.receipt_time += SignedDuration::from_millis(pause);
            self.scenario.receipts.push(Receipt { message, at: self.receipt_time, phase });
        }
    }
}
