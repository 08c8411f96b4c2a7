//! The JSON document of a device state, with every optional field set.

use meter_domain::alert::AlertRevision;
use meter_domain::command::AckResult;
use meter_domain::notification::Notification;
use meter_domain::state::{DevicePolicy, DeviceState, Effect};
use serde_json::{Value, json};

use crate::examples::{alert, device_id, message, ota, point, second, uuid};

/// A state after messages, with the fields that messages alone do not set.
pub(crate) fn state() -> DeviceState {
    let mut state = DeviceState::new(device_id());
    let messages = [
        message(
            "hello",
            json!({"fw_version": "1.0.0", "uptime_s": 1, "broker_connections": 1,
            "buf_usage_pct": 0}),
        ),
        message(
            "telemetry",
            json!({"seq": 3, "measurements": [{"type": "pf", "val": 1, "unit": "%"}]}),
        ),
    ];
    state.apply(&Vec::from_iter(&messages), &DevicePolicy::default());
    let [at, id] = [json!(second(5)), json!(uuid(5))];
    let mut document = serde_json::to_value(&state).unwrap();
    let set = [
        ("/registered", json!(true)),
        (
            "/presence",
            json!({"connection": "online", "since": at, "last_seen": at, "conn_id": "c",
            "lifecycle": [1, at], "alert": {"alert_id": id, "resolved_at": at}}),
        ),
        ("/pending_rollups", json!({"except": {"max_gap_s": 300, "pending": [[1, 2, 3, at]]}})),
        ("/upgrade", json!({"cmd_id": id, "target": "2.0.0", "succeeded_at": at})),
        (
            "/gap_alert",
            json!({"alert_id": id, "ranges": "2", "raised_at": at, "abandoned_gaps": 1}),
        ),
        ("/evaluation", evaluation(&at, &id)),
        ("/report_interval_s", json!(60)),
        (
            "/cleanup",
            json!({"since": at, "purge": {"searching_archive": {"purged_before": at, "searched_before": at}}}),
        ),
        ("/purged_at", at.clone()),
        ("/next_check", at),
        ("/outbox", serde_json::to_value(effects()).unwrap()),
    ];
    for (pointer, value) in set {
        document[&pointer[1..]] = value;
    }
    let state: DeviceState = serde_json::from_value(document.clone()).unwrap();
    let serialized = serde_json::to_value(&state).unwrap();
    assert_eq!(serialized, document, "a field of the example is not a field of the state");
    state
}

fn evaluation(at: &Value, id: &Value) -> Value {
    let precedence = point("pf", None).point.precedence;
    let buffer = json!({"last": [at, 1, 1.5], "previous": [at, 1.5], "received_at": at,
        "held": [{"at": at, "sample_index": 1, "value": 1.5, "precedence": precedence}]});
    let alert = json!({"started_at": at, "resolved_at": at,
        "notified": {"alert_type": "general", "severity": "info", "rule_name": "rule"}});
    let rule_state = json!({"version": 1, "pending_since": at, "alert": alert});
    json!({"generation": 1, "buffers": {"pf": buffer}, "next_check": at, "late": 1,
        "rule_states": {id.as_str().unwrap(): rule_state}})
}

fn effects() -> Vec<Effect> {
    let at = second(5);
    let revision =
        AlertRevision { state_version: 1, resolved_at: Some(at), message: Some("text".to_owned()) };
    vec![
        Effect::OpenAlert { alert: alert() },
        Effect::ReviseAlert { alert_id: uuid(2), revision },
        Effect::RecordCommandAck {
            cmd_id: uuid(4),
            result: AckResult::Accepted,
            detail: Some("text".to_owned()),
            at,
        },
        Effect::AdvanceOta { cmd_id: uuid(4), ota: ota() },
        Effect::RepublishCommands { at },
        Effect::Notify {
            notification: Notification::opened(&alert(), at),
            not_before: at,
            since: Some(at),
        },
    ]
}

pub(crate) fn lines() -> Vec<String> {
    let document = serde_json::to_value(state()).unwrap();
    serde_json::to_string_pretty(&document).unwrap().lines().map(str::to_owned).collect()
}
