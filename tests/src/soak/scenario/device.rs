//! The messages of one device: boots, offline periods, acknowledgements.

use jiff::Timestamp;
use rand::RngExt as _;
use serde_json::json;
use uuid::Uuid;

use super::profile::{DeviceProfile, PresencePattern};
use super::script::ScriptBuilder;
use super::{MessageContent, Rng, Scenario, TARGET_FW_VERSION, chance};

/// Adds the messages of a device to the scenario. `planned_commands` are its commands: the index
/// among the commands of the fleet, the name and the id.
pub(super) fn script_device(
    number: usize,
    profile: &DeviceProfile,
    planned_commands: Vec<(usize, &'static str, Uuid)>,
    start_time: Timestamp,
    rng: &mut Rng,
    scenario: &mut Scenario,
) {
    let mut script = ScriptBuilder::new(number, profile, start_time, rng, scenario);
    for boot in 0..profile.boot_count {
        script.boot(boot);
        if profile.uses_protocol_v1 {
            for _ in 0..profile.messages_per_boot {
                script.send_v1_telemetry();
            }
            if boot + 1 == profile.boot_count {
                script.without_repeats(ScriptBuilder::send_v1_telemetry);
            }
            continue;
        }
        if chance(script.rng, 0.7) {
            script.send_status(true, Some("first"));
        }
        script.send_hello("1.0.0");
        for _ in 0..profile.messages_per_boot {
            script_random_message(&mut script, profile);
        }
        match profile.presence {
            PresencePattern::Steady | PresencePattern::Flapping => {}
            PresencePattern::OrderedOutages => script_outage(&mut script),
        }
    }
    if profile.uses_protocol_v1 {
        return;
    }
    script_acks(&mut script, &planned_commands);
    // The last message determines the final state.
    let ends_offline = match profile.presence {
        PresencePattern::Steady => false,
        PresencePattern::Flapping | PresencePattern::OrderedOutages => chance(script.rng, 0.5),
    };
    match profile.presence {
        PresencePattern::Flapping => {
            let is_online = chance(script.rng, 0.5) && !ends_offline;
            script.send_status(is_online, None);
        }
        PresencePattern::OrderedOutages if ends_offline => script_outage(&mut script),
        PresencePattern::Steady | PresencePattern::OrderedOutages => {}
    }
    if !ends_offline {
        script.without_repeats(ScriptBuilder::send_telemetry);
    }
}

fn script_random_message(script: &mut ScriptBuilder<'_>, profile: &DeviceProfile) {
    match script.rng.random_range(0..20) {
        0..13 => script.send_telemetry(),
        13 => {
            script.send_late(ScriptBuilder::send_telemetry);
            // A gap is detected only after a message with a higher sequence number.
            script.send_hello("1.0.1");
        }
        14 => {
            let version = ["1.0.1", "1.1.0-rc.1", "2.0.0+b7"][script.rng.random_range(0..3)];
            script.send_hello(version);
        }
        15 | 16 => script.send_invalid_message(),
        17 | 18 if profile.presence == PresencePattern::Flapping => {
            let is_online = chance(script.rng, 0.3);
            script.send_status(is_online, None);
        }
        17 => script.send_unknown_ack(),
        _ => script.send_telemetry(),
    }
}

/// The device goes offline; its next message brings it online.
fn script_outage(script: &mut ScriptBuilder<'_>) {
    script.next_phase();
    match script.rng.random_range(0..6) {
        0 => {
            // The last will of a previous connection does not take the device offline.
            script.send_status(true, Some("second"));
            script.next_phase();
            script.send_stale_last_will("first");
            script.next_phase();
            script.send_telemetry();
            script.next_phase();
            script.send_status(false, Some("second"));
        }
        1 => {
            // Nor does the lifecycle event for the end of a previous connection.
            script.send_connected();
            script.next_phase_without_gap();
            script.send_stale_disconnected();
            script.next_phase();
            script.send_disconnected();
        }
        2 => script.send_disconnected(),
        _ => script.send_status(false, None),
    }
    script.next_phase();
}

fn script_acks(script: &mut ScriptBuilder<'_>, planned_commands: &[(usize, &'static str, Uuid)]) {
    for (planned_command, cmd, id) in planned_commands {
        if *cmd == "start_ota" {
            script_upgrade(script, *planned_command, *id);
        }
        let acks = match script.rng.random_range(0..10) {
            0..2 => 0,
            2..8 => 1,
            _ => 2,
        };
        for _ in 0..acks {
            let result = ["accepted", "accepted", "accepted", "rejected", "error", "unsupported"]
                [script.rng.random_range(0..6)];
            let detail = chance(script.rng, 0.5).then(|| format!("acknowledges {planned_command}"));
            let ts = script.device_time();
            script.send_v2(
                "command/ack",
                "command_ack",
                json!({"cmd_id": id, "result": result, "detail": detail}),
                MessageContent::Ack {
                    ts,
                    planned_command: Some(*planned_command),
                    result,
                    detail: detail.clone(),
                },
            );
        }
    }
}

/// The states of an upgrade are delivered in any order, and the `hello` that completes it after
/// them.
fn script_upgrade(script: &mut ScriptBuilder<'_>, planned_command: usize, id: Uuid) {
    let succeeds = chance(script.rng, 0.7);
    let steps: &[(&str, Option<f64>)] = if succeeds {
        &[
            ("downloading", Some(10.0)),
            ("downloading", Some(60.5)),
            ("verifying", None),
            ("applying", Some(5.0)),
            ("success", None),
        ]
    } else {
        &[("downloading", Some(10.0)), ("failed", None)]
    };
    // Some devices omit the target version, which is a parameter of the command.
    let target = script.reports_target_version().then_some(TARGET_FW_VERSION);
    for (state, progress) in steps {
        let ts = script.device_time();
        script.send_v2(
            "ota/status",
            "ota_status",
            json!({"cmd_id": id, "ota_state": state, "progress_pct": progress, "fw_version_target": target}),
            MessageContent::Upgrade { ts, planned_command, state, progress: *progress },
        );
    }
    if succeeds && chance(script.rng, 0.7) {
        script.next_phase();
        script.send_hello(TARGET_FW_VERSION);
    }
}
