//! Messages, policy and states for the tests of this module.

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::message::{Message, ReceivedMessage, parse};

pub(super) const POLICY: DevicePolicy = DevicePolicy {
    max_metrics: 64,
    offline_after_s: 60,
    hold_down_s: 300,
    gap_grace_s: 60,
    rollup_gap_s: None,
    rule_hold_down_s: 300,
    reorder_s: 0,
    notify: NotificationPolicy::Disabled,
};

pub(super) const CMD: &str = "0198c5a0-0000-7000-8000-000000000001";

pub(super) fn second(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1_000).unwrap()
}

/// A message received at second `s` with the required fields of its type.
pub(super) fn message(s: i64, suffix: &str, fields: Value) -> Message {
    let kind = suffix.replace('/', "_");
    let mut payload =
        json!({"v": 2, "device_id": "m", "ts": second(s), "msg_type": kind, "seq": s, "boot": 1});
    for (name, value) in fields.as_object().unwrap() {
        payload[name] = value.clone();
    }
    parse(&ReceivedMessage {
        topic: format!("iot/m/{suffix}"),
        payload: payload.to_string().into(),
        received_at: second(s),
    })
    .unwrap()
}

pub(super) fn status(s: i64, status: &str, conn_id: Option<&str>) -> Message {
    message(s, "status", json!({"status": status, "conn_id": conn_id}))
}

pub(super) fn telemetry(s: i64, metric: &str, value: f64) -> Message {
    message(s, "telemetry", json!({"measurements": [{"type": metric, "val": value}]}))
}

pub(super) fn hello(s: i64, fw: &str) -> Message {
    message(
        s,
        "hello",
        json!({"fw_version": fw, "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0}),
    )
}

pub(super) fn ota(s: i64, state: &str) -> Message {
    message(
        s,
        "ota/status",
        json!({"cmd_id": CMD, "ota_state": state, "fw_version_target": "2.0.0"}),
    )
}

pub(super) fn registered() -> DeviceState {
    let mut state = DeviceState::new(DeviceId::parse("m").unwrap());
    state.registered = true;
    state
}

pub(super) fn after(messages: &[Message]) -> DeviceState {
    let mut state = registered();
    state.apply(&messages.iter().collect::<Vec<_>>(), &POLICY);
    state
}

/// An effect on an alert: `None` for an opening; otherwise the `resolved_at` of a revision.
pub(super) type AlertEffect = (Uuid, Option<Option<Timestamp>>);

pub(super) fn alert_effects(state: &DeviceState) -> Vec<AlertEffect> {
    let of = |effect: &Effect| match effect {
        Effect::OpenAlert { alert } => Some((alert.alert_id, None)),
        Effect::ReviseAlert { alert_id, revision } => Some((*alert_id, Some(revision.resolved_at))),
        _ => None,
    };
    state.outbox.iter().filter_map(of).collect()
}
