//! Commands and firmware upgrades.

use super::*;

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
