use futures::future::join_all;
use meter_domain::command::{AckResult, Command, CommandKind, CommandStatus, Ota, OtaState};
use meter_domain::device::Device;
use meter_store::{AcknowledgeOutcome, CommandStore};
use serde_json::json;

use super::commands::{acknowledge, create, device, list};
use super::{Ports, contracts};
use crate::fixtures::{self, command, object, register_device, second};

contracts! {
    first_acknowledgement_of_a_command_is_kept
    acknowledgement_after_a_timeout_is_recorded
    only_accepted_configurations_take_effect
    advance_ota_returns_the_target_version
    ota_progress_never_moves_back
    ; concurrent:
    concurrently_accepted_configurations_all_take_effect
}

async fn first_acknowledgement_of_a_command_is_kept(ports: &impl Ports) {
    register_device(ports, "m").await;
    let reboot = command("m", CommandKind::Reboot, second(1));
    let unknown = acknowledge(ports, reboot.cmd_id, AckResult::Accepted, None, 2).await;
    assert_eq!(unknown, AcknowledgeOutcome::CommandNotFound);
    create(ports, &reboot).await;
    let first = Command {
        status: CommandStatus::Rejected,
        ack_detail: Some("é".to_owned()),
        acked_at: Some(second(2)),
        ..reboot.clone()
    };
    let now = acknowledge(ports, reboot.cmd_id, AckResult::Rejected, Some("é"), 2).await;
    assert_eq!(now, AcknowledgeOutcome::Recorded(first.clone()));
    let later = acknowledge(ports, reboot.cmd_id, AckResult::Accepted, None, 3).await;
    assert_eq!(later, AcknowledgeOutcome::AlreadyRecorded(first.clone()));
    assert_eq!(list(ports, "m", None).await, [first]);
}

async fn acknowledgement_after_a_timeout_is_recorded(ports: &impl Ports) {
    register_device(ports, "m").await;
    let late =
        Command { status: CommandStatus::Timeout, ..command("m", CommandKind::Reboot, second(1)) };
    create(ports, &late).await;
    let result = acknowledge(ports, late.cmd_id, AckResult::Error, None, 9).await;
    let acknowledged = Command { status: CommandStatus::Error, acked_at: Some(second(9)), ..late };
    assert_eq!(result, AcknowledgeOutcome::Recorded(acknowledged.clone()));
    assert_eq!(list(ports, "m", None).await, [acknowledged]);
}

pub(super) fn configure(at: i64, params: serde_json::Value) -> Command {
    Command { params: object(params), ..command("m", CommandKind::UpdateConfig, second(at)) }
}

async fn only_accepted_configurations_take_effect(ports: &impl Ports) {
    let before = register_device(ports, "m").await;
    let commands = [
        (configure(1, json!({"send_interval_s": 10, "x": [1e-300]})), AckResult::Accepted),
        (configure(2, json!({"send_interval_s": 20})), AckResult::Rejected),
        (configure(3, json!({"hello_interval_s": 30})), AckResult::Accepted),
        (command("m", CommandKind::Reboot, second(4)), AckResult::Accepted),
    ];
    for (command, result) in &commands {
        create(ports, command).await;
        acknowledge(ports, command.cmd_id, *result, None, 9).await;
    }
    // Repeated, as after a crash.
    acknowledge(ports, commands[0].0.cmd_id, AckResult::Accepted, None, 10).await;
    let config = json!({"send_interval_s": 10, "x": [1e-300], "hello_interval_s": 30});
    let expected = Device {
        config: object(config),
        updated_at: second(9),
        revision: before.revision + 2,
        ..before
    };
    assert_eq!(device(ports).await, expected);
}

async fn concurrently_accepted_configurations_all_take_effect(ports: &impl Ports) {
    register_device(ports, "m").await;
    let commands: Vec<_> = (0..4).map(|n| configure(n, json!({format!("k{n}"): n}))).collect();
    for command in &commands {
        create(ports, command).await;
    }
    let results = commands.iter().map(|command| {
        let (ports, id) = (ports.clone(), command.cmd_id);
        async move { acknowledge(&ports, id, AckResult::Accepted, None, 9).await }
    });
    join_all(results).await;
    let config = device(ports).await.config;
    assert_eq!(config, object(json!({"k0": 0, "k1": 1, "k2": 2, "k3": 3})));
}

pub(super) fn ota_in_state(state: OtaState, progress_pct: Option<f64>) -> Ota {
    Ota {
        state,
        progress_pct,
        fw_version_target: Some("2.0.0".to_owned()),
        detail: None,
        updated_at: second(7),
    }
}

async fn advance_ota_returns_the_target_version(ports: &impl Ports) {
    register_device(ports, "m").await;
    let params = object(json!({"fw_version": "2.0.0"}));
    let upgrade = Command { params, ..command("m", CommandKind::StartOta, second(1)) };
    let reboot = command("m", CommandKind::Reboot, second(2));
    let advance = async |id| {
        let ota = ota_in_state(OtaState::Verifying, None);
        ports.commands().advance_ota(&fixtures::id("m"), id, &ota).await.unwrap()
    };
    assert_eq!(advance(upgrade.cmd_id).await, None);
    create(ports, &upgrade).await;
    create(ports, &reboot).await;
    for _ in 0..2 {
        assert_eq!(advance(upgrade.cmd_id).await, Some("2.0.0".to_owned()));
    }
    assert_eq!(advance(reboot.cmd_id).await, None);
}

async fn ota_progress_never_moves_back(ports: &impl Ports) {
    register_device(ports, "m").await;
    let upgrade = command("m", CommandKind::StartOta, second(1));
    let reboot = command("m", CommandKind::Reboot, second(2));
    let advance = async |id, ota: &Ota| {
        ports.commands().advance_ota(&fixtures::id("m"), id, ota).await.unwrap();
    };
    let verifying = ota_in_state(OtaState::Verifying, Some(0.1 + 0.2));
    advance(upgrade.cmd_id, &verifying).await;
    create(ports, &upgrade).await;
    create(ports, &reboot).await;
    advance(upgrade.cmd_id, &verifying).await;
    advance(upgrade.cmd_id, &ota_in_state(OtaState::Downloading, Some(99.0))).await;
    advance(reboot.cmd_id, &verifying).await;
    let listed = list(ports, "m", None).await;
    assert_eq!(listed[0].ota, None);
    assert_eq!(listed[1].ota, Some(verifying));
    let success = ota_in_state(OtaState::Success, None);
    advance(upgrade.cmd_id, &success).await;
    assert_eq!(list(ports, "m", None).await[1].ota, Some(success));
}
