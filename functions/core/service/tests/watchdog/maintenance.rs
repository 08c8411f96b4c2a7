//! Interrupted work, cleanups, recounts and rollups.

use super::*;

#[tokio::test]
async fn interrupted_effects_are_executed() {
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
async fn interrupted_delete_is_completed() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let alert = Alert::device_offline(&id("m"), second(5));
    AlertStore::open(&memory, &alert, None).await.unwrap();
    delete(&memory, "m", 10, false).await;
    assert_eq!(run(&memory, 120).await.cleaned_up, 1);
    assert!(memory.alerts(&id("m")).is_empty());
    assert!(!memory.has_tombstone(&id("m")).await.unwrap());
    assert_eq!(run(&memory, 180).await, WatchdogReport::default());
}

#[tokio::test]
async fn large_purge_continues_in_the_next_run() {
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
    assert_eq!(run(&memory, 240).await, WatchdogReport::default());
}

#[tokio::test]
async fn recount_corrects_wrong_counts() {
    let memory = MemoryStores::new();
    register(&memory, "m", json!({})).await;
    let expected = memory.counts().await.unwrap();
    memory.corrupt_counts();
    assert_ne!(memory.counts().await.unwrap(), expected);
    let reports = recount(&memory).await.unwrap();
    assert_eq!(reports[0].what, "devices by status");
    assert_eq!((reports[0].before["active"], reports[0].after["active"]), (4, 1));
    assert_eq!(memory.counts().await.unwrap(), expected);
}

/// The number of store calls of a run in which five devices of the fleet are due.
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
async fn run_makes_the_same_calls_for_any_fleet_size() {
    assert_eq!(calls_with(10).await, calls_with(100_000).await);
}

#[tokio::test]
async fn hour_is_rolled_up_once_and_again_after_late_samples() {
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

/// Receives a message at second `s` with one sample at second `at`.
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
