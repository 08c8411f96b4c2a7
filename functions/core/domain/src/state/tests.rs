use serde_json::{Value, json};

use super::*;
use crate::command::{CommandStatus, OtaState};
use crate::message::{Message, ReceivedMessage, parse};

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

const CMD: &str = "0198c5a0-0000-7000-8000-000000000001";

fn second(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1_000).unwrap()
}

/// A message received at second `s` with the required fields of its type.
fn message(s: i64, suffix: &str, fields: Value) -> Message {
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
    state.apply(&messages.iter().collect::<Vec<_>>(), &POLICY);
    state
}

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

/// An effect on an alert: `None` for an opening; otherwise the `resolved_at` of a revision.
type AlertEffect = (Uuid, Option<Option<Timestamp>>);

fn alert_effects(state: &DeviceState) -> Vec<AlertEffect> {
    let of = |effect: &Effect| match effect {
        Effect::OpenAlert { alert } => Some((alert.alert_id, None)),
        Effect::ReviseAlert { alert_id, revision } => Some((*alert_id, Some(revision.resolved_at))),
        _ => None,
    };
    state.outbox.iter().filter_map(of).collect()
}

/// The final state and all alert effects when effects are executed after each message.
fn after_one_by_one(messages: &[Message]) -> (DeviceState, Vec<AlertEffect>) {
    let mut state = registered();
    let mut effects = Vec::new();
    for message in messages {
        state.apply(&[message], &POLICY);
        effects.extend(alert_effects(&state));
        state.outbox.clear();
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
    state.outbox.clear();
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
        state.outbox.clear();
        moves += usize::from(state.next_check != before);
        assert!(state.next_check > Some(second(s)), "the deadline is in the future");
    }
    assert!(moves <= 12, "{moves} moves in 60 messages");
}

#[test]
fn overdue_gap_opens_one_alert_that_late_messages_resolve() {
    let numbered = |s: i64, seq: i64| {
        message(s, "telemetry", json!({"seq": seq, "measurements": [{"type": "pf", "val": seq}]}))
    };
    let mut state = after(&[numbered(0, 1), numbered(1, 5), numbered(2, 9)]);
    state.outbox.clear();
    state.check(second(61), true, &POLICY);
    let [Effect::OpenAlert { alert }] = &state.outbox[..] else { panic!("{:?}", state.outbox) };
    assert_eq!(alert.alert_type, "sequence_gap");
    assert_eq!(alert.message, "messages have not arrived; missing sequence numbers: 2 to 4");
    state.outbox.clear();
    state.presence.connection = Connection::Unknown;
    state.check(second(62), true, &POLICY);
    let [Effect::ReviseAlert { revision, .. }] = &state.outbox[..] else {
        panic!("{:?}", state.outbox)
    };
    let text = "messages have not arrived; missing sequence numbers: 2 to 4, 6 to 8";
    assert_eq!(revision.message.as_deref(), Some(text));
    state.outbox.clear();
    let late: Vec<_> = [3, 8, 2, 7, 4, 6].iter().map(|seq| numbered(90, *seq)).collect();
    state.apply(&late.iter().collect::<Vec<_>>(), &POLICY);
    let [(_, Some(resolved))] = alert_effects(&state)[..] else { panic!("{:?}", state.outbox) };
    assert_eq!((resolved, state.gap_alert.clone()), (Some(second(90)), None));
}

#[test]
fn gap_alert_opens_at_any_message_interval() {
    for interval in [1, 5, 10, 20, 29, 31, 45] {
        let mut state = registered();
        let mut seq = 0;
        let mut opened = 0;
        for s in 0..600_i64 {
            if s % interval == 0 {
                seq += if s / interval == 3 { 2 } else { 1 };
                let fields = json!({"seq": seq, "measurements": [{"type": "pf", "val": 1}]});
                state.apply(&[&message(s, "telemetry", fields)], &POLICY);
            }
            // The watchdog runs once a minute, at second 7.
            if s % 60 == 7 && state.next_check.is_some_and(|due| due <= second(s)) {
                state.check(second(s), true, &POLICY);
            }
            opened += alert_effects(&state).iter().filter(|(_, revised)| revised.is_none()).count();
            state.outbox.clear();
        }
        assert_eq!(opened, 1, "every {interval} s");
    }
}

#[test]
fn message_received_before_the_gap_alert_does_not_resolve_it() {
    let numbered = |s: i64, seq: i64| {
        message(s, "telemetry", json!({"seq": seq, "measurements": [{"type": "pf", "val": seq}]}))
    };
    let mut state = after(&[numbered(10, 4), numbered(11, 6), numbered(12, 10)]);
    state.check(second(100), true, &POLICY);
    state.outbox.clear();
    state.apply(&[&numbered(0, 5)], &POLICY);
    let [(_, Some(resolved))] = alert_effects(&state)[..] else { panic!("{:?}", state.outbox) };
    assert_eq!((resolved, state.gap_alert.is_some()), (None, true), "9 is still missing");
}

#[test]
fn gap_alert_does_not_open_while_ingest_is_behind() {
    let numbered = |s: i64, seq: i64| {
        message(s, "telemetry", json!({"seq": seq, "measurements": [{"type": "pf", "val": seq}]}))
    };
    let mut state = after(&[numbered(0, 1), numbered(1, 5)]);
    state.outbox.clear();
    state.check(second(100), false, &POLICY);
    assert_eq!((alert_effects(&state), state.next_check), (vec![], Some(second(120))));
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
    state.outbox.clear();
    state.record_activity(second(3), &POLICY);
    assert_eq!(alert_effects(&state).len(), 1);
}

#[test]
fn hello_processed_before_success_completes_the_upgrade() {
    let mut state = after(&[ota(1, "applying")]);
    state.apply(&[&hello(5, "2.0.0")], &POLICY);
    state.apply(&[&ota(4, "success")], &POLICY);
    let completed = |e: &Effect| matches!(e, Effect::AdvanceOta { ota, .. } if ota.state == OtaState::Completed);
    assert!(state.outbox.iter().any(completed), "{:?}", state.outbox);
}

#[test]
fn repeated_acknowledgements_are_one_effect() {
    let answers: Vec<_> = (0..1_000)
        .map(|s| {
            let detail = format!("{s}");
            message(
                s,
                "command/ack",
                json!({"cmd_id": CMD, "result": "accepted", "detail": detail}),
            )
        })
        .chain((1_000..2_000).map(|s| ota(s, if s == 1_500 { "verifying" } else { "downloading" })))
        .collect();
    let state = after(&answers);
    assert_eq!(
        state.outbox.len(),
        3,
        "acknowledgement, progress and republish: {:?}",
        state.outbox
    );
    let verifying = |e: &Effect| matches!(e, Effect::AdvanceOta { ota, .. } if ota.state == OtaState::Verifying);
    assert!(state.outbox.iter().any(verifying));
}

#[test]
fn alert_for_an_abandoned_gap_is_not_resolved() {
    let booted = |s: i64, seq: i64, boot: i64| {
        let fields = json!({"seq": seq, "boot": boot, "measurements": [{"type": "pf", "val": 1}]});
        message(s, "telemetry", fields)
    };
    let mut state = after(&[booted(0, 1, 0), booted(1, 5, 0)]);
    state.presence.connection = Connection::Unknown;
    state.check(second(61), true, &POLICY);
    assert!(state.gap_alert.is_some());
    state.outbox.clear();
    let reboots: Vec<_> = (1..=4).map(|boot| booted(70 + boot, 0, boot)).collect();
    state.apply(&reboots.iter().collect::<Vec<_>>(), &POLICY);
    assert_eq!((alert_effects(&state), state.gap_alert.clone()), (vec![], None));
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
fn hello_with_target_version_after_success_completes_the_upgrade() {
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

#[test]
fn messages_do_not_postpone_the_cleanup() {
    let mut state = registered();
    state.mark_deleted(second(0), true, &POLICY);
    assert_eq!(state.next_check, Some(second(60)));
    for s in 1..600 {
        state.apply(&[&telemetry(s, "pf", 1.0)], &POLICY);
        assert!(state.next_check <= Some(second(60)), "{s}: {:?}", state.next_check);
    }
    state.complete_cleanup(second(0), true);
    assert_eq!((state.next_check, state.cleanup), (None, None));
}

#[test]
fn purge_resets_the_state_once() {
    let mut state = registered();
    state.apply(&[&telemetry(1, "pf", 1.0), &hello(2, "1.0.0")], &POLICY);
    state.mark_deleted(second(3), true, &POLICY);
    let version = state.version;
    state.record_purged_before(second(3), Timestamp::min());
    assert!(state.latest.is_empty() && state.fw_version.is_none() && state.hello.is_none());
    assert_eq!((state.version, state.presence.connection), (version, Connection::Unknown));
    state.apply(&[&telemetry(4, "pf", 2.0)], &POLICY);
    state.record_purged_before(second(3), second(100));
    state.record_purged_before(second(3), second(50));
    assert_eq!(state.cleanup.unwrap().purged_before, Some(second(100)));
    assert_eq!(state.latest.len(), 1);
}

#[test]
fn registration_ends_cleanup_and_purge() {
    let mut state = registered();
    state.mark_deleted(second(0), true, &POLICY);
    state.register(second(1), &POLICY);
    state.apply(&[&telemetry(2, "pf", 1.0)], &POLICY);
    let before = state.clone();
    state.record_purged_before(second(0), second(100));
    state.complete_cleanup(second(0), true);
    state.request_purge(second(5), &POLICY);
    assert_eq!(state, before);
    assert!(state.next_check.is_some());
}

#[test]
fn purge_requested_during_cleanup_stays_pending() {
    let mut state = registered();
    state.mark_deleted(second(0), false, &POLICY);
    state.request_purge(second(5), &POLICY);
    state.complete_cleanup(second(0), false);
    let cleanup = state.cleanup.unwrap();
    assert!(cleanup.purge && cleanup.since == second(0) && state.next_check.is_some());
    state.complete_cleanup(second(0), true);
    assert_eq!(state.cleanup, None);
}

#[test]
fn cleanup_of_an_earlier_deletion_does_not_complete_a_later_one() {
    let mut state = registered();
    state.mark_deleted(second(0), true, &POLICY);
    state.register(second(10), &POLICY);
    state.set_report_interval(Some(600), second(11), &POLICY);
    state.mark_deleted(second(20), true, &POLICY);
    assert_eq!(state.report_interval_s, None, "the next registration has its own configuration");
    let before = state.clone();
    state.record_purged_before(second(0), second(15));
    state.complete_cleanup(second(0), true);
    assert_eq!(state, before);
}
