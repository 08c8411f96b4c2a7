use bytes::Bytes;
use meter_domain::archive::{Layout, pack};
use meter_domain::message::{ReceivedMessage, parse};
use meter_domain::segments::IndexEntry;
use meter_testing::memory::{MemoryStores, Operation};
use serde_json::json;

use super::*;

fn t(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn now() -> Timestamp {
    t("2026-06-01T00:00:00Z")
}

fn id(device: &str) -> DeviceId {
    DeviceId::parse(device).unwrap()
}

fn full_scope() -> ReplayScope {
    ReplayScope { device: None, start: Timestamp::EPOCH, stop: now() }
}

/// The `n`-th reading of a device, one a minute.
fn message(device: &str, n: i64) -> Message {
    let at = t("2026-03-01T11:30:00Z").plus_seconds(60 * n);
    let payload = json!({"v": 2, "device_id": device, "ts": at, "seq": n, "msg_type": "telemetry",
        "measurements": [
            {"type": "voltage_dc", "val": n}, {"type": "current_dc", "val": 2},
            {"type": "pf", "val": 1, "ts": "2026-03-01T00:00:00Z"}]});
    parse(&ReceivedMessage {
        topic: format!("iot/{device}/telemetry"),
        payload: format!("{payload:#}").into(),
        received_at: at.plus_seconds(1),
    })
    .unwrap()
}

/// Two devices, an hour and a half, in batches of seven.
fn messages() -> Vec<Message> {
    (0..90).flat_map(|n| [message("a", n), message("b", n)]).collect()
}

async fn put(memory: &MemoryStores, layout: Layout, messages: &[Message]) {
    for batch in messages.chunks(7) {
        for object in pack(layout, &batch.iter().collect::<Vec<_>>()) {
            Archive::put(memory, &object.key, "x", object.body).await.unwrap();
        }
    }
}

async fn archive_with_messages(layout: Layout) -> MemoryStores {
    let memory = MemoryStores::new();
    put(&memory, layout, &messages()).await;
    memory
}

fn replay(memory: &MemoryStores) -> Replay<MemoryStores> {
    Replay { stores: memory.clone(), policy: DevicePolicy::default(), ttl_days: None }
}

/// Replays from `progress` to the end.
async fn run_to_end(
    replay: &Replay<MemoryStores>,
    scope: &ReplayScope,
    progress: &mut ReplayProgress,
) -> Result<(), StoreError> {
    while progress.cursor != ArchiveCursor::Done {
        *progress = replay.step(scope, progress, now()).await?;
    }
    Ok(())
}

async fn replay_all(memory: &MemoryStores, scope: &ReplayScope) -> ReplayCounts {
    let mut progress = ReplayProgress::default();
    run_to_end(&replay(memory), scope, &mut progress).await.unwrap();
    progress.counts
}

/// The parts that ingest would have stored of messages of a device, each with a place in the archive.
fn expected_segments(messages: &[Message], device: &str) -> Vec<MessageSegment> {
    let place = archive::Location { object: String::new(), member: None };
    let of_device = messages.iter().filter(|m| m.device_id.as_str() == device);
    let segments = of_device.flat_map(|m| segments::split(m, place.clone(), None, |_| true));
    let mut segments: Vec<_> = segments.map(without_location).collect();
    segments.sort_by_key(MessageSegment::position);
    segments
}

/// Sizes are those of the archived payload, which has no line breaks at its end.
fn without_location(segment: MessageSegment) -> MessageSegment {
    let place = archive::Location { object: String::new(), member: None };
    MessageSegment {
        index_entry: segment.index_entry.map(|index_entry| IndexEntry {
            location: place,
            size: 0,
            ..index_entry
        }),
        ..segment
    }
}

fn stored_segments(memory: &MemoryStores, device: &str) -> Vec<MessageSegment> {
    memory.segments(&id(device)).into_iter().map(without_location).collect()
}

#[tokio::test]
async fn index_and_metrics_are_what_they_were_from_either_layout_and_twice_is_once() {
    for layout in [Layout::Batch, Layout::Message] {
        let memory = archive_with_messages(layout).await;
        let counts = replay_all(&memory, &full_scope()).await;
        assert_eq!((counts.messages, counts.points, counts.invalid), (180, 180 * 4, 0));
        for _ in 0..2 {
            for device in ["a", "b"] {
                assert_eq!(
                    stored_segments(&memory, device),
                    expected_segments(&messages(), device),
                    "{layout:?}"
                );
                let state = memory.state(&id(device)).unwrap();
                let latest = state.latest.values().map(|p| (p.key.metric.as_str(), p.value));
                let wanted = [
                    ("active_power", 178.0),
                    ("current_dc", 2.0),
                    ("pf", 1.0),
                    ("voltage_dc", 89.0),
                ];
                assert_eq!(latest.collect::<Vec<_>>(), wanted);
                let noted = state.pending_rollups.due(now().plus_seconds(3_600));
                assert!(
                    noted.count() > 0 && state.next_check.is_some(),
                    "hours are to be rolled up"
                );
                assert_eq!(state.presence, Default::default(), "nobody was there");
            }
            replay_all(&memory, &full_scope()).await;
        }
        for segment in memory.segments(&id("a")) {
            let Some(index_entry) = segment.index_entry else { continue };
            let bytes = Archive::get(&memory, &index_entry.location).await.unwrap().unwrap();
            archive::find_line(&bytes, &index_entry.location, segment.message_id).unwrap();
        }
    }
}

#[tokio::test]
async fn of_a_device_and_a_range_nothing_else_is_touched() {
    for layout in [Layout::Batch, Layout::Message] {
        let memory = archive_with_messages(layout).await;
        let scope = ReplayScope {
            device: Some(id("b")),
            start: t("2026-03-01T12:10:01Z"),
            stop: t("2026-03-01T12:12:01Z"),
        };
        assert_eq!(replay_all(&memory, &scope).await.messages, 2);
        assert_eq!(
            stored_segments(&memory, "b"),
            expected_segments(&[message("b", 40), message("b", 41)], "b")
        );
        assert!(memory.segments(&id("a")).is_empty() && memory.state(&id("a")).is_none());
    }
}

#[tokio::test]
async fn it_may_die_at_any_call_and_the_next_run_makes_it_whole() {
    let mut died = 0;
    for calls in 0.. {
        let memory = archive_with_messages(Layout::Batch).await;
        let replay = replay(&memory);
        let mut progress = ReplayProgress::default();
        memory.fail_all_after(calls);
        let whole = run_to_end(&replay, &full_scope(), &mut progress).await.is_ok();
        memory.clear_faults();
        // What was noted is text, in the store.
        let noted = serde_json::to_string(&progress).unwrap();
        let mut progress: ReplayProgress = serde_json::from_str(&noted).unwrap();
        run_to_end(&replay, &full_scope(), &mut progress).await.unwrap();
        assert_eq!(progress.counts.messages, 180, "{calls}");
        for device in ["a", "b"] {
            assert_eq!(
                stored_segments(&memory, device),
                expected_segments(&messages(), device),
                "{calls}"
            );
        }
        if whole {
            break;
        }
        died += 1;
    }
    assert!(died > 30, "{died}");
}

#[tokio::test]
async fn who_loses_the_lock_reads_and_decides_again() {
    let memory = archive_with_messages(Layout::Batch).await;
    memory.conflict_next(&id("a"));
    assert_eq!(replay_all(&memory, &full_scope()).await.messages, 180);
    assert_eq!(stored_segments(&memory, "a"), expected_segments(&messages(), "a"));
}

#[tokio::test]
async fn a_device_gets_no_more_metrics_than_it_may_have() {
    let memory = archive_with_messages(Layout::Batch).await;
    let other = json!({"v": 2, "device_id": "a", "ts": "2026-03-01T09:00:00Z", "seq": 900,
        "msg_type": "telemetry", "measurements": [{"type": "x", "val": 1}, {"type": "y", "val": 1}]});
    let other = parse(&ReceivedMessage {
        topic: "iot/a/telemetry".to_owned(),
        payload: other.to_string().into(),
        received_at: t("2026-03-01T09:00:00Z"),
    });
    put(&memory, Layout::Batch, &[other.unwrap()]).await;
    let mut replay = replay(&memory);
    replay.policy.max_metrics = 1;
    run_to_end(&replay, &full_scope(), &mut ReplayProgress::default()).await.unwrap();
    let state = memory.state(&id("a")).unwrap();
    let has = |name: &str| state.latest.keys().any(|metric| metric.as_str() == name);
    assert!(has("x") && !has("y"));
    assert_eq!(state.samples_rejected, 0, "that was counted when the message came");
}

#[tokio::test]
async fn what_the_store_would_have_forgotten_is_left_in_the_archive() {
    let memory = archive_with_messages(Layout::Batch).await;
    let mut replay = replay(&memory);
    replay.ttl_days = Some(10);
    let mut progress = ReplayProgress::default();
    run_to_end(&replay, &full_scope(), &mut progress).await.unwrap();
    assert_eq!((progress.counts.messages, progress.counts.expired), (0, 180));
    assert!(memory.segments(&id("a")).is_empty());
}

#[tokio::test]
async fn damage_is_counted_and_holds_nothing_up() {
    let memory = archive_with_messages(Layout::Batch).await;
    let key = "archive/dt=2026-03-01/hh=12/damaged.ndjson.gz";
    Archive::put(&memory, key, "x", Bytes::from_static(b"no gzip")).await.unwrap();
    let counts = replay_all(&memory, &full_scope()).await;
    assert_eq!((counts.messages, counts.invalid), (180, 1));
}

#[tokio::test]
async fn what_a_purge_was_to_remove_does_not_come_back() {
    let memory = archive_with_messages(Layout::Batch).await;
    // A copy of a message that the index did not lead to stays in the archive.
    let bury = |state: &mut DeviceState| {
        state.mark_deleted(t("2026-03-01T12:00:01Z"), true, &DevicePolicy::default())
    };
    optimistic_update::update_state(&memory, &id("a"), bury).await.unwrap();
    let counts = replay_all(&memory, &full_scope()).await;
    // Up to the instant at which it was asked for.
    assert_eq!((counts.messages, counts.purged), (180 - 31, 31));
    let since: Vec<_> = (31..90).map(|n| message("a", n)).collect();
    assert_eq!(stored_segments(&memory, "a"), expected_segments(&since, "a"));
    assert_eq!(stored_segments(&memory, "b"), expected_segments(&messages(), "b"));
}

/// Requests and completes a purge of a device that removes no segments.
async fn purge_state(memory: &MemoryStores, device: &str) {
    let mark = |state: &mut DeviceState| state.mark_deleted(now(), true, &DevicePolicy::default());
    let state = optimistic_update::update_state(memory, &id(device), mark).await.unwrap();
    let since = state.cleanup.unwrap().since;
    let complete = |state: &mut DeviceState| {
        state.record_purged_before(since, Timestamp::min());
        state.complete_cleanup(since, true);
    };
    optimistic_update::update_state(memory, &id(device), complete).await.unwrap();
}

#[tokio::test]
async fn segments_of_a_device_purged_during_a_step_are_removed() {
    let memory = archive_with_messages(Layout::Batch).await;
    let (replay, scope) = (replay(&memory), full_scope());
    let mut progress = ReplayProgress::default();
    {
        let mut run = std::pin::pin!(run_to_end(&replay, &scope, &mut progress));
        // The segments of the first step are stored, the states are not.
        while memory.calls(Operation::PutSegments) == 0 {
            assert!(futures::poll!(run.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        assert_eq!(memory.calls(Operation::SaveStates), 0);
        purge_state(&memory, "a").await;
        run.await.unwrap();
    }
    assert_eq!(memory.segments(&id("a")), []);
    assert_eq!(stored_segments(&memory, "b"), expected_segments(&messages(), "b"));
    assert_eq!((progress.counts.messages, progress.counts.purged), (90, 90));
}
