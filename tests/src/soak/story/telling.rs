//! How a device says things: envelopes, sequence numbers, clocks, and saying it twice.

use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::character::{Boot, Character};
use super::{Dice, Meaning, Message, Reading, Receipt, STRAGGLER, Story, happens};

/// What devices measure, with the unit that they send: one that the platform knows by name, others that
/// it does not.
const METRICS: [(&str, Option<&str>); 5] = [
    ("temperature", None),
    ("m.1", None),
    ("m-2", Some("kPa")),
    ("M_3", Some("%")),
    ("battery", Some("V")),
];

/// The pause after an act: long against any patience with a device that flaps.
const BETWEEN_ACTS: SignedDuration = SignedDuration::from_hours(1);

/// A device that speaks.
pub(super) struct Teller<'a> {
    pub(super) dice: &'a mut Dice,
    story: &'a mut Story,
    device: usize,
    character: &'a Character,
    /// The platform's clock.
    received: Timestamp,
    /// What to add to the platform's clock for the device's.
    clock_error: SignedDuration,
    act: usize,
    /// What is said is not delivered before the very end.
    straggles: bool,
    repeats: bool,
    /// Of its connection to IoT Core.
    version: u64,
    boot: Option<Value>,
    seq: u32,
    /// Makes values, and so messages, differ.
    said: u32,
    /// Points that it has spoken of.
    known: Vec<(&'static str, Option<&'static str>, Timestamp)>,
    last_ts: Option<Timestamp>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(
        device: usize,
        character: &'a Character,
        begin: Timestamp,
        dice: &'a mut Dice,
        story: &'a mut Story,
    ) -> Self {
        Self {
            dice,
            story,
            device,
            character,
            received: begin,
            clock_error: SignedDuration::ZERO,
            act: 0,
            straggles: false,
            repeats: true,
            version: 0,
            boot: None,
            seq: 0,
            said: 0,
            known: Vec::new(),
            last_ts: None,
        }
    }

    /// Whether it says which firmware an upgrade is to bring.
    pub(super) fn names_its_target(&self) -> bool {
        self.device.is_multiple_of(2)
    }

    /// Power on: the numbers begin again, and the clock may have forgotten the time.
    pub(super) fn switch_on(&mut self, power_on: usize) {
        self.boot = match self.character.boot {
            Boot::Unnamed => None,
            Boot::Counted => Some(json!(power_on + 1)),
            Boot::Named => {
                Some(json!(format!("boot-{power_on}-{}", self.dice.random_range(0..1000))))
            }
        };
        // Some begin just below the wrap.
        self.seq = if happens(self.dice, 0.1) { u32::MAX - 5 } else { 0 };
        self.clock_error = match self.dice.random_range(0..10) {
            0 => self.received.duration_until(Timestamp::UNIX_EPOCH),
            1 => SignedDuration::from_secs(3_600),
            2 => SignedDuration::from_secs(-100),
            _ => SignedDuration::ZERO,
        };
    }

    /// What is said from now on is delivered when everything before has been handled.
    pub(super) fn next_act(&mut self) {
        self.act += 1;
        self.received += BETWEEN_ACTS;
    }

    /// The same, but without a pause.
    pub(super) fn next_act_soon(&mut self) {
        self.act += 1;
    }

    /// What is said meanwhile comes when nobody waits for it any more.
    pub(super) fn straggle(&mut self, say: impl FnOnce(&mut Self)) {
        self.straggles = true;
        say(self);
        self.straggles = false;
    }

    /// What is said meanwhile arrives once. So no repeat of the last word is a later sign of life, in a
    /// batch of its own, than it was in a batch with it.
    pub(super) fn say_once(&mut self, say: impl FnOnce(&mut Self)) {
        self.repeats = false;
        say(self);
        self.repeats = true;
    }

    /// IoT Core says that it has connected.
    pub(super) fn connected(&mut self) {
        self.version += 1;
        self.lifecycle("connected", self.version, true);
    }

    /// IoT Core says that its connection has ended.
    pub(super) fn disconnected(&mut self) {
        self.version += 1;
        self.lifecycle("disconnected", self.version, false);
    }

    /// IoT Core says, after it has connected again, that its connection before has ended.
    pub(super) fn old_disconnected(&mut self) {
        self.lifecycle("disconnected", self.version - 1, true);
    }

    fn lifecycle(&mut self, event: &str, version: u64, is_there: bool) {
        let id = &self.character.id;
        let ts = self.received.as_millisecond();
        let payload = json!({"clientId": id, "timestamp": ts, "eventType": event,
            "versionNumber": version, "sessionIdentifier": "s", "principalIdentifier": "p"});
        let topic = format!("$aws/events/presence/{event}/{id}");
        let meaning = Meaning::Lifecycle { ts: self.received, is_there };
        self.say_on(topic, payload.to_string().into_bytes(), meaning);
    }

    /// The device's clock.
    pub(super) fn now(&mut self) -> Timestamp {
        let ts = match self.last_ts {
            // Two messages with one time: whose point it is, then, is a matter of their identity.
            Some(last) if happens(self.dice, 0.05) => last,
            // Never on a whole millisecond, as the platform's clock always is: else the time of a message
            // might be that of another one's receipt, and there would be no telling whose point it is.
            _ => self.received + self.clock_error + SignedDuration::from_micros(7),
        };
        self.last_ts = Some(ts);
        ts
    }

    pub(super) fn readings(&mut self) {
        let ts = self.now();
        let mut readings = Vec::new();
        for _ in 0..self.dice.random_range(1..=10) {
            let (metric, unit) = METRICS[self.dice.random_range(0..METRICS.len())];
            let ago = match self.dice.random_range(0..10) {
                0..4 => None,
                4..9 => Some(SignedDuration::from_secs(self.dice.random_range(0..10))),
                // Another interval of the store than the envelope's.
                _ => Some(SignedDuration::from_secs(self.dice.random_range(300..4_000))),
            };
            readings.push(self.reading(metric, unit, ago.map(|ago| ts - ago)));
        }
        if !self.known.is_empty() && happens(self.dice, 0.3) {
            // It says again what it has said, and something else.
            for _ in 0..self.dice.random_range(1..=3) {
                let (metric, unit, at) = self.known[self.dice.random_range(0..self.known.len())];
                readings.push(self.reading(metric, unit, Some(at)));
            }
        }
        self.known.extend(readings.iter().map(|r| (r.metric, r.unit, r.ts.unwrap_or(ts))));
        let measurements: Vec<_> = readings
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
        let meaning = Meaning::Readings { ts: Some(ts), readings };
        self.say_at("telemetry", "telemetry", ts, json!({"measurements": measurements}), meaning);
    }

    fn reading(
        &mut self,
        metric: &'static str,
        unit: Option<&'static str>,
        ts: Option<Timestamp>,
    ) -> Reading {
        self.said += 1;
        // Eighths have an exact binary form, and so survive any way of printing them.
        Reading { metric, ts, value: f64::from(self.said) / 8.0, unit }
    }

    /// Version 1, with a time or without.
    pub(super) fn older_reading(&mut self) {
        let ts = happens(self.dice, 0.7).then(|| self.now());
        let reading = self.reading("temperature", Some("celsius"), None);
        let mut payload = json!({"device_id": self.character.id, "temperature": reading.value, "unit": "celsius"});
        if let Some(ts) = ts {
            payload["timestamp"] = json!(ts);
        }
        let meaning = Meaning::Readings { ts, readings: vec![reading] };
        self.say("telemetry", payload.to_string().into_bytes(), meaning);
    }

    pub(super) fn hello(&mut self, fw_version: &str) {
        let ts = self.now();
        self.said += 1;
        self.say_at(
            "hello",
            "hello",
            ts,
            json!({"fw_version": fw_version, "uptime_s": self.said, "broker_connections": 1, "buf_usage_pct": 0}),
            Meaning::Hello { ts, fw_version: fw_version.to_owned() },
        );
    }

    /// It comes, or goes.
    pub(super) fn status(&mut self, online: bool, conn_id: Option<&str>) {
        self.status_that_means(online, conn_id, online);
    }

    /// The last will of a connection that is not the device's any more.
    pub(super) fn old_will(&mut self, conn_id: &str) {
        self.status_that_means(false, Some(conn_id), true);
    }

    fn status_that_means(&mut self, online: bool, conn_id: Option<&str>, is_there: bool) {
        let ts = self.now();
        self.said += 1;
        let status = if online { "online" } else { "offline" };
        let mut payload = json!({"v": 2, "device_id": self.character.id, "ts": ts, "status": status, "n": self.said});
        if let Some(conn_id) = conn_id {
            payload["conn_id"] = json!(conn_id);
        }
        self.say("status", payload.to_string().into_bytes(), Meaning::Status { ts, is_there });
    }

    /// An answer to a command that nobody has given.
    pub(super) fn unknown_ack(&mut self) {
        let ts = self.now();
        let id = Uuid::from_u128(self.dice.random());
        let meaning = Meaning::Ack { ts, order: None, result: "accepted", detail: None };
        self.say_at(
            "command/ack",
            "command_ack",
            ts,
            json!({"cmd_id": id, "result": "accepted"}),
            meaning,
        );
    }

    pub(super) fn nonsense(&mut self) {
        self.said += 1;
        let n = self.said;
        let id = &self.character.id;
        let kind = self.dice.random_range(0..8);
        let v2 = |field: &str, value: Value| {
            let mut payload = json!({"v": 2, "device_id": id, "ts": "2024-01-01T00:00:00Z", "seq": n,
                "msg_type": "telemetry", "measurements": [{"type": "m", "val": n}]});
            payload[field] = value;
            payload.to_string().into_bytes()
        };
        let payload = match kind {
            0 => format!("no json {n}").into_bytes(),
            1 => [&b"\xff\x00\n"[..], &n.to_be_bytes()].concat(),
            2 => v2("device_id", json!("somebody-else")),
            3 => v2("v", json!(3)),
            4 => v2("ts", json!("yesterday")),
            5 => v2("measurements", json!([{"type": "m", "val": "much"}, {"n": n}])),
            6 => [vec![b'['; 20_000], n.to_be_bytes().to_vec()].concat(),
            _ => format!("not even an object of a rule {id} {n}").into_bytes(),
        };
        let meaning = if kind == 7 { Meaning::Wreck } else { Meaning::Nonsense };
        self.say("telemetry", payload, meaning);
    }

    /// In an envelope of version 2 whose time is the meaning's.
    pub(super) fn say_v2(&mut self, suffix: &str, msg_type: &str, more: Value, meaning: Meaning) {
        let ts = match &meaning {
            Meaning::Ack { ts, .. } | Meaning::Upgrade { ts, .. } => *ts,
            _ => self.now(),
        };
        self.say_at(suffix, msg_type, ts, more, meaning);
    }

    fn say_at(
        &mut self,
        suffix: &str,
        msg_type: &str,
        ts: Timestamp,
        more: Value,
        meaning: Meaning,
    ) {
        if happens(self.dice, 0.05) {
            // A number that never arrives.
            self.seq = self.seq.wrapping_add(self.dice.random_range(1..=3));
        }
        let mut payload = json!({"v": 2, "device_id": self.character.id, "ts": ts, "seq": self.seq, "msg_type": msg_type});
        self.seq = self.seq.wrapping_add(1);
        if let Some(boot) = &self.boot {
            payload["boot"] = boot.clone();
        }
        if let (Some(payload), Value::Object(more)) = (payload.as_object_mut(), more) {
            payload.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        }
        let bytes = match happens(self.dice, 0.1) {
            true => serde_json::to_vec_pretty(&payload).unwrap_or_default(),
            false => payload.to_string().into_bytes(),
        };
        self.say(suffix, bytes, meaning);
    }

    /// Publishes, once or, as QoS 1 allows, several times.
    fn say(&mut self, suffix: &str, payload: Vec<u8>, meaning: Meaning) {
        let topic = format!("iot/{}/{suffix}", self.character.id);
        self.say_on(topic, payload, meaning);
    }

    fn say_on(&mut self, topic: String, payload: Vec<u8>, meaning: Meaning) {
        let act = if self.straggles { STRAGGLER } else { self.act };
        let message = self.story.messages.len();
        self.story.messages.push(Message { device: self.device, topic, payload, meaning });
        let is_repeated = happens(self.dice, 0.15) && self.repeats;
        let times = if is_repeated { self.dice.random_range(2..=3) } else { 1 };
        for _ in 0..times {
            let pause = match self.dice.random_range(0..10) {
                0..3 => 1,
                3..9 => self.dice.random_range(1..2_000),
                _ => self.dice.random_range(2_000..120_000),
            };
            self.received += SignedDuration::from_millis(pause);
            self.story.receipts.push(Receipt { message, at: self.received, act });
        }
    }
}
