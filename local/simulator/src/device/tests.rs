mod commands;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::message::{Kind, MAX_SAMPLES};

/// A device under test, with its clock.
struct DeviceHarness {
    device: Device,
    now: ClockReading,
    counters: Arc<Counters>,
}

impl DeviceHarness {
    fn new(change: impl FnOnce(&mut Specification)) -> Self {
        let mut spec = Specification {
            device_id: "dc-meter-001".to_owned(),
            system: TractionSystem::Dc1500V,
            fw_version: Version::new(1, 0, 0),
            config: Configuration::with_broker("127.0.0.1:1883".parse().unwrap()),
            faults: FaultRates::default(),
            buffer: 1_000,
            seed: 1,
            count: None,
        };
        change(&mut spec);
        let now =
            ClockReading { elapsed: Duration::ZERO, wall: "2026-01-01T12:00:00Z".parse().unwrap() };
        let counters = Arc::new(Counters::default());
        let device = Device::new(spec, "boot-1".to_owned(), 1.0, now, Arc::clone(&counters));
        Self { device, now, counters }
    }

    /// A connected device whose first hello is removed.
    fn online(change: impl FnOnce(&mut Specification)) -> Self {
        let mut harness = Self::new(change);
        harness.device.connected(harness.now);
        assert_eq!(harness.kinds(), [Kind::Hello]);
        harness
    }

    /// Advances the time, with a tick at each [`Device::next_tick`].
    fn advance(&mut self, time: Duration) -> Option<LifecycleRequest> {
        let end = self.now.elapsed + time;
        loop {
            let wake = self.device.next_tick().max(self.now.elapsed);
            if wake > end {
                self.set_elapsed(end);
                return None;
            }
            self.set_elapsed(wake);
            let request = self.device.tick(self.now);
            if request.is_some() {
                return request;
            }
        }
    }

    fn set_elapsed(&mut self, to: Duration) {
        let wall = self.now.wall_at(to);
        self.now = ClockReading { elapsed: to, wall };
    }

    fn sent(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.device.outbox().pop()).map(|queued| queued.message).collect()
    }

    fn kinds(&mut self) -> Vec<Kind> {
        self.sent().iter().map(|message| message.kind).collect()
    }

    fn sent_of_kind(&mut self, kind: Kind) -> Vec<Value> {
        let sent = self.sent();
        sent.iter().filter(|message| message.kind == kind).map(value).collect()
    }

    fn command(&mut self, cmd_id: u128, cmd: &str, params: Value) -> Option<LifecycleRequest> {
        let cmd_id = Uuid::from_u128(cmd_id);
        let text = json!({"v": 2, "cmd_id": cmd_id, "cmd": cmd, "params": params}).to_string();
        self.device.command(text.as_bytes(), self.now)
    }

    fn start_ota(&mut self, version: &str) {
        let params = json!({
            "fw_version": version, "fw_url": "https://firmware.example/image",
            "fw_sha256": "0".repeat(64), "fw_size_bytes": 1,
        });
        assert_eq!(self.command(99, "start_ota", params), None);
    }

    fn power_cycle(&mut self) {
        self.device.disconnected(Vec::new());
        self.device.power_on("boot-2".to_owned(), self.now);
        self.device.connected(self.now);
    }
}

fn value(message: &Message) -> Value {
    serde_json::from_slice(&message.payload).unwrap()
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn message_contains_samples_of_interval_and_one_temperature() {
    let mut harness = DeviceHarness::online(|_| {});
    harness.advance(seconds(20));
    let messages = harness.sent_of_kind(Kind::Telemetry);
    assert_eq!(messages.len(), 2);
    let measurements = messages[1]["measurements"].as_array().unwrap();
    let times: Vec<_> = measurements
        .iter()
        .filter(|m| m["type"] == "current_dc")
        .map(|m| m["ts"].as_str().unwrap())
        .collect();
    assert_eq!(times.len(), 10);
    assert_eq!((times[0], times[9]), ("2026-01-01T12:00:11Z", "2026-01-01T12:00:20Z"));
    assert_eq!(measurements.iter().filter(|m| m["type"] == "temperature").count(), 1);
}

#[test]
fn full_message_is_sent_before_the_interval_ends() {
    let mut harness = DeviceHarness::online(|spec| {
        spec.config.sampling_cadence_ms = 100;
        spec.config.send_interval_s = 60;
    });
    harness.advance(seconds(60));
    let messages = harness.sent_of_kind(Kind::Telemetry);
    let sizes: Vec<_> =
        messages.iter().map(|m| m["measurements"].as_array().unwrap().len()).collect();
    assert!(sizes.len() > 5 && sizes.iter().all(|n| (1..=MAX_SAMPLES).contains(n)), "{sizes:?}");
    let samples: usize = sizes.iter().map(|n| (n - 1) / 2).sum();
    assert_eq!(samples, 601);
}

#[test]
fn suspended_process_sends_all_samples_without_empty_messages() {
    let mut harness = DeviceHarness::online(|_| {});
    harness.set_elapsed(seconds(600));
    harness.device.tick(harness.now);
    let late = harness.sent_of_kind(Kind::Telemetry);
    let samples: usize =
        late.iter().map(|m| (m["measurements"].as_array().unwrap().len() - 1) / 2).sum();
    assert_eq!(samples, 601);
    harness.advance(seconds(10));
    assert_eq!(harness.sent_of_kind(Kind::Telemetry).len(), 1);
}

#[test]
fn cadence_longer_than_interval_sends_no_empty_message() {
    let mut harness = DeviceHarness::online(|spec| {
        spec.config.sampling_cadence_ms = 10_000;
        spec.config.send_interval_s = 1;
    });
    harness.advance(seconds(30));
    assert_eq!(harness.sent_of_kind(Kind::Telemetry).len(), 4);
}

#[test]
fn hello_at_connection_contains_number_of_connections() {
    let mut harness = DeviceHarness::new(|_| {});
    harness.device.connected(harness.now);
    harness.device.disconnected(Vec::new());
    harness.set_elapsed(seconds(7));
    harness.device.connected(harness.now);
    let hellos = harness.sent_of_kind(Kind::Hello);
    assert_eq!(hellos.len(), 2);
    assert_eq!(hellos[0]["broker_connections"], 1);
    assert_eq!(hellos[1]["broker_connections"], 2);
    assert_eq!(hellos[1]["uptime_s"], 7);
    assert_eq!(hellos[1]["fw_version"], "1.0.0");
}

#[test]
fn heartbeats_are_sent_only_when_telemetry_is_less_frequent() {
    let mut often = DeviceHarness::online(|spec| spec.config.send_interval_s = 30);
    often.advance(seconds(120));
    assert!(often.sent_of_kind(Kind::Hello).is_empty());
    let mut rarely = DeviceHarness::online(|spec| spec.config.send_interval_s = 60);
    rarely.advance(seconds(120));
    assert_eq!(rarely.sent_of_kind(Kind::Hello).len(), 4);
}

#[test]
fn disconnected_device_buffers_telemetry_but_no_heartbeats() {
    let mut harness = DeviceHarness::online(|spec| {
        spec.config.send_interval_s = 60;
        spec.buffer = 10;
    });
    harness.device.disconnected(Vec::new());
    harness.advance(seconds(120));
    harness.device.connected(harness.now);
    let sent = harness.sent();
    let kinds: Vec<_> = sent.iter().map(|message| message.kind).collect();
    assert_eq!(kinds, [Kind::Telemetry, Kind::Telemetry, Kind::Hello]);
    assert_eq!(value(&sent[2])["buf_usage_pct"], 20);
}

#[test]
fn unacknowledged_messages_are_sent_first_after_reconnection() {
    let mut harness = DeviceHarness::online(|_| {});
    harness.advance(seconds(20));
    let in_flight = harness.sent();
    harness.device.disconnected(in_flight.clone());
    harness.advance(seconds(10));
    let again = harness.sent();
    assert_eq!(again[..2], in_flight[..]);
    assert_eq!(again.len(), 3);
}

#[test]
fn sequence_wraps_at_two_to_the_32() {
    let mut harness = DeviceHarness::online(|_| {});
    harness.device.boot_state.next_seq = u32::MAX;
    harness.advance(seconds(20));
    let seqs: Vec<_> = harness.sent().iter().map(|m| value(m)["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [4_294_967_295, 0]);
}

#[test]
fn last_will_contains_boot_and_conn_id() {
    let harness = DeviceHarness::new(|_| {});
    let will = value(&harness.device.status(Presence::Offline, "conn-1", harness.now));
    assert_eq!(will["boot"], "boot-1");
    assert_eq!(will["conn_id"], "conn-1");
    assert_eq!(will["status"], "offline");
}

#[test]
fn device_stops_after_count_messages() {
    let mut harness = DeviceHarness::online(|spec| spec.count = Some(3));
    assert_eq!(harness.advance(seconds(3_600)), Some(LifecycleRequest::Stop));
    harness.device.flush(harness.now);
    assert_eq!(harness.kinds(), [Kind::Telemetry; 3]);
}

#[test]
fn flush_sends_all_samples_and_delayed_messages() {
    let mut harness = DeviceHarness::new(|spec| spec.faults.reordering = 1.0);
    harness.advance(seconds(25));
    harness.device.flush(harness.now);
    let telemetry = harness.sent_of_kind(Kind::Telemetry);
    let samples: usize =
        telemetry.iter().map(|m| (m["measurements"].as_array().unwrap().len() - 1) / 2).sum();
    assert_eq!(samples, 26);
}

/// An event of a device in a property test.
#[derive(Debug, Clone)]
enum TestEvent {
    Pass(u64),
    Command(u128, &'static str),
    Connect,
    Disconnect,
    PowerCycle,
}

fn test_event() -> impl Strategy<Value = TestEvent> {
    prop_oneof![
        (1..100_000_u64).prop_map(TestEvent::Pass),
        (
            0..6_u128,
            prop::sample::select(vec!["reboot", "request_status", "factory_reset", "dance"])
        )
            .prop_map(|(id, cmd)| TestEvent::Command(id, cmd)),
        Just(TestEvent::Connect),
        Just(TestEvent::Disconnect),
        Just(TestEvent::PowerCycle),
    ]
}

proptest! {
    #[test]
    fn seq_counts_from_zero_without_gap_in_every_boot(
        happenings in prop::collection::vec(test_event(), 1..40),
    ) {
        let mut harness = DeviceHarness::new(|spec| spec.buffer = 100_000);
        let mut boots = 1;
        for test_event in happenings {
            match test_event {
                TestEvent::Pass(ms) => { harness.advance(Duration::from_millis(ms)); }
                TestEvent::Command(id, cmd) => { harness.command(id, cmd, json!({})); }
                TestEvent::Connect => harness.device.connected(harness.now),
                TestEvent::Disconnect => harness.device.disconnected(Vec::new()),
                TestEvent::PowerCycle => {
                    boots += 1;
                    harness.device.power_on(format!("boot-{boots}"), harness.now);
                }
            }
        }
        let mut expected = (String::new(), 0);
        for message in harness.sent() {
            let message = value(&message);
            let boot = message["boot"].as_str().unwrap();
            if boot != expected.0 {
                expected = (boot.to_owned(), 0);
            }
            prop_assert_eq!(message["seq"].as_u64(), Some(expected.1));
            expected.1 += 1;
        }
    }
}
