//! The watchdog over stores in memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

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
use meter_service::optimistic_update;
use meter_service::outbox::Outbox;
use meter_service::rule_cache::RuleCache;
use meter_store::{
    AlertStore, CommandStore, DeviceStore, IngestLag, IngestLagStore, MessageStore, QueueDepth,
    RuleStore, StateStore, StateWrite, StoreError,
};
use meter_testing::memory::{Fault, MemoryStores, Operation};
use serde_json::{Map, Value, json};
use uuid::Uuid;
use watchdog::{Report, Request, Watchdog, recount};

fn second(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1_000).unwrap()
}

fn id(device: &str) -> DeviceId {
    DeviceId::parse(device).unwrap()
}

/// Without rollups, which have deadlines of their own.
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

/// A queue with so many messages.
#[derive(Debug)]
struct QueueWithDepth(u64);

impl QueueDepth for QueueWithDepth {
    async fn depth(&self) -> Result<u64, StoreError> {
        Ok(self.0)
    }
}

fn watchdog(
    memory: &MemoryStores,
    waiting: u64,
) -> Watchdog<
    MemoryStores,
    MemoryStores,
    MemoryStores,
    MemoryStores,
    MemoryStores,
    QueueWithDepth,
    MemoryStores,
    MemoryStores,
    MemoryStores,
> {
    Watchdog {
        outbox: Outbox::of_one(memory),
        queue: QueueWithDepth(waiting),
        messages: memory.clone(),
        archive: memory.clone(),
        alert_rules: RuleCache::new(memory.clone(), 60),
        policy: POLICY,
        rollup_ttl_days: None,
    }
}

async fn run(memory: &MemoryStores, s: i64) -> Report {
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

/// The first half of a delete.
async fn delete(memory: &MemoryStores, device: &str, s: i64, purge: bool) {
    let row = DeviceStore::get(memory, &id(device)).await.unwrap().unwrap();
    let mut state = optimistic_update::read_state(memory, &id(device)).await.unwrap();
    state.mark_deleted(second(s), purge, &POLICY);
    memory.create_tombstone(&row, &state).await.unwrap();
}

/// A message of the device, received at second `s`.
async fn receive_telemetry(memory: &MemoryStores, device: &str, s: i64, seq: u32) {
    let payload = json!({"v": 2, "device_id": device, "ts": second(s), "seq": seq, "boot": 1,
        "msg_type": "telemetry", "measurements": [{"type": "pf", "val": 1}]});
    receive_message(memory, "telemetry", s, payload).await;
}

/// Any message, on a topic of the device that it names.
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
    Outbox::of_one(memory).dispatch_due_effects(state, second(s), &POLICY).await.unwrap();
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
async fn a_silent_device_is_offline_with_one_alert_and_its_next_word_ends_both() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    receive_telemetry(&memory, "m", 0, 0).await;
    assert_eq!(run(&memory, 59).await, Report::default(), "nothing is due");
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
async fn a_device_that_is_configured_to_report_rarely_is_given_its_time() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({"send_interval_s": 600, "hello_interval_s": 200})).await;
    receive_telemetry(&memory, "m", 0, 0).await;
    for s in (60..600).step_by(60) {
        run(&memory, s).await;
        assert_eq!(connection(&memory, "m"), Connection::Online, "{s}");
    }
    assert_eq!(memory.calls(Operation::GetDevice), 1, "its configuration is read once");
    assert_eq!(run(&memory, 600).await.went_offline, 1);
}

#[tokio::test]
async fn nobody_is_declared_silent_while_ingest_is_behind() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    receive_telemetry(&memory, "m", 0, 0).await;
    let behind = watchdog(&memory, 5).run(second(60)).await.unwrap();
    assert_eq!(
        (behind.ingest_lagging, behind.went_offline),
        (true, 0),
        "something waits, and nothing is handled"
    );
    let note = async |process, s, lag_s| {
        let progress =
            IngestLag { process_id: Uuid::from_u128(process), reported_at: second(s), lag_s };
        memory.record_ingest_lag(progress).await.unwrap();
    };
    note(1, 118, 90).await;
    // Another function is up to date with what it was given, and says so later.
    note(2, 119, 0).await;
    assert!(
        watchdog(&memory, 5).run(second(120)).await.unwrap().ingest_lagging,
        "it is old what is handled"
    );
    note(2, 179, 1).await;
    assert_eq!(watchdog(&memory, 5).run(second(180)).await.unwrap().went_offline, 1);
}

/// A queue that does not say how much waits.
#[derive(Debug)]
struct UnavailableQueue;

impl QueueDepth for UnavailableQueue {
    async fn depth(&self) -> Result<u64, StoreError> {
        Err(StoreError::Unavailable { operation: "sqs:GetQueueAttributes", source: "away".into() })
    }
}

#[tokio::test]
async fn a_queue_that_does_not_answer_keeps_nobody_from_commands_and_deletes() {
    let memory = MemoryStores::new();
    register(&memory, "gone", json!({})).await;
    delete(&memory, "gone", 10, false).await;
    register(&memory, "m", json!({})).await;
    receive_telemetry(&memory, "m", 0, 0).await;
    let ask = command(CommandKind::RequestStatus, 0);
    CommandStore::create(&memory, &ask, None).await.unwrap();
    let Watchdog { outbox, messages, archive, alert_rules, policy, rollup_ttl_days, .. } =
        watchdog(&memory, 0);
    let queue = UnavailableQueue;
    let watchdog =
        Watchdog { outbox, queue, messages, archive, alert_rules, policy, rollup_ttl_days };
    let report = watchdog.run(second(120)).await.unwrap();
    assert_eq!((report.cleaned_up, report.republished, report.went_offline), (1, 1, 0));
    assert_eq!((report.ingest_lagging, report.failed), (true, 1));
}

#[tokio::test]
async fn what_can_be_learned_is_done_when_the_rest_cannot() {
    for operation in [Operation::ListDueStates, Operation::ListDueCommands] {
        let memory = MemoryStores::new();
        register(&memory, "m", json!({})).await;
        receive_telemetry(&memory, "m", 0, 0).await;
        let ask = command(CommandKind::RequestStatus, 0);
        CommandStore::create(&memory, &ask, None).await.unwrap();
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
async fn missing_numbers_raise_an_alert_when_their_grace_ends() {
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
async fn a_command_that_the_broker_did_not_take_is_published_again_until_it_expires() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let reboot = command(CommandKind::Reboot, 0);
    CommandStore::create(&memory, &reboot, None).await.unwrap();
    memory.fail_always(Operation::PublishCommand);
    assert_eq!(run(&memory, 60).await.republished, 0);
    memory.clear_faults();
    assert_eq!(run(&memory, 60).await.commands, 0, "it has its time before the next try");
    assert_eq!(run(&memory, 120).await.republished, 1);
    assert_eq!(run(&memory, 180).await.republished, 0, "a reboot is published once");
    assert_eq!(memory.published().len(), 1);
    assert_eq!(run(&memory, 300).await.timed_out, 1);
    assert_eq!(status_of(&memory, &reboot).await, CommandStatus::Timeout);
    assert_eq!(run(&memory, 360).await.commands, 0);
}

/// The runs of the first ten minutes.
async fn ten_minutes(memory: &MemoryStores) {
    for s in (60..=600).step_by(60) {
        // A run that fails is followed by the next one.
        let _ = watchdog(memory, 0).run(second(s)).await;
    }
}

#[tokio::test]
async fn a_reboot_is_published_at_most_once_whatever_call_fails_and_whether_it_was_done_or_not() {
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
            ten_minutes(&memory).await;
            assert!(memory.published().len() <= 1, "{operation:?} {fault:?}");
            assert_eq!(status_of(&memory, &reboot).await, CommandStatus::Timeout, "{operation:?}");
        }
    }
}

#[tokio::test]
async fn a_reboot_of_which_nobody_knows_whether_the_broker_took_it_times_out_and_is_not_sent_again()
{
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let reboot = command(CommandKind::Reboot, 0);
    CommandStore::create(&memory, &reboot, None).await.unwrap();
    memory.fail_next(Operation::PublishCommand, Fault::LoseResponse);
    ten_minutes(&memory).await;
    assert_eq!(memory.published().len(), 1);
    // What may be asked twice is.
    let ask = command(CommandKind::RequestStatus, 600);
    CommandStore::create(&memory, &ask, None).await.unwrap();
    memory.fail_next(Operation::PublishCommand, Fault::LoseResponse);
    run(&memory, 660).await;
    run(&memory, 720).await;
    assert_eq!(memory.published().len(), 3);
}

#[tokio::test]
async fn two_watchdogs_at_once_publish_a_reboot_once() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    CommandStore::create(&memory, &command(CommandKind::Reboot, 0), None).await.unwrap();
    futures::join!(run(&memory, 60), run(&memory, 60), run(&memory, 60));
    assert_eq!(memory.published().len(), 1);
}

#[tokio::test]
async fn what_has_expired_is_not_published_again_when_its_device_comes_online_in_an_old_message() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let ask = command(CommandKind::RequestStatus, 0);
    CommandStore::create(&memory, &ask, None).await.unwrap();
    // Ingest handles at 400 s what was received at 30 s.
    let outbox = Outbox::of_one(&memory);
    let hear = |state: &mut DeviceState| state.record_activity(second(30), &POLICY);
    let state = optimistic_update::update_state(&memory, &id("m"), hear).await.unwrap();
    outbox.dispatch_due_effects(state, second(400), &POLICY).await.unwrap();
    assert!(memory.published().is_empty());
}

#[tokio::test]
async fn a_shorter_interval_counts_from_its_acceptance_on_also_when_its_effect_was_left_behind() {
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
        let settled =
            Outbox::of_one(&memory).dispatch_due_effects(state, second(70), &POLICY).await;
        assert_eq!(settled.is_err(), fault.is_some());
        for s in (120..=240).step_by(60) {
            run(&memory, s).await;
        }
        assert_eq!(connection(&memory, "m"), Connection::Offline, "{fault:?}");
    }
}

#[tokio::test]
async fn an_upgrade_of_a_device_that_never_names_its_target_is_complete_with_its_hello_in_any_order()
 {
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
        let said = [("ota/status", 5, success), ("hello", 9, hello)];
        let order: Vec<_> =
            if hello_is_first { said.into_iter().rev().collect() } else { said.into() };
        for (suffix, s, payload) in order {
            receive_message(&memory, suffix, s, payload).await;
        }
        let ota = memory.commands(&id("m"))[0].ota.clone().unwrap();
        assert_eq!(ota.state, OtaState::Completed, "hello first: {hello_is_first}");
        assert!(memory.state(&id("m")).unwrap().outbox.is_empty());
    }
}

#[tokio::test]
async fn when_a_device_comes_online_only_what_does_no_harm_twice_is_published_again() {
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
    assert_eq!(cmds(&memory).len(), 2, "it is online already");
}

#[tokio::test]
async fn a_command_that_is_answered_by_the_first_word_of_its_device_is_not_asked_again() {
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
async fn effects_that_somebody_left_behind_are_carried_out() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let alert = Alert::device_offline(&id("m"), second(5));
    let leave = |state: &mut DeviceState| {
        state.outbox.enqueue(Effect::OpenAlert { alert: alert.clone() });
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
async fn a_delete_that_ended_half_way_is_finished() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let alert = Alert::device_offline(&id("m"), second(5));
    AlertStore::open(&memory, &alert, None).await.unwrap();
    delete(&memory, "m", 10, false).await;
    assert_eq!(run(&memory, 120).await.cleaned_up, 1);
    assert!(memory.alerts(&id("m")).is_empty());
    assert!(!memory.has_tombstone(&id("m")).await.unwrap());
    assert_eq!(run(&memory, 180).await, Report::default());
}

#[tokio::test]
async fn a_purge_that_is_too_much_for_one_run_goes_on_in_the_next() {
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
    assert_eq!(run(&memory, 240).await, Report::default());
}

#[tokio::test]
async fn counts_that_are_wrong_are_made_right_when_somebody_asks() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let right = memory.counts().await.unwrap();
    memory.corrupt_counts();
    assert_ne!(memory.counts().await.unwrap(), right);
    let answer = recount(&memory, &memory).await.unwrap();
    let first = &answer["recounted"][0];
    assert_eq!(first["what"], "devices by status");
    assert_eq!((&first["before"]["active"], &first["after"]["active"]), (&json!(4), &json!(1)));
    assert_eq!(memory.counts().await.unwrap(), right);
}

#[test]
fn a_schedule_s_event_asks_for_a_run_and_only_a_person_for_a_recount() {
    let schedule = json!({"version": "0", "source": "aws.events", "detail": {}, "resources": []});
    for (payload, wanted) in
        [(schedule, false), (json!({}), false), (json!({"recount": true}), true)]
    {
        let request: Request = serde_json::from_value(payload).unwrap();
        assert_eq!(request.recount, wanted);
    }
}

/// Calls of a run over a fleet, of which five devices are due.
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
async fn its_work_is_the_same_for_ten_devices_and_for_a_hundred_thousand() {
    assert_eq!(calls_with(10).await, calls_with(100_000).await);
}

#[tokio::test]
async fn an_hour_is_rolled_up_once_when_it_is_over_and_again_when_more_of_it_comes() {
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

/// Received at second `s`, one sample at second `at`.
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
async fn data_that_does_not_come_raises_the_alert_of_its_rule_unless_ingest_is_behind() {
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
    // The device goes on to speak, of other things.
    let speak = async |s| {
        let hello = json!({"v": 2, "device_id": "m", "ts": second(s), "msg_type": "hello", "seq": s,
            "boot": 1, "fw_version": "1.0.0", "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0});
        receive_message(&memory, "hello", s, hello).await;
    };
    for s in [150, 200, 250, 300, 350, 390] {
        speak(s).await;
        run(&memory, s).await;
    }
    let raised = || {
        let alerts = memory.alerts(&id("m")).into_iter();
        alerts.filter(|alert| alert.rule_id == Some(rule.rule_id)).collect::<Vec<_>>()
    };
    assert_eq!(raised(), []);
    speak(430).await;
    assert!(watchdog(&memory, 5).run(second(440)).await.unwrap().ingest_lagging);
    assert_eq!(raised(), []);
    run(&memory, 481).await;
    run(&memory, 550).await;
    let alerts = raised();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!((alerts[0].alert_type.as_str(), alerts[0].created_at), ("no_data", second(100)));
}
