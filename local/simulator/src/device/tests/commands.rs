//! Commands and firmware upgrades.

use super::*;

#[test]
fn accepted_configuration_takes_effect_at_once() {
    let mut harness = DeviceHarness::online(|_| {});
    let params = json!({"send_interval_s": 2, "sampling_cadence_ms": 500});
    assert_eq!(harness.command(1, "update_config", params), None);
    assert_eq!(harness.sent_of_kind(Kind::CommandAck)[0]["result"], "accepted");
    harness.advance(seconds(10));
    let messages = harness.sent_of_kind(Kind::Telemetry);
    assert_eq!(messages.len(), 5);
    assert_eq!(messages[4]["measurements"].as_array().unwrap().len(), 4 * 2 + 1);
}

#[test]
fn rejected_configuration_changes_nothing() {
    let mut harness = DeviceHarness::online(|_| {});
    let before = harness.device.config().clone();
    harness.command(1, "update_config", json!({"send_interval_s": 5, "hello_interval_s": 1}));
    let ack = &harness.sent_of_kind(Kind::CommandAck)[0];
    assert_eq!(ack["result"], "rejected");
    assert!(ack["detail"].as_str().unwrap().starts_with("hello_interval_s"));
    assert_eq!(harness.device.config(), &before);
}

#[test]
fn new_brokers_are_tried_before_initial_brokers() {
    let mut harness = DeviceHarness::online(|_| {});
    let params = json!({"brokers": [{"host": "b.example", "port": 8883}]});
    assert_eq!(
        harness.command(1, "update_config", params.clone()),
        Some(LifecycleRequest::Reconnect)
    );
    let brokers: Vec<_> = harness.device.brokers().iter().map(ToString::to_string).collect();
    assert_eq!(brokers, ["b.example:8883", "127.0.0.1:1883"]);
    assert_eq!(harness.command(2, "update_config", params), None, "the brokers are the same");
}

#[test]
fn request_status_is_acknowledged_and_sends_hello() {
    let mut harness = DeviceHarness::online(|_| {});
    harness.command(1, "request_status", json!({}));
    assert_eq!(harness.kinds(), [Kind::CommandAck, Kind::Hello]);
}

#[test]
fn reboot_is_acknowledged_and_restarts_seq_at_zero() {
    let mut harness = DeviceHarness::online(|_| {});
    assert_eq!(harness.command(1, "reboot", json!({})), Some(LifecycleRequest::Restart));
    let ack = &harness.sent_of_kind(Kind::CommandAck)[0];
    assert_eq!((&ack["boot"], &ack["seq"]), (&json!("boot-1"), &json!(1)));
    harness.power_cycle();
    let hello = &harness.sent_of_kind(Kind::Hello)[0];
    assert_eq!((&hello["boot"], &hello["seq"]), (&json!("boot-2"), &json!(0)));
}

#[test]
fn repeated_reboot_command_is_acknowledged_and_not_executed() {
    let mut harness = DeviceHarness::online(|_| {});
    assert_eq!(harness.command(1, "reboot", json!({})), Some(LifecycleRequest::Restart));
    harness.power_cycle();
    harness.sent();
    assert_eq!(harness.command(1, "reboot", json!({})), None);
    assert_eq!(harness.sent_of_kind(Kind::CommandAck)[0]["result"], "accepted");
    assert_eq!(
        (harness.counters.commands_accepted.get(), harness.counters.commands_repeated.get()),
        (1, 1)
    );
}

#[test]
fn factory_reset_restores_initial_configuration() {
    let mut harness = DeviceHarness::online(|_| {});
    harness.command(1, "update_config", json!({"send_interval_s": 77}));
    assert_eq!(harness.command(2, "factory_reset", json!({})), Some(LifecycleRequest::Restart));
    assert_eq!(harness.device.config().send_interval_s, 10);
}

#[test]
fn expired_or_invalid_command_is_not_acknowledged() {
    let mut harness = DeviceHarness::online(|_| {});
    let expired = json!({
        "v": 2, "cmd_id": Uuid::nil(), "cmd": "reboot", "expires_at": "2026-01-01T11:59:59Z",
    });
    for payload in [expired.to_string().as_bytes(), b"\xff", b"{}", b""] {
        assert_eq!(harness.device.command(payload, harness.now), None);
    }
    assert!(harness.sent().is_empty());
    assert_eq!(harness.counters.commands_ignored.get(), 4);
}

#[test]
fn upgrade_reports_every_state_and_changes_version_of_next_hello() {
    let mut harness = DeviceHarness::online(|_| {});
    harness.start_ota("2.0.0");
    assert_eq!(harness.advance(seconds(60)), Some(LifecycleRequest::Restart));
    let mut states: Vec<_> = harness
        .sent_of_kind(Kind::OtaStatus)
        .iter()
        .map(|m| m["ota_state"].as_str().unwrap().to_owned())
        .collect();
    states.dedup();
    assert_eq!(states, ["downloading", "verifying", "applying", "success"]);
    harness.power_cycle();
    assert_eq!(harness.sent_of_kind(Kind::Hello)[0]["fw_version"], "2.0.0");
}

#[test]
fn image_with_wrong_digest_keeps_old_version() {
    let mut harness = DeviceHarness::online(|_| {});
    harness.start_ota("2.0.0-bad");
    assert_eq!(harness.advance(seconds(60)), None);
    let last = harness.sent_of_kind(Kind::OtaStatus).pop().unwrap();
    assert_eq!(last["ota_state"], "failed");
    assert_eq!(last["fw_version_target"], "2.0.0-bad");
    harness.command(3, "request_status", json!({}));
    assert_eq!(harness.sent_of_kind(Kind::Hello)[0]["fw_version"], "1.0.0");
}

#[test]
fn upgrade_interrupted_by_power_failure_is_reported_as_failed() {
    let mut harness = DeviceHarness::online(|_| {});
    harness.start_ota("2.0.0");
    harness.advance(seconds(1));
    harness.sent();
    harness.power_cycle();
    let failed = &harness.sent_of_kind(Kind::OtaStatus)[0];
    assert_eq!(failed["ota_state"], "failed");
    assert_eq!(failed["boot"], "boot-2");
    assert_eq!(harness.advance(seconds(60)), None);
}
