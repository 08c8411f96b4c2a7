//! A shorter report interval makes offline detection earlier, whether it is set by REST or MQTT.

use meter_domain::state::DevicePolicy;
use meter_service::rule_cache::RuleCache;
use meter_service::watchdog::Watchdog;
use meter_testing::http::{post, put};
use meter_testing::memory::{Fault, MemoryStores, Operation};
use serde_json::{Value, json};

use crate::system::{System, device_id, t};

/// The number of devices that a run of the watchdog detects as offline.
async fn run_watchdog(memory: &MemoryStores, at: &str) -> usize {
    let watchdog = Watchdog {
        stores: memory.clone(),
        alert_rules: RuleCache::new(60),
        // Rollups have deadlines of their own.
        policy: DevicePolicy { rollup_gap_s: None, ..DevicePolicy::default() },
        rollup_ttl_days: None,
    };
    watchdog.run(t(at)).await.unwrap().went_offline
}

/// A device with a report interval of 20 minutes that sent a message at 12:30: its next check is
/// more than an hour later.
async fn quiet_device() -> System {
    let system = System::new();
    system.register("a").await;
    configure(&system, json!({"send_interval_s": 1_200, "hello_interval_s": 1_200})).await;
    system.telemetry("a", "2026-03-10T12:30:10Z", json!([{"type": "pf", "val": 1}])).await;
    assert_eq!(run_watchdog(&system.memory, "2026-03-10T12:32:00Z").await, 0);
    let due = system.memory.state(&device_id("a")).unwrap().next_check;
    assert!(due > Some(t("2026-03-10T13:00:00Z")), "{due:?}");
    system
}

async fn configure(system: &System, config: Value) {
    let put = put("/api/devices/a/config").json(&config).at("2026-03-10T12:32:20Z");
    assert_eq!(system.call(put).await.status, 200);
}

/// The id of a command that sets the report interval to 40 s.
async fn create_command(system: &System) -> String {
    let body = json!({"cmd": "update_config", "params": {"send_interval_s": 40}});
    let order = post("/api/devices/a/commands").json(&body).at("2026-03-10T12:32:10Z");
    let answered = system.call(order).await;
    assert_eq!(answered.status, 201);
    answered.json()["cmd_id"].as_str().unwrap().to_owned()
}

/// An acknowledgement by MQTT, which records activity as well.
async fn acknowledge(system: &System, cmd_id: &str, result: &str) {
    const AT: &str = "2026-03-10T12:32:15Z";
    let ack = json!({"v": 2, "device_id": "a", "ts": AT, "seq": 2, "msg_type": "command_ack",
        "cmd_id": cmd_id, "result": result});
    system.receive(&[("iot/a/command/ack", ack.to_string().into_bytes(), AT)]).await;
}

#[tokio::test]
async fn shorter_interval_by_put_counts_from_the_last_message() {
    for loses_the_lock in [false, true] {
        let system = quiet_device().await;
        if loses_the_lock {
            system.memory.conflict_next(&device_id("a"));
        }
        configure(&system, json!({"send_interval_s": 60})).await;
        assert_eq!(
            run_watchdog(&system.memory, "2026-03-10T12:33:00Z").await,
            0,
            "not three minutes"
        );
        assert_eq!(run_watchdog(&system.memory, "2026-03-10T12:34:00Z").await, 1);
        let status = system.json("/api/devices/a/status").await;
        assert_eq!(status["connection_status"], "offline");
    }
}

#[tokio::test]
async fn shorter_interval_accepted_by_mqtt_counts_from_the_acknowledgement() {
    let system = quiet_device().await;
    let cmd_id = create_command(&system).await;
    acknowledge(&system, &cmd_id, "accepted").await;
    assert_eq!(run_watchdog(&system.memory, "2026-03-10T12:34:00Z").await, 0, "not two minutes");
    assert_eq!(run_watchdog(&system.memory, "2026-03-10T12:35:00Z").await, 1);
}

#[tokio::test]
async fn shorter_interval_accepted_by_rest_counts_from_the_last_message() {
    let system = quiet_device().await;
    let cmd_id = create_command(&system).await;
    let accepted = put(&format!("/api/commands/{cmd_id}/ack")).json(&json!({"result": "accepted"}));
    assert_eq!(system.call(accepted.at("2026-03-10T12:32:15Z")).await.status, 200);
    assert_eq!(run_watchdog(&system.memory, "2026-03-10T12:33:00Z").await, 1);
}

#[tokio::test]
async fn rejected_interval_has_no_effect() {
    let system = quiet_device().await;
    let cmd_id = create_command(&system).await;
    acknowledge(&system, &cmd_id, "rejected").await;
    for minute in 33..60 {
        let at = format!("2026-03-10T12:{minute}:00Z");
        assert_eq!(run_watchdog(&system.memory, &at).await, 0, "{at}");
    }
}

#[tokio::test]
async fn repeated_request_applies_an_interval_that_failed() {
    let system = quiet_device().await;
    let shorter = || put("/api/devices/a/config").json(&json!({"send_interval_s": 60}));
    system.memory.fail_next(Operation::SaveStates, Fault::Reject);
    let failed = system.call(shorter().at("2026-03-10T12:32:20Z")).await;
    assert!(failed.status >= 500, "{}", failed.text());
    assert_eq!(system.call(shorter().at("2026-03-10T12:32:30Z")).await.status, 200);
    assert_eq!(run_watchdog(&system.memory, "2026-03-10T12:34:00Z").await, 1);
}
