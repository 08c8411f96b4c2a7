use serde_json::json;

use super::fixtures::*;
use super::*;
use crate::command::CommandStatus;
use crate::message::{Message, ReceivedMessage, parse};

fn connection(messages: &[Message]) -> Connection {
    after(messages).presence.connection
}

#[test]
fn message_sets_online_and_offline_status_sets_offline() {
    assert_eq!(connection(&[telemetry(1, "pf", 1.0)]), Connection::Online);
    assert_eq!(
        connection(&[status(1, "online", None), status(2, "offline", None)]),
        Connection::Offline
    );
}

#[test]
fn only_a_message_received_after_going_offline_sets_online() {
    let offline = status(5, "offline", None);
    assert_eq!(connection(&[offline.clone(), telemetry(6, "pf", 1.0)]), Connection::Online);
    assert_eq!(connection(&[offline.clone(), telemetry(4, "pf", 1.0)]), Connection::Offline);
    assert_eq!(connection(&[offline, status(4, "online", None)]), Connection::Offline);
}

#[test]
fn order_of_processing_does_not_change_the_connection() {
    let (online, offline) = (telemetry(1, "pf", 1.0), status(5, "offline", None));
    let back = telemetry(6, "pf", 1.0);
    for messages in
        [[&online, &offline, &back], [&online, &back, &offline], [&back, &online, &offline]]
    {
        assert_eq!(connection(&messages.map(Clone::clone)), Connection::Online);
    }
}

#[test]
fn last_will_of_another_connection_is_ignored() {
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

/// The final state and all alert effects when effects are executed after each message.
fn after_one_by_one(messages: &[Message]) -> (DeviceState, Vec<AlertEffect>) {
    let mut state = registered();
    let mut effects = Vec::new();
    for message in messages {
        state.apply(&[message], &POLICY);
        effects.extend(alert_effects(&state));
        state.outbox = Outbox::default();
        state.version += 1;
    }
    (state, effects)
}

#[test]
fn going_offline_opens_one_alert_and_coming_online_resolves_it() {
    let (state, effects) = after_one_by_one(&[
        status(1, "online", None),
        status(2, "offline", None),
        status(3, "offline", None),
        telemetry(4, "pf", 1.0),
    ]);
    let [(opened, None), (resolved, Some(at))] = effects[..] else { panic!("{effects:?}") };
    assert_eq!((opened, at), (resolved, Some(second(4))));
    assert_eq!(state.presence.alert.unwrap().resolved_at, Some(second(4)));
    // The same messages yield the same alert.
    assert_eq!(alert_effects(&after(&[status(2, "offline", None)])), [(opened, None)]);
}

#[test]
fn flapping_device_reopens_its_alert_within_the_hold_down() {
    let flap = |from: i64| {
        (0..20).flat_map(move |n| {
            [status(from + 6 * n, "offline", None), status(from + 6 * n + 3, "online", None)]
        })
    };
    let (_, effects) = after_one_by_one(&flap(0).collect::<Vec<_>>());
    let opened = effects.iter().filter(|(_, revised)| revised.is_none()).count();
    assert_eq!(opened, 1, "within the hold-down");
    assert_eq!(effects.last().unwrap().1, Some(Some(second(117))));
    let (_, effects) = after_one_by_one(&flap(0).chain(flap(117 + 300)).collect::<Vec<_>>());
    let opened: Vec<_> = effects.iter().filter(|(_, revised)| revised.is_none()).collect();
    assert_eq!(opened.len(), 2, "after the hold-down");
}

#[test]
fn batch_enqueues_only_the_last_revision_of_an_alert() {
    let state = after(&[
        status(1, "offline", None),
        status(2, "online", None),
        status(3, "offline", None),
        status(4, "online", None),
    ]);
    let effects = alert_effects(&state);
    let [(_, None), (_, Some(Some(at)))] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(at, second(4));
}

fn lifecycle(s: i64, kind: &str, version: u64) -> Message {
    let event = json!({"clientId": "m", "timestamp": s * 1_000, "eventType": kind, "versionNumber": version});
    parse(&ReceivedMessage {
        topic: format!("$aws/events/presence/{kind}/m"),
        payload: event.to_string().into(),
        received_at: second(s),
    })
    .unwrap()
}

#[test]
fn lifecycle_events_apply_by_version_in_any_order() {
    let events = [
        lifecycle(1, "connected", 1),
        lifecycle(2, "disconnected", 1),
        lifecycle(3, "connected", 2),
    ];
    let [c1, d1, c2] = events;
    for order in [
        vec![c1.clone(), d1.clone(), c2.clone()],
        vec![c2.clone(), d1.clone(), c1.clone()],
        vec![c1.clone(), c2.clone(), d1.clone(), d1.clone()],
    ] {
        let mut state = registered();
        for event in &order {
            state.apply(&[event], &POLICY);
        }
        assert_eq!(state.presence.connection, Connection::Online, "{order:?}");
    }
    // The end of the first connection is received after the start of the second.
    let late_end = lifecycle(4, "disconnected", 1);
    assert_eq!(connection(&[c1.clone(), c2, late_end]), Connection::Online);
    // After an hour IoT Core restarts the version number at 0.
    let anew = lifecycle(4_000, "connected", 0);
    assert_eq!(connection(&[c1, d1, anew]), Connection::Online);
}

#[test]
fn silent_device_goes_offline_unless_ingest_is_behind() {
    let mut state = after(&[telemetry(0, "pf", 1.0)]);
    assert_eq!(state.next_check, Some(second(60)));
    state.check(second(60), false, &POLICY);
    assert_eq!(state.presence.connection, Connection::Online, "ingest is behind");
    assert_eq!(state.next_check, Some(second(120)));
    state.check(second(120), true, &POLICY);
    assert_eq!(state.presence.connection, Connection::Offline);
    assert_eq!(alert_effects(&state).len(), 1);
    // The watchdog executes the effects if the process that decided them crashes.
    assert_eq!(state.next_check, Some(second(180)));
    state.outbox = Outbox::default();
    state.check(second(180), true, &POLICY);
    assert_eq!(state.next_check, None, "no check is required");
}

#[test]
fn offline_timeout_is_three_report_intervals() {
    let mut state = after(&[telemetry(0, "pf", 1.0)]);
    state.report_interval_s = Some(100);
    state.check(second(299), true, &POLICY);
    assert_eq!(
        (state.presence.connection, state.next_check),
        (Connection::Online, Some(second(300)))
    );
    state.check(second(300), true, &POLICY);
    assert_eq!(state.presence.connection, Connection::Offline);
}

#[test]
fn deadline_moves_only_when_it_is_close() {
    let mut state = registered();
    let mut moves = 0;
    for s in (0..600).step_by(10) {
        let before = state.next_check;
        let fields = json!({"seq": s / 10, "measurements": [{"type": "pf", "val": 1}]});
        state.apply(&[&message(s, "telemetry", fields)], &POLICY);
        state.outbox = Outbox::default();
        moves += usize::from(state.next_check != before);
        assert!(state.next_check > Some(second(s)), "the deadline is in the future");
    }
    assert!(moves <= 12, "{moves} moves in 60 messages");
}

#[test]
fn message_received_before_offline_detection_sets_online() {
    let mut state = after(&[telemetry(0, "pf", 1.0)]);
    state.check(second(60), true, &POLICY);
    assert_eq!(state.presence.connection, Connection::Offline);
    state.apply(&[&telemetry(55, "pf", 1.0)], &POLICY);
    assert_eq!(state.presence.connection, Connection::Online);
    assert!(state.presence.alert.unwrap().resolved_at.is_some());
}

#[test]
fn activity_resolves_the_offline_alert_after_an_override() {
    let mut state = after(&[status(1, "offline", None)]);
    state.override_connection(Connection::Unknown, None, second(2), &POLICY);
    state.outbox = Outbox::default();
    state.record_activity(second(3), &POLICY);
    assert_eq!(alert_effects(&state).len(), 1);
}

#[test]
fn unregistered_device_enqueues_no_effects() {
    let mut state = DeviceState::new(DeviceId::parse("m").unwrap());
    let ack = message(1, "command/ack", json!({"cmd_id": CMD, "result": "accepted"}));
    state.apply(&[&ack, &status(2, "offline", None)], &POLICY);
    assert!(state.outbox.is_empty());
    assert_eq!(state.presence.connection, Connection::Offline);
}

#[test]
fn duplicate_acknowledgement_is_enqueued_once() {
    let ack =
        message(2, "command/ack", json!({"cmd_id": CMD, "result": "rejected", "detail": "busy"}));
    let state = after(&[ack.clone(), ack]);
    let [Effect::RepublishCommands { .. }, Effect::RecordCommandAck { result, detail, .. }] =
        &state.outbox[..]
    else {
        panic!("{:?}", state.outbox)
    };
    assert_eq!(CommandStatus::from(*result), CommandStatus::Rejected);
    assert_eq!(detail.as_deref(), Some("busy"));
}

#[test]
fn latest_point_is_the_newest_by_device_time() {
    let (a, b) = (telemetry(1, "pf", 0.1), telemetry(2, "pf", 0.2));
    for order in [[a.clone(), b.clone()], [b, a]] {
        let state = after(&order);
        assert_eq!(state.latest[&MetricName::parse("pf").unwrap()].value, 0.2);
    }
}

#[test]
fn metric_limit_does_not_count_known_metrics() {
    let mut state = registered();
    let messages = [
        telemetry(1, "a", 1.0),
        telemetry(2, "b", 1.0),
        telemetry(3, "pf", 1.0),
        telemetry(4, "a", 2.0),
    ];
    state.apply(&messages.iter().collect::<Vec<_>>(), &DevicePolicy { max_metrics: 1, ..POLICY });
    let has = |name| state.has_metric(&MetricName::parse(name).unwrap());
    assert!(has("a") && has("pf") && !has("b"));
    assert_eq!(state.samples_rejected, 1);
}

#[test]
fn connection_override_applies_like_a_signal() {
    let mut state = registered();
    state.override_connection(Connection::Offline, Some("1.2.3".to_owned()), second(5), &POLICY);
    assert_eq!(state.presence.connection, Connection::Offline);
    assert_eq!(state.fw_version.as_deref(), Some("1.2.3"));
    assert_eq!(alert_effects(&state).len(), 1);
    state.record_activity(second(6), &POLICY);
    assert_eq!(state.presence.connection, Connection::Online);
    assert_eq!(alert_effects(&state).len(), 2);
}

#[test]
fn serialized_state_is_equal_and_small() {
    let state =
        after(&[status(1, "online", Some("c")), hello(2, "1.0.0"), telemetry(3, "pf", 1.0)]);
    let text = serde_json::to_string(&state).unwrap();
    assert!(text.len() < 1_000, "{} bytes", text.len());
    assert_eq!(serde_json::from_str::<DeviceState>(&text).unwrap(), state);
}
