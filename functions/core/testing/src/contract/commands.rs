use futures::future::join_all;
use meter_domain::command::{AckResult, Command, CommandKind, CommandStatus, OtaState};
use meter_domain::device::Device;
use meter_domain::id::{self, DeviceId};
use meter_store::{
    AcknowledgeOutcome, CommandStore, CreateOutcome, DeviceStore, IDEMPOTENCY_TTL_S,
    IdempotencyKey, PUBLISH_RETRY_DELAY_S,
};
use serde_json::json;
use uuid::Uuid;

use super::acknowledgements::{configure, ota_in_state};
use super::{Ports, contracts};
use crate::fixtures::{
    self, collect_pages, command, delete_device, edge_case_json, object, register_device, second,
};

contracts! {
    repeated_create_returns_the_stored_command
    command_for_unregistered_device_is_not_stored
    idempotency_key_returns_the_first_command_until_it_expires
    find_device_returns_the_device_of_a_command
    command_is_read_by_device_and_id
    first_publication_time_is_kept
    unpublished_command_is_due_after_the_retry_delay_and_then_at_expiry
    command_that_expires_before_the_retry_delay_is_due_at_expiry
    command_that_is_not_pending_is_not_due
    postponed_command_is_due_later
    due_commands_are_listed_by_deadline_up_to_the_limit
    timeout_changes_only_pending_commands
    commands_are_listed_newest_first_by_status
    cleanup_deletes_commands_and_keys_of_one_device
    ; concurrent:
    concurrent_claims_of_a_command_succeed_once
}

pub(super) async fn create(ports: &impl Ports, command: &Command) {
    assert_eq!(ports.commands().create(command, None).await.unwrap(), CreateOutcome::Created);
}

pub(super) async fn list(
    ports: &impl Ports,
    device: &str,
    status: Option<CommandStatus>,
) -> Vec<Command> {
    let device = fixtures::id(device);
    collect_pages!(5, |request| ports.commands().list(&device, status, &request))
}

pub(super) async fn acknowledge(
    ports: &impl Ports,
    cmd_id: Uuid,
    result: AckResult,
    detail: Option<&str>,
    at: i64,
) -> AcknowledgeOutcome {
    let device = fixtures::id("m");
    ports
        .commands()
        .record_acknowledgement(&device, cmd_id, result, detail, second(at))
        .await
        .unwrap()
}

pub(super) async fn device(ports: &impl Ports) -> Device {
    ports.devices().get(&fixtures::id("m")).await.unwrap().unwrap()
}

async fn repeated_create_returns_the_stored_command(ports: &impl Ports) {
    register_device(ports, "m").await;
    let first = Command {
        params: object(edge_case_json()),
        ota: Some(ota_in_state(OtaState::Downloading, Some(1e-300))),
        ..command("m", CommandKind::StartOta, second(1))
    };
    create(ports, &first).await;
    let again = Command { ota: None, ..first.clone() };
    let result = ports.commands().create(&again, None).await.unwrap();
    assert_eq!(result, CreateOutcome::AlreadyExists(first.clone()));
    assert_eq!(list(ports, "m", None).await, [first]);
}

async fn command_for_unregistered_device_is_not_stored(ports: &impl Ports) {
    let device = register_device(ports, "m").await;
    delete_device(ports, &device).await;
    for device in ["m", "unregistered"] {
        let reboot = command(device, CommandKind::Reboot, second(1));
        let result = ports.commands().create(&reboot, None).await.unwrap();
        assert_eq!(result, CreateOutcome::DeviceNotFound);
        assert_eq!(list(ports, device, None).await, []);
    }
}

async fn idempotency_key_returns_the_first_command_until_it_expires(ports: &impl Ports) {
    register_device(ports, "m").await;
    let key = IdempotencyKey("k".to_owned());
    let reboot = |at| command("m", CommandKind::Reboot, second(at));
    let create_with_key =
        async |command: &Command| ports.commands().create(command, Some(&key)).await.unwrap();
    let first = reboot(0);
    assert_eq!(create_with_key(&first).await, CreateOutcome::Created);
    assert_eq!(
        create_with_key(&reboot(IDEMPOTENCY_TTL_S - 1)).await,
        CreateOutcome::AlreadyExists(first.clone())
    );
    let acknowledged = acknowledge(ports, first.cmd_id, AckResult::Accepted, None, 1).await;
    let AcknowledgeOutcome::Recorded(acknowledged) = acknowledged else {
        panic!("{acknowledged:?}")
    };
    assert_eq!(create_with_key(&reboot(2)).await, CreateOutcome::AlreadyExists(acknowledged));
    assert_eq!(create_with_key(&reboot(IDEMPOTENCY_TTL_S)).await, CreateOutcome::Created);
    assert_eq!(list(ports, "m", None).await.len(), 2);
}

async fn find_device_returns_the_device_of_a_command(ports: &impl Ports) {
    register_device(ports, "m").await;
    let reboot = command("m", CommandKind::Reboot, second(1));
    create(ports, &reboot).await;
    let find_device = async |id| ports.commands().find_device(id).await.unwrap();
    assert_eq!(find_device(reboot.cmd_id).await, Some(fixtures::id("m")));
    assert_eq!(find_device(id::new_id(second(1))).await, None);
}

async fn first_publication_time_is_kept(ports: &impl Ports) {
    register_device(ports, "m").await;
    let reboot = command("m", CommandKind::Reboot, second(1));
    let mark = async |at| {
        let (device, id) = (fixtures::id("m"), reboot.cmd_id);
        ports.commands().mark_published(&device, id, second(at)).await.unwrap();
    };
    mark(1).await;
    assert_eq!(list(ports, "m", None).await, []);
    create(ports, &reboot).await;
    mark(2).await;
    mark(3).await;
    assert_eq!(list(ports, "m", None).await[0].published_at, Some(second(2)));
}

async fn concurrent_claims_of_a_command_succeed_once(ports: &impl Ports) {
    register_device(ports, "m").await;
    let reboot = command("m", CommandKind::Reboot, second(1));
    let claim = async |at| {
        ports.commands().claim(&fixtures::id("m"), reboot.cmd_id, second(at)).await.unwrap()
    };
    assert!(!claim(1).await, "the command does not exist");
    create(ports, &reboot).await;
    let claims = join_all((2..6).map(claim)).await;
    assert_eq!(claims.iter().filter(|claimed| **claimed).count(), 1, "{claims:?}");
    assert!(get(ports, &reboot).await.published_at.is_some());
    assert_eq!(list_due(ports, 300).await, [], "not due before it expires");
    assert_eq!(list_due(ports, 301).await, [key(&reboot)]);
    // The broker rejected the command.
    ports.commands().postpone(&fixtures::id("m"), reboot.cmd_id, second(61)).await.unwrap();
    assert_eq!(
        (get(ports, &reboot).await, list_due(ports, 61).await),
        (reboot.clone(), vec![key(&reboot)])
    );
    assert!(claim(62).await);
    ports.commands().postpone(&fixtures::id("m"), reboot.cmd_id, second(90)).await.unwrap();
    acknowledge(ports, reboot.cmd_id, AckResult::Accepted, None, 63).await;
    assert!(!claim(64).await, "the command is acknowledged");
}

async fn get(ports: &impl Ports, command: &Command) -> Command {
    ports.commands().get(&command.device_id, command.cmd_id).await.unwrap().unwrap()
}

async fn command_is_read_by_device_and_id(ports: &impl Ports) {
    register_device(ports, "m").await;
    let stored = Command {
        params: object(edge_case_json()),
        expires_at: fixtures::at("2026-01-01T00:00:30.000000001Z"),
        ..command("m", CommandKind::UpdateConfig, second(1))
    };
    create(ports, &stored).await;
    assert_eq!(get(ports, &stored).await, stored);
    for (device, id) in [("n", stored.cmd_id), ("m", id::new_id(second(1)))] {
        assert_eq!(ports.commands().get(&fixtures::id(device), id).await.unwrap(), None);
    }
}

/// Returns the commands that are due at a second, in order.
async fn list_due(ports: &impl Ports, at: i64) -> Vec<(DeviceId, Uuid)> {
    ports.commands().list_due(second(at), 10).await.unwrap()
}

fn key(command: &Command) -> (DeviceId, Uuid) {
    (command.device_id.clone(), command.cmd_id)
}

async fn publish(ports: &impl Ports, command: &Command, at: i64) {
    ports.commands().mark_published(&command.device_id, command.cmd_id, second(at)).await.unwrap();
}

async fn unpublished_command_is_due_after_the_retry_delay_and_then_at_expiry(ports: &impl Ports) {
    register_device(ports, "m").await;
    let reboot = command("m", CommandKind::Reboot, second(0));
    create(ports, &reboot).await;
    assert_eq!(list_due(ports, PUBLISH_RETRY_DELAY_S - 1).await, []);
    assert_eq!(list_due(ports, PUBLISH_RETRY_DELAY_S).await, [key(&reboot)]);
    for _ in 0..2 {
        publish(ports, &reboot, PUBLISH_RETRY_DELAY_S).await;
        assert_eq!(list_due(ports, 299).await, []);
        assert_eq!(list_due(ports, 300).await, [key(&reboot)]);
    }
}

async fn command_that_expires_before_the_retry_delay_is_due_at_expiry(ports: &impl Ports) {
    register_device(ports, "m").await;
    let expires_at = fixtures::at("2026-01-01T00:00:10.000000001Z");
    let short = Command { expires_at, ..command("m", CommandKind::Reboot, second(0)) };
    create(ports, &short).await;
    for _ in 0..2 {
        assert_eq!(list_due(ports, 10).await, []);
        assert_eq!(ports.commands().list_due(expires_at, 10).await.unwrap(), [key(&short)]);
        publish(ports, &short, 1).await;
    }
}

async fn command_that_is_not_pending_is_not_due(ports: &impl Ports) {
    register_device(ports, "m").await;
    let late =
        Command { status: CommandStatus::Timeout, ..command("m", CommandKind::Reboot, second(0)) };
    let acknowledged = configure(0, json!({"send_interval_s": 10}));
    let rejected = command("m", CommandKind::Reboot, second(0));
    for command in [&late, &acknowledged, &rejected] {
        create(ports, command).await;
    }
    acknowledge(ports, acknowledged.cmd_id, AckResult::Accepted, None, 1).await;
    acknowledge(ports, rejected.cmd_id, AckResult::Rejected, Some("no"), 1).await;
    for command in [&late, &acknowledged, &rejected] {
        publish(ports, command, 2).await;
        assert_eq!(get(ports, command).await.published_at, Some(second(2)));
        ports.commands().postpone(&command.device_id, command.cmd_id, second(3)).await.unwrap();
    }
    assert_eq!(list_due(ports, 1_000_000).await, []);
}

async fn postponed_command_is_due_later(ports: &impl Ports) {
    register_device(ports, "m").await;
    let reboot = command("m", CommandKind::Reboot, second(0));
    let postpone = async |at| {
        ports.commands().postpone(&fixtures::id("m"), reboot.cmd_id, second(at)).await.unwrap();
    };
    postpone(1).await;
    assert_eq!(list_due(ports, 1_000).await, []);
    create(ports, &reboot).await;
    postpone(120).await;
    assert_eq!(list_due(ports, 119).await, []);
    assert_eq!(list_due(ports, 120).await, [key(&reboot)]);
    assert_eq!(get(ports, &reboot).await, reboot);
}

async fn due_commands_are_listed_by_deadline_up_to_the_limit(ports: &impl Ports) {
    let mut all = Vec::new();
    for n in 0..24 {
        let device = format!("m{n}");
        register_device(ports, &device).await;
        let reboot = command(&device, CommandKind::Reboot, second(7 * n % 24));
        create(ports, &reboot).await;
        all.push(reboot);
    }
    all.sort_by_key(|command| command.created_at);
    let at = second(PUBLISH_RETRY_DELAY_S + 19);
    let expected: Vec<_> = all[..20].iter().map(key).collect();
    for limit in [1, 3, 20, 1_000] {
        let found = ports.commands().list_due(at, limit).await.unwrap();
        assert_eq!(found, expected[..limit.min(20)], "at most {limit}");
    }
}

async fn timeout_changes_only_pending_commands(ports: &impl Ports) {
    register_device(ports, "m").await;
    let time_out = async |command: &Command| {
        ports.commands().time_out(&command.device_id, command.cmd_id).await.unwrap();
    };
    let waiting = command("m", CommandKind::Reboot, second(0));
    time_out(&waiting).await;
    assert_eq!(list(ports, "m", None).await, []);
    let acknowledged = command("m", CommandKind::Reboot, second(1));
    create(ports, &waiting).await;
    create(ports, &acknowledged).await;
    acknowledge(ports, acknowledged.cmd_id, AckResult::Rejected, None, 2).await;
    let before = get(ports, &acknowledged).await;
    for command in [&waiting, &waiting, &acknowledged] {
        time_out(command).await;
    }
    let timed_out = Command { status: CommandStatus::Timeout, ..waiting };
    assert_eq!(list(ports, "m", None).await, [before, timed_out]);
    assert_eq!(list_due(ports, 1_000_000).await, []);
}

async fn commands_are_listed_newest_first_by_status(ports: &impl Ports) {
    register_device(ports, "m").await;
    register_device(ports, "n").await;
    create(ports, &command("n", CommandKind::Reboot, second(1))).await;
    let mut all = Vec::new();
    for n in 0..12 {
        let mut stored = command("m", CommandKind::RequestStatus, second(n));
        create(ports, &stored).await;
        if n % 2 == 0 {
            match acknowledge(ports, stored.cmd_id, AckResult::Accepted, None, 99).await {
                AcknowledgeOutcome::Recorded(acknowledged) => stored = acknowledged,
                other => panic!("{other:?}"),
            }
        }
        all.insert(0, stored);
    }
    assert_eq!(list(ports, "m", None).await, all);
    for status in [CommandStatus::Pending, CommandStatus::Accepted, CommandStatus::Timeout] {
        let expected: Vec<_> = all.iter().filter(|c| c.status == status).cloned().collect();
        assert_eq!(list(ports, "m", Some(status)).await, expected, "{status:?}");
    }
}

async fn cleanup_deletes_commands_and_keys_of_one_device(ports: &impl Ports) {
    for device in ["m", "n"] {
        register_device(ports, device).await;
        for n in 0..60 {
            let key = IdempotencyKey(n.to_string());
            let reboot = command(device, CommandKind::Reboot, second(n));
            assert_eq!(
                ports.commands().create(&reboot, Some(&key)).await.unwrap(),
                CreateOutcome::Created
            );
        }
    }
    // Neither for a registered device nor for another deletion is anything deleted.
    assert!(!ports.commands().delete_for_device(&fixtures::id("m"), second(0)).await.unwrap());
    let row = device(ports).await;
    delete_device(ports, &row).await;
    assert!(!ports.commands().delete_for_device(&fixtures::id("m"), second(1)).await.unwrap());
    assert_eq!(list(ports, "m", None).await.len(), 60);
    let mut rounds = 0;
    while ports.commands().delete_for_device(&fixtures::id("m"), second(0)).await.unwrap() {
        rounds += 1;
        assert!(rounds < 20, "the cleanup does not end");
    }
    assert_eq!(list(ports, "m", None).await, []);
    assert_eq!(list(ports, "n", None).await.len(), 60);
    let due = ports.commands().list_due(second(1_000), 1_000).await.unwrap();
    assert!(due.len() == 60 && due.iter().all(|(device, _)| *device == fixtures::id("n")));
    ports.devices().remove_tombstone(&fixtures::id("m"), second(0)).await.unwrap();
    register_device(ports, "m").await;
    let key = IdempotencyKey("0".to_owned());
    let reboot = command("m", CommandKind::Reboot, second(99));
    assert_eq!(ports.commands().create(&reboot, Some(&key)).await.unwrap(), CreateOutcome::Created);
}
