use serde_json::{Value, json};

use super::*;
use crate::command::CommandStatus;
use crate::message::{Received, parse};

const CMD: &str = "0198c5a0-0000-7000-8000-000000000001";

fn second(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1_000).unwrap()
}

/// A message received at second `s`; what the type needs is filled in.
fn message(s: i64, suffix: &str, fields: Value) -> Message {
    let kind = suffix.replace('/', "_");
    let mut payload =
        json!({"v": 2, "device_id": "m", "ts": second(s), "msg_type": kind, "seq": s, "boot": 1});
    for (name, value) in fields.as_object().unwrap() {
        payload[name] = value.clone();
    }
    parse(&Received {
        topic: format!("iot/m/{suffix}"),
        payload: payload.to_string().into(),
        received_at: second(s),
    })
    .unwrap()
}

fn status(s: i64, status: &str, conn_id: Option<&str>) -> Message {
    message(s, "status", json!({"status": status, "conn_id": conn_id}))
}

fn telemetry(s: i64, metric: &str, value: f64) -> Message {
    message(s, "telemetry", json!({"measurements": [{"type": metric, "val": value}]}))
}

fn hello(s: i64, fw: &str) -> Message {
    message(
        s,
        "hello",
        json!({"fw_version": fw, "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0}),
    )
}

fn ota(s: i64, state: &str) -> Message {
    message(
        s,
        "ota/status",
        json!({"cmd_id": CMD, "ota_state": state, "fw_version_target": "2.0.0"}),
    )
}

fn registered() -> DeviceState {
    let mut state = DeviceState::new(DeviceId::parse("m").unwrap());
    state.registered = true;
    state
}

fn after(messages: &[Message]) -> DeviceState {
    let mut state = registered();
    state.apply(&messages.iter().collect::<Vec<_>>(), 64);
    state
}

fn connection(messages: &[Message]) -> Connection {
    after(messages).presence.connection
}

#[test]
fn a_device_that_speaks_is_online_and_its_goodbye_takes_it_offline() {
    assert_eq!(connection(&[telemetry(1, "pf", 1.0)]), Connection::Online);
    assert_eq!(
        connection(&[status(1, "online", None), status(2, "offline", None)]),
        Connection::Offline
    );
}

#[test]
fn any_later_message_revives_and_an_earlier_one_that_comes_late_does_not() {
    let gone = status(5, "offline", None);
    assert_eq!(connection(&[gone.clone(), telemetry(6, "pf", 1.0)]), Connection::Online);
    assert_eq!(connection(&[gone.clone(), telemetry(4, "pf", 1.0)]), Connection::Offline);
    assert_eq!(connection(&[gone, status(4, "online", None)]), Connection::Offline);
}

#[test]
fn a_device_that_spoke_after_it_went_is_there_whichever_is_handled_first() {
    let (there, gone) = (telemetry(1, "pf", 1.0), status(5, "offline", None));
    let back = telemetry(6, "pf", 1.0);
    for messages in [[&there, &gone, &back], [&there, &back, &gone], [&back, &there, &gone]] {
        assert_eq!(connection(&messages.map(Clone::clone)), Connection::Online);
    }
}

#[test]
fn the_will_of_another_connection_is_ignored() {
    let online = status(1, "online", Some("new"));
    assert_eq!(
        connection(&[online.clone(), status(2, "offline", Some("old"))]),
        Connection::Online
    );
    assert_eq!(
        connection(&[online.clone(), status(2, "offline", Some("new"))]),
        Connection::Offline
    );
    assert_eq!(connection(&[online, status(2, "offline", None)]), Connection::Offline);
}

#[test]
fn going_offline_raises_one_alert_and_coming_back_resolves_it() {
    let state = after(&[
        status(1, "online", None),
        status(2, "offline", None),
        status(3, "offline", None),
        telemetry(4, "pf", 1.0),
    ]);
    let [Effect::OpenAlert { alert }, Effect::ResolveAlert { alert_id, at }] = &state.outbox[..]
    else {
        panic!("{:?}", state.outbox)
    };
    assert_eq!((alert.alert_id, alert.created_at), (*alert_id, second(2)));
    assert_eq!(*at, second(4));
    assert_eq!(state.presence.open_alert, None);
    // Decided again from the same messages, it is the same alert.
    assert_eq!(after(&[status(2, "offline", None)]).outbox[0], state.outbox[0]);
}

#[test]
fn a_device_that_is_not_registered_leaves_no_effects() {
    let mut state = DeviceState::new(DeviceId::parse("m").unwrap());
    let ack = message(1, "command/ack", json!({"cmd_id": CMD, "result": "accepted"}));
    state.apply(&[&ack, &status(2, "offline", None)], 64);
    assert!(state.outbox.is_empty());
    assert_eq!(state.presence.connection, Connection::Offline);
}

#[test]
fn an_answer_leaves_through_the_outbox_once() {
    let ack =
        message(2, "command/ack", json!({"cmd_id": CMD, "result": "rejected", "detail": "busy"}));
    let state = after(&[ack.clone(), ack]);
    let [Effect::FinishCommand { result, detail, .. }] = &state.outbox[..] else {
        panic!("{:?}", state.outbox)
    };
    assert_eq!(CommandStatus::from(*result), CommandStatus::Rejected);
    assert_eq!(detail.as_deref(), Some("busy"));
}

#[test]
fn an_upgrade_is_complete_when_a_hello_from_the_target_follows_success() {
    let completed = |state: &DeviceState| {
        state.outbox.iter().any(
            |e| matches!(e, Effect::AdvanceOta { ota, .. } if ota.state == OtaState::Completed),
        )
    };
    assert!(completed(&after(&[ota(1, "success"), hello(2, "2.0.0")])));
    assert!(!completed(&after(&[ota(1, "success"), hello(2, "1.0.0")])));
    assert!(!completed(&after(&[ota(1, "applying"), hello(2, "2.0.0")])));
    assert_eq!(after(&[hello(2, "2.0.0"), hello(1, "1.0.0")]).fw_version.as_deref(), Some("2.0.0"));
}

#[test]
fn the_latest_point_is_the_newest_by_its_own_time_in_any_order() {
    let (a, b) = (telemetry(1, "pf", 0.1), telemetry(2, "pf", 0.2));
    for order in [[a.clone(), b.clone()], [b, a]] {
        let state = after(&order);
        assert_eq!(state.latest[&MetricName::parse("pf").unwrap()].value, 0.2);
    }
}

#[test]
fn a_device_has_so_many_free_metrics_and_any_number_that_are_known_by_name() {
    let mut state = registered();
    let messages = [
        telemetry(1, "a", 1.0),
        telemetry(2, "b", 1.0),
        telemetry(3, "pf", 1.0),
        telemetry(4, "a", 2.0),
    ];
    state.apply(&messages.iter().collect::<Vec<_>>(), 1);
    let has = |name| state.has_metric(&MetricName::parse(name).unwrap());
    assert!(has("a") && has("pf") && !has("b"));
    assert_eq!(state.metrics_refused, 1);
}

#[test]
fn a_word_over_rest_counts_as_a_signal() {
    let mut state = registered();
    state.override_connection(Connection::Offline, Some("1.2.3".to_owned()), second(5));
    assert_eq!(state.presence.connection, Connection::Offline);
    assert_eq!(state.fw_version.as_deref(), Some("1.2.3"));
    assert_eq!(state.outbox.len(), 1);
    state.heard(second(6));
    assert_eq!(state.presence.connection, Connection::Online);
    assert_eq!(state.outbox.len(), 2);
}

#[test]
fn a_state_is_small_and_reads_back_as_it_was() {
    let state =
        after(&[status(1, "online", Some("c")), hello(2, "1.0.0"), telemetry(3, "pf", 1.0)]);
    let text = serde_json::to_string(&state).unwrap();
    assert!(text.len() < 1_000, "{} bytes", text.len());
    assert_eq!(serde_json::from_str::<DeviceState>(&text).unwrap(), state);
}
