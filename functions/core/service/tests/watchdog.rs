//! The scheduled checks on in-memory stores.

#![allow(clippy::unwrap_used, reason = "a test fails where a result is missing")]

use bytes::Bytes;
use meter_domain::alert::{Alert, Severity};
use meter_domain::archive::Location;
use meter_domain::command::{Command, CommandKind, CommandStatus, OtaState};
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{DeviceId, MessageId, new_id};
use meter_domain::message::{Category, ReceivedMessage, parse};
use meter_domain::metric::MetricName;
use meter_domain::rule::{Condition, Rule, RuleSet, Scope};
use meter_domain::segments::{IndexEntry, MessageSegment};
use meter_domain::state::{Connection, DevicePolicy, DeviceState, Effect, NotificationPolicy};
use meter_domain::time::Timestamp;
use meter_service::recount::recount;
use meter_service::rule_cache::RuleCache;
use meter_service::watchdog::{Watchdog, WatchdogReport};
use meter_service::{effects, optimistic_update};
use meter_store::{
    AlertStore, CommandStore, DeviceStore, IngestLag, IngestLagStore, MessageStore, RuleStore,
    StateStore, StateWrite,
};
use meter_testing::memory::{Fault, MemoryStores, Operation};
use serde_json::{Map, Value, json};
use uuid::Uuid;

fn second(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1_000).unwrap()
}

fn id(device: &str) -> DeviceId {
    DeviceId::parse(device).unwrap()
}

/// Without rollups, which make devices due as well.
const POLICY: DevicePolicy = DevicePolicy {
    max_metrics: 64,
    offline_after_s: 60,
    hold_down_s: 300,
    gap_grace_s: 60,
    rollup_gap_s: None,
    rule_hold_down_s: 300,
    reorder_s: 0,
    notify: NotificationPolicy::Disabled,
};

fn watchdog(memory: &MemoryStores, queue_depth: u64) -> Watchdog<MemoryStores> {
    memory.set_depth(queue_depth);
    Watchdog {
        stores: memory.clone(),
        alert_rules: RuleCache::new(60),
        policy: POLICY,
        rollup_ttl_days: None,
    }
}

async fn run(memory: &MemoryStores, s: i64) -> WatchdogReport {
    watchdog(memory, 0).run(second(s)).await.unwrap()
}

async fn register(memory: &MemoryStores, device: &str, config: Value) {
    let row = Device {
        id: new_id(second(0)),
        device_id: id(device),
        device_name: device.to_owned(),
        device_type: None,
        location: None,
        status: DeviceStatus::Active,
        metadata: Map::new(),
        config: config.as_object().unwrap().clone(),
        command_key: None,
        claimable: false,
        claimed_by: None,
        created_at: second(0),
        updated_at: second(0),
        revision: 0,
    };
    let mut state = optimistic_update::read_state(memory, &row.device_id).await.unwrap();
    state.register(second(0), &POLICY);
    DeviceStore::create(memory, &row, &state).await.unwrap();
}

/// Requests the delete of a device.
async fn delete(memory: &MemoryStores, device: &str, s: i64, purge: bool) {
    let row = DeviceStore::get(memory, &id(device)).await.unwrap().unwrap();
    let mut state = optimistic_update::read_state(memory, &id(device)).await.unwrap();
    state.mark_deleted(second(s), purge, &POLICY);
    memory.create_tombstone(&row, &state).await.unwrap();
}

/// Receives a telemetry message of a device at second `s`.
async fn receive_telemetry(memory: &MemoryStores, device: &str, s: i64, seq: u32) {
    let payload = json!({"v": 2, "device_id": device, "ts": second(s), "seq": seq, "boot": 1,
        "msg_type": "telemetry", "measurements": [{"type": "pf", "val": 1}]});
    receive_message(memory, "telemetry", s, payload).await;
}

/// Receives a message on a topic of its device.
async fn receive_message(memory: &MemoryStores, suffix: &str, s: i64, payload: Value) {
    let device = payload["device_id"].as_str().unwrap();
    let message = parse(&ReceivedMessage {
        topic: format!("iot/{device}/{suffix}"),
        payload: payload.to_string().into(),
        received_at: second(s),
    })
    .unwrap();
    let all = memory.all().await.unwrap();
    let set = RuleSet::new(all.rules, all.generation);
    let apply = |state: &mut DeviceState| {
        let known = state.latest.clone();
        state.apply(&[&message], &POLICY);
        state.evaluate(&[&message], &known, &set, &POLICY);
    };
    let state = optimistic_update::update_state(memory, &id(device), apply).await.unwrap();
    effects::dispatch_due_effects(memory, state, second(s), &POLICY).await.unwrap();
}

fn connection(memory: &MemoryStores, device: &str) -> Connection {
    memory.state(&id(device)).unwrap().presence.connection
}

fn command(cmd: CommandKind, created_s: i64) -> Command {
    Command {
        cmd_id: new_id(second(created_s)),
        device_id: id("m"),
        cmd,
        params: Map::new(),
        status: CommandStatus::Pending,
        ack_detail: None,
        created_at: second(created_s),
        published_at: None,
        acked_at: None,
        expires_at: second(created_s + 300),
        ota: None,
    }
}

async fn status_of(memory: &MemoryStores, command: &Command) -> CommandStatus {
    CommandStore::get(memory, &command.device_id, command.cmd_id).await.unwrap().unwrap().status
}

#[tokio::test]
async fn silent_device_is_offline_with_one_alert_until_its_next_message() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    receive_telemetry(&memory, "m", 0, 0).await;
    assert_eq!(run(&memory, 59).await, WatchdogReport::default(), "nothing is due");
    assert_eq!(run(&memory, 60).await.went_offline, 1);
    for s in [120, 180, 240] {
        assert_eq!(run(&memory, s).await.went_offline, 0);
    }
    let alerts = memory.alerts(&id("m"));
    assert_eq!((alerts.len(), connection(&memory, "m")), (1, Connection::Offline));
    receive_telemetry(&memory, "m", 300, 1).await;
    assert_eq!(connection(&memory, "m"), Connection::Online);
    assert_eq!(memory.alerts(&id("m"))[0].resolved_at, Some(second(300)));
    let counts = memory.counts().await.unwrap();
    assert_eq!(counts.by_connection.get(&Connection::Online), Some(&1));
}

#[tokio::test]
async fn offline_detection_respects_the_report_interval() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({"send_interval_s": 600, "hello_interval_s": 200})).await;
    receive_telemetry(&memory, "m", 0, 0).await;
    for s in (60..600).step_by(60) {
        run(&memory, s).await;
        assert_eq!(connection(&memory, "m"), Connection::Online, "{s}");
    }
    assert_eq!(memory.calls(Operation::GetDevice), 1, "the registry is read once");
    assert_eq!(run(&memory, 600).await.went_offline, 1);
}

#[tokio::test]
async fn no_device_is_set_offline_while_ingest_lags() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    receive_telemetry(&memory, "m", 0, 0).await;
    let lagging = watchdog(&memory, 5).run(second(60)).await.unwrap();
    assert_eq!(
        (lagging.ingest_lagging, lagging.went_offline),
        (true, 0),
        "messages are queued, and no lag is reported"
    );
    let report_lag = async |process, s, lag_s| {
        let progress =
            IngestLag { process_id: Uuid::from_u128(process), reported_at: second(s), lag_s };
        memory.record_ingest_lag(progress).await.unwrap();
    };
    report_lag(1, 118, 90).await;
    // Another process reports a small lag later.
    report_lag(2, 119, 0).await;
    assert!(
        watchdog(&memory, 5).run(second(120)).await.unwrap().ingest_lagging,
        "the greatest reported lag applies"
    );
    report_lag(2, 179, 1).await;
    assert_eq!(watchdog(&memory, 5).run(second(180)).await.unwrap().went_offline, 1);
}

#[tokio::test]
async fn unavailable_queue_does_not_block_commands_and_cleanups() {
    let memory = MemoryStores::new();
    register(&memory, "gone", json!({})).await;
    delete(&memory, "gone", 10, false).await;
    register(&memory, "m", json!({})).await;
    receive_telemetry(&memory, "m", 0, 0).await;
    let request_status = command(CommandKind::RequestStatus, 0);
    CommandStore::create(&memory, &request_status, None).await.unwrap();
    memory.fail_next(Operation::GetDepth, Fault::Reject);
    let report = run(&memory, 120).await;
    assert_eq!((report.cleaned_up, report.republished, report.went_offline), (1, 1, 0));
    assert_eq!((report.ingest_lagging, report.failed), (true, 1));
}

#[tokio::test]
async fn failed_query_does_not_block_the_other_query() {
    for operation in [Operation::ListDueStates, Operation::ListDueCommands] {
        let memory = MemoryStores::new();
        register(&memory, "m", json!({})).await;
        receive_telemetry(&memory, "m", 0, 0).await;
        let request_status = command(CommandKind::RequestStatus, 0);
        CommandStore::create(&memory, &request_status, None).await.unwrap();
        memory.fail_next(operation, Fault::Reject);
        let report = run(&memory, 120).await;
        let expected = if operation == Operation::ListDueStates { (0, 1) } else { (1, 0) };
        assert_eq!((report.went_offline, report.republished), expected, "{operation:?}");
        assert_eq!(report.failed, 1);
    }
    let memory = MemoryStores::new();
    memory.fail_always(Operation::ListDueStates);
    memory.fail_always(Operation::ListDueCommands);
    assert!(watchdog(&memory, 0).run(second(120)).await.is_err());
}

#[tokio::test]
async fn sequence_gap_opens_an_alert_after_the_grace_period() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    for (s, seq) in [(0, 1), (10, 5), (60, 6), (70, 7)] {
        receive_telemetry(&memory, "m", s, seq).await;
    }
    run(&memory, 60).await;
    assert!(memory.alerts(&id("m")).is_empty());
    run(&memory, 120).await;
    let alerts = memory.alerts(&id("m"));
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert!(alerts[0].message.ends_with("2 to 4"), "{}", alerts[0].message);
    for seq in 2..=4 {
        receive_telemetry(&memory, "m", 130, seq).await;
    }
    assert_eq!(memory.alerts(&id("m"))[0].resolved_at, Some(second(130)));
}

#[tokio::test]
async fn unpublished_command_is_published_again_until_it_expires() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let reboot = command(CommandKind::Reboot, 0);
    CommandStore::create(&memory, &reboot, None).await.unwrap();
    memory.fail_always(Operation::PublishCommand);
    assert_eq!(run(&memory, 60).await.republished, 0);
    memory.clear_faults();
    assert_eq!(run(&memory, 60).await.commands, 0, "the retry delay is not over");
    assert_eq!(run(&memory, 120).await.republished, 1);
    assert_eq!(run(&memory, 180).await.republished, 0, "a reboot is published once");
    assert_eq!(memory.published().len(), 1);
    assert_eq!(run(&memory, 300).await.timed_out, 1);
    assert_eq!(status_of(&memory, &reboot).await, CommandStatus::Timeout);
    assert_eq!(run(&memory, 360).await.commands, 0);
}

/// Executes the runs of the first ten minutes.
async fn run_ten_minutes(memory: &MemoryStores) {
    for s in (60..=600).step_by(60) {
        // A failed run is followed by the next one.
        let _ = watchdog(memory, 0).run(second(s)).await;
    }
}

#[tokio::test]
async fn reboot_is_published_at_most_once_after_any_failed_call() {
    for fault in [Fault::Reject, Fault::LoseResponse] {
        for operation in [
            Operation::GetDevice,
            Operation::ClaimCommand,
            Operation::PublishCommand,
            Operation::PostponeCommand,
            Operation::MarkPublished,
        ] {
            let memory = MemoryStores::new();
            register(&memory, "m", json!({})).await;
            let reboot = command(CommandKind::Reboot, 0);
            CommandStore::create(&memory, &reboot, None).await.unwrap();
            memory.fail_next(operation, fault);
            run_ten_minutes(&memory).await;
            assert!(memory.published().len() <= 1, "{operation:?} {fault:?}");
            assert_eq!(status_of(&memory, &reboot).await, CommandStatus::Timeout, "{operation:?}");
        }
    }
}

#[tokio::test]
async fn reboot_with_unknown_publish_outcome_times_out() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let reboot = command(CommandKind::Reboot, 0);
    CommandStore::create(&memory, &reboot, None).await.unwrap();
    memory.fail_next(Operation::PublishCommand, Fault::LoseResponse);
    run_ten_minutes(&memory).await;
    assert_eq!(memory.published().len(), 1);
    // An idempotent command is published again.
    let request_status = command(CommandKind::RequestStatus, 600);
    CommandStore::create(&memory, &request_status, None).await.unwrap();
    memory.fail_next(Operation::PublishCommand, Fault::LoseResponse);
    run(&memory, 660).await;
    run(&memory, 720).await;
    assert_eq!(memory.published().len(), 3);
}

#[tokio::test]
async fn concurrent_runs_publish_a_reboot_once() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    CommandStore::create(&memory, &command(CommandKind::Reboot, 0), None).await.unwrap();
    futures::join!(run(&memory, 60), run(&memory, 60), run(&memory, 60));
    assert_eq!(memory.published().len(), 1);
}

#[tokio::test]
async fn expired_command_is_not_republished_for_an_old_message() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let request_status = command(CommandKind::RequestStatus, 0);
    CommandStore::create(&memory, &request_status, None).await.unwrap();
    // A message received at 30 s is ingested at 400 s.
    let record = |state: &mut DeviceState| state.record_activity(second(30), &POLICY);
    let state = optimistic_update::update_state(&memory, &id("m"), record).await.unwrap();
    effects::dispatch_due_effects(&memory, state, second(400), &POLICY).await.unwrap();
    assert!(memory.published().is_empty());
}

#[tokio::test]
async fn shorter_interval_applies_from_its_acceptance_after_a_failed_effect() {
    for fault in [None, Some(Operation::SaveStates), Some(Operation::GetDevice)] {
        let memory = MemoryStores::new();
        register(&memory, "m", json!({"send_interval_s": 1_200, "hello_interval_s": 1_200})).await;
        receive_telemetry(&memory, "m", 0, 0).await;
        run(&memory, 60).await;
        assert_eq!(memory.state(&id("m")).unwrap().next_check, Some(second(3_600)));
        let params = json!({"send_interval_s": 40}).as_object().unwrap().clone();
        let shorter = Command { params, ..command(CommandKind::UpdateConfig, 60) };
        CommandStore::create(&memory, &shorter, None).await.unwrap();
        let ack = json!({"v": 2, "device_id": "m", "ts": second(70), "seq": 1, "msg_type": "command_ack",
            "cmd_id": shorter.cmd_id, "result": "accepted"});
        let message = parse(&ReceivedMessage {
            topic: "iot/m/command/ack".to_owned(),
            payload: ack.to_string().into(),
            received_at: second(70),
        })
        .unwrap();
        let apply = |state: &mut DeviceState| state.apply(&[&message], &POLICY);
        let state = optimistic_update::update_state(&memory, &id("m"), apply).await.unwrap();
        if let Some(operation) = fault {
            memory.fail_next(operation, Fault::Reject);
        }
        let result = effects::dispatch_due_effects(&memory, state, second(70), &POLICY).await;
        assert_eq!(result.is_err(), fault.is_some());
        for s in (120..=240).step_by(60) {
            run(&memory, s).await;
        }
        assert_eq!(connection(&memory, "m"), Connection::Offline, "{fault:?}");
    }
}

#[tokio::test]
async fn upgrade_completes_with_the_hello_in_any_order_of_messages() {
    let upgrade = || {
        let params = json!({"fw_version": "2.0.0"}).as_object().unwrap().clone();
        Command { params, ..command(CommandKind::StartOta, 0) }
    };
    for hello_is_first in [false, true] {
        let memory = MemoryStores::new();
        register(&memory, "m", json!({})).await;
        let upgrade = upgrade();
        CommandStore::create(&memory, &upgrade, None).await.unwrap();
        let success = json!({"v": 2, "device_id": "m", "ts": second(5), "seq": 1, "msg_type": "ota_status",
            "cmd_id": upgrade.cmd_id, "ota_state": "success"});
        let hello = json!({"v": 2, "device_id": "m", "ts": second(9), "seq": 2, "msg_type": "hello",
            "fw_version": "2.0.0", "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0});
        let messages = [("ota/status", 5, success), ("hello", 9, hello)];
        let order: Vec<_> =
            if hello_is_first { messages.into_iter().rev().collect() } else { messages.into() };
        for (suffix, s, payload) in order {
            receive_message(&memory, suffix, s, payload).await;
        }
        let ota = memory.commands(&id("m"))[0].ota.clone().unwrap();
        assert_eq!(ota.state, OtaState::Completed, "hello first: {hello_is_first}");
        assert!(memory.state(&id("m")).unwrap().outbox.is_empty());
    }
}

#[tokio::test]
async fn only_idempotent_commands_are_republished_when_a_device_comes_online() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    for (n, cmd) in CommandKind::ALL.into_iter().enumerate() {
        let command = command(cmd, i64::try_from(n).unwrap());
        CommandStore::create(&memory, &command, None).await.unwrap();
    }
    receive_telemetry(&memory, "m", 30, 0).await;
    let cmds = |memory: &MemoryStores| {
        let of = |(_, payload): (DeviceId, Bytes)| {
            let document: Value = serde_json::from_slice(&payload).unwrap();
            document["cmd"].as_str().unwrap().to_owned()
        };
        memory.published().into_iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(cmds(&memory), ["update_config", "request_status"]);
    receive_telemetry(&memory, "m", 31, 1).await;
    assert_eq!(cmds(&memory).len(), 2, "the device was online before");
}

#[tokio::test]
async fn command_acknowledged_by_the_first_message_is_not_republished() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let command = command(CommandKind::RequestStatus, 0);
    CommandStore::create(&memory, &command, None).await.unwrap();
    let answer = json!({"v": 2, "device_id": "m", "ts": second(9), "seq": 0, "msg_type": "command_ack",
        "cmd_id": command.cmd_id, "result": "accepted"});
    receive_message(&memory, "command/ack", 9, answer).await;
    assert_eq!(status_of(&memory, &command).await, CommandStatus::Accepted);
    assert!(memory.published().is_empty());
}

#[tokio::test]
async fn interrupted_effects_are_executed() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let alert = Alert::device_offline(&id("m"), second(5));
    let leave = |state: &mut DeviceState| {
        state.outbox.push(Effect::OpenAlert { alert: alert.clone() });
        state.record_activity(second(5), &POLICY);
    };
    optimistic_update::update_state(&memory, &id("m"), leave).await.unwrap();
    memory.fail_next(Operation::OpenAlert, Fault::Reject);
    assert_eq!(run(&memory, 120).await.failed, 1);
    assert!(memory.alerts(&id("m")).is_empty());
    run(&memory, 180).await;
    assert_eq!(memory.alerts(&id("m")).iter().filter(|a| **a == alert).count(), 1);
    assert!(memory.state(&id("m")).unwrap().outbox.is_empty());
}

#[tokio::test]
async fn interrupted_delete_is_completed() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let alert = Alert::device_offline(&id("m"), second(5));
    AlertStore::open(&memory, &alert, None).await.unwrap();
    delete(&memory, "m", 10, false).await;
    assert_eq!(run(&memory, 120).await.cleaned_up, 1);
    assert!(memory.alerts(&id("m")).is_empty());
    assert!(!memory.has_tombstone(&id("m")).await.unwrap());
    assert_eq!(run(&memory, 180).await, WatchdogReport::default());
}

#[tokio::test]
async fn large_purge_continues_in_the_next_run() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let location = Location { object: "archive/x".to_owned(), member: None };
    let segments: Vec<_> = (0..10_500)
        .map(|n| {
            let ts = second(n * 60);
            let category = Category::Telemetry;
            let location = location.clone();
            let index_entry = Some(IndexEntry { category, received_at: ts, size: 1, location });
            let message_id = MessageId::of("t", &n.to_be_bytes());
            MessageSegment {
                device_id: id("m"),
                message_id,
                ts,
                index_entry,
                envelope_ts: ts,
                samples: Vec::new(),
                ttl: None,
            }
        })
        .collect();
    MessageStore::put(&memory, &segments).await.unwrap();
    delete(&memory, "m", 10, true).await;

    let first = run(&memory, 120).await;
    assert_eq!((first.cleaned_up, first.cleanups_pending, first.failed), (0, 1, 0));
    let left = memory.segments(&id("m")).len();
    assert!(0 < left && left < 1_000, "{left}");
    assert!(memory.has_tombstone(&id("m")).await.unwrap());
    let second_run = run(&memory, 180).await;
    assert_eq!((second_run.cleaned_up, second_run.cleanups_pending), (1, 0));
    assert!(memory.segments(&id("m")).is_empty());
    assert!(!memory.has_tombstone(&id("m")).await.unwrap());
    assert_eq!(run(&memory, 240).await, WatchdogReport::default());
}

#[tokio::test]
async fn recount_corrects_wrong_counts() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let expected = memory.counts().await.unwrap();
    memory.corrupt_counts();
    assert_ne!(memory.counts().await.unwrap(), expected);
    let reports = recount(&memory).await.unwrap();
    assert_eq!(reports[0].what, "devices by status");
    assert_eq!((reports[0].before["active"], reports[0].after["active"]), (4, 1));
    assert_eq!(memory.counts().await.unwrap(), expected);
}

/// The number of store calls of a run in which five devices of the fleet are due.
async fn calls_with(devices: usize) -> Vec<usize> {
    let memory = MemoryStores::new();
    let writes: Vec<_> = (0..devices)
        .map(|n| {
            let mut state = DeviceState::new(id(&format!("d{n}")));
            state.next_check = Some(second(if n < 5 { 60 } else { 120 }));
            StateWrite { state, connection_before: Connection::Unknown }
        })
        .collect();
    assert!(memory.save_many(&writes).await.iter().all(Result::is_ok));
    let operations = [Operation::ListDueStates, Operation::GetStates, Operation::SaveStates];
    let before = operations.map(|operation| memory.calls(operation));
    assert_eq!(run(&memory, 60).await.devices, 5);
    let after = operations.map(|operation| memory.calls(operation));
    after.iter().zip(before).map(|(after, before)| after - before).collect()
}

#[tokio::test]
async fn run_makes_the_same_calls_for_any_fleet_size() {
    assert_eq!(calls_with(10).await, calls_with(100_000).await);
}

#[tokio::test]
async fn hour_is_rolled_up_once_and_again_after_late_samples() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    receive_points(&memory, 3_700, 3_650).await;
    let watchdog = Watchdog { policy: DevicePolicy::default(), ..watchdog(&memory, 0) };
    let mut rolled_up = Vec::new();
    for s in (3_720..12_000).step_by(60) {
        let report = watchdog.run(second(s)).await.unwrap();
        assert_eq!(report.failed, 0);
        rolled_up.extend((report.rolled_up > 0).then_some(s));
    }
    assert!(matches!(rolled_up[..], [s] if s > 7_200 + 300), "{rolled_up:?}");
    receive_points(&memory, 12_000, 3_651).await;
    let mut again = 0;
    for s in (12_060..20_000).step_by(60) {
        again += watchdog.run(second(s)).await.unwrap().rolled_up;
    }
    assert_eq!(again, 1);
}

/// Receives a message at second `s` with one sample at second `at`.
async fn receive_points(memory: &MemoryStores, s: i64, at: i64) {
    let payload = json!({"v": 2, "device_id": "m", "seq": 1, "msg_type": "telemetry", "ts": second(s),
        "measurements": [{"type": "pf", "val": 1, "ts": second(at)}]});
    let message = parse(&ReceivedMessage {
        topic: "iot/m/telemetry".to_owned(),
        payload: payload.to_string().into(),
        received_at: second(s),
    })
    .unwrap();
    let location = meter_domain::archive::Location { object: "o".to_owned(), member: None };
    let segments = meter_domain::segments::split(&message, location, None, |_| true);
    meter_store::MessageStore::put(memory, &segments).await.unwrap();
    optimistic_update::update_state(memory, &id("m"), |state| {
        state.apply(&[&message], &DevicePolicy::default())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn missing_data_opens_the_alert_of_its_rule_unless_ingest_lags() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let rule = Rule {
        rule_id: new_id(second(0)),
        name: "quiet".to_owned(),
        enabled: true,
        scope: Scope::DeviceId(id("m")),
        metric: MetricName::parse("pf").unwrap(),
        condition: Condition::NoData,
        for_s: 300,
        severity: Severity::Critical,
        message: None,
        notify: true,
        created_at: second(0),
        updated_at: second(0),
        version: 1,
    };
    RuleStore::create(&memory, &rule).await.unwrap();
    receive_telemetry(&memory, "m", 100, 0).await;
    // The device sends other messages.
    let send_hello = async |s| {
        let hello = json!({"v": 2, "device_id": "m", "ts": second(s), "msg_type": "hello", "seq": s,
            "boot": 1, "fw_version": "1.0.0", "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0});
        receive_message(&memory, "hello", s, hello).await;
    };
    for s in [150, 200, 250, 300, 350, 390] {
        send_hello(s).await;
        run(&memory, s).await;
    }
    let raised = || {
        let alerts = memory.alerts(&id("m")).into_iter();
        alerts.filter(|alert| alert.rule_id == Some(rule.rule_id)).collect::<Vec<_>>()
    };
    assert_eq!(raised(), []);
    send_hello(430).await;
    assert!(watchdog(&memory, 5).run(second(440)).await.unwrap().ingest_lagging);
    assert_eq!(raised(), []);
    run(&memory, 481).await;
    run(&memory, 550).await;
    let alerts = raised();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!((alerts[0].alert_type.as_str(), alerts[0].created_at), ("no_data", second(100)));
}
