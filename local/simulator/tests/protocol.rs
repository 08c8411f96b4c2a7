//! The parser of the platform accepts the messages of the simulator.

// clippy.toml allows it in test functions, but not in their helpers.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use meter_domain::message::{Body, Category, ReceivedMessage, parse};
use proptest::prelude::*;
use serde_json::json;
use simulator::clock::ClockReading;
use simulator::config::Configuration;
use simulator::counters::Counters;
use simulator::device::{Device, Specification};
use simulator::faults::FaultRates;
use simulator::message::{Message, Presence};
use simulator::train::TractionSystem;
use uuid::Uuid;

/// The messages of a device in ten minutes with every kind of command.
fn simulate_messages(system: TractionSystem, seed: u64) -> Vec<Message> {
    let spec = Specification {
        device_id: "a:meter_1".to_owned(),
        system,
        fw_version: semver::Version::new(1, 0, 0),
        config: Configuration::with_broker("127.0.0.1:1883".parse().unwrap()),
        faults: FaultRates { loss: 0.0, duplication: 0.1, reordering: 0.1 },
        buffer: 10_000,
        seed,
        count: None,
    };
    let mut now = ClockReading {
        elapsed: Duration::from_secs(100),
        wall: "2026-01-01T00:00:00Z".parse().unwrap(),
    };
    let counters = Arc::new(Counters::default());
    let mut device = Device::new(spec, "b".to_owned(), 0.5, now, counters);
    device.connected(now);
    let ota = json!({
        "fw_version": "2.0.0-bad", "fw_url": "https://firmware.example/image",
        "fw_sha256": "0".repeat(64), "fw_size_bytes": 1,
    });
    for (n, (cmd, params)) in [
        ("start_ota", ota),
        ("update_config", json!({"send_interval_s": 120})),
        ("update_config", json!({"send_interval_s": -1})),
        ("request_status", json!({})),
        ("dance", json!({})),
    ]
    .into_iter()
    .enumerate()
    {
        let cmd_id = Uuid::from_u128(n as u128);
        let text = json!({"v": 2, "cmd_id": cmd_id, "cmd": cmd, "params": params}).to_string();
        device.command(text.as_bytes(), now);
    }
    let mut messages =
        vec![device.status(Presence::Online, "c", now), device.status(Presence::Offline, "c", now)];
    for _ in 0..100 {
        let elapsed = device.next_tick();
        now = ClockReading { elapsed, wall: now.wall_at(elapsed) };
        device.tick(now);
    }
    device.flush(now);
    messages.extend(std::iter::from_fn(|| device.outbox().pop()).map(|queued| queued.message));
    messages
}

fn systems() -> impl Strategy<Value = TractionSystem> {
    prop::sample::select(vec![
        TractionSystem::Dc1500V,
        TractionSystem::Dc3000V,
        TractionSystem::Ac15kV,
        TractionSystem::Ac25kV,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn platform_parses_every_message_of_a_device(system in systems(), seed: u64) {
        let mut categories = Vec::new();
        for message in simulate_messages(system, seed) {
            let received = ReceivedMessage {
                topic: message.kind.topic("a:meter_1"),
                payload: message.payload,
                received_at: "2026-01-02T00:00:00Z".parse::<jiff::Timestamp>().unwrap().try_into().unwrap(),
            };
            let read = parse(&received);
            prop_assert!(read.is_ok(), "{:?}: {:?}", received, read);
            let read = read.unwrap();
            prop_assert_eq!(read.device_id.as_str(), "a:meter_1");
            prop_assert_eq!(read.category.as_str(), message.kind.as_str());
            prop_assert_eq!(read.seq.is_none(), read.category == Category::Status);
            if let Body::Telemetry(measurements) = &read.body {
                prop_assert!(measurements.iter().all(|m| m.time <= read.ts));
            }
            categories.push(read.category);
        }
        // IoT Core publishes the others.
        let own = |category: &Category| category.topic_suffix().is_some();
        for category in Category::ALL.into_iter().filter(own) {
            prop_assert!(categories.contains(&category), "no message of {category}");
        }
    }
}
