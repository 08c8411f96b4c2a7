use bytes::Bytes;
use meter_domain::archive::{Layout, pack};
use meter_domain::message::{Message, ReceivedMessage, parse};
use meter_domain::segments::{IndexEntry, MessageSegment};
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

/// The `n`-th message of a device, one a minute.
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

/// The segments of the messages of a device, without their locations.
fn expected_segments(messages: &[Message], device: &str) -> Vec<MessageSegment> {
    let place = archive::Location { object: String::new(), member: None };
    let of_device = messages.iter().filter(|m| m.device_id.as_str() == device);
    let segments = of_device.flat_map(|m| segments::split(m, place.clone(), None, |_| true));
    let mut segments: Vec<_> = segments.map(without_location).collect();
    segments.sort_by_key(MessageSegment::position);
    segments
}

/// The archived payload has another size, because its whitespace is removed.
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
async fn repeated_replay_of_either_layout_restores_index_and_metrics() {
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
                let expected = [
                    ("active_power", 178.0),
                    ("current_dc", 2.0),
                    ("pf", 1.0),
                    ("voltage_dc", 89.0),
                ];
                assert_eq!(latest.collect::<Vec<_>>(), expected);
                let pending = state.pending_rollups.due(now().plus_seconds(3_600));
                assert!(pending.count() > 0 && state.next_check.is_some(), "hours are pending");
                assert_eq!(state.presence, Default::default(), "a replay is no activity");
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
async fn scope_limits_the_replay_to_a_device_and_a_range() {
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
async fn interrupted_replay_is_completed_by_the_next_run() {
    let mut interrupted = 0;
    for calls in 0.. {
        let memory = archive_with_messages(Layout::Batch).await;
        let replay = replay(&memory);
        let mut progress = ReplayProgress::default();
        memory.fail_all_after(calls);
        let is_complete = run_to_end(&replay, &full_scope(), &mut progress).await.is_ok();
        memory.clear_faults();
        // The progress is stored as JSON.
        let stored = serde_json::to_string(&progress).unwrap();
        let mut progress: ReplayProgress = serde_json::from_str(&stored).unwrap();
        run_to_end(&replay, &full_scope(), &mut progress).await.unwrap();
        assert_eq!(progress.counts.messages, 180, "{calls}");
        for device in ["a", "b"] {
            assert_eq!(
                stored_segments(&memory, device),
                expected_segments(&messages(), device),
                "{calls}"
            );
        }
        if is_complete {
            break;
        }
        interrupted += 1;
    }
    assert!(interrupted > 30, "{interrupted}");
}

#[tokio::test]
async fn version_conflict_repeats_the_replay_of_a_device() {
    let memory = archive_with_messages(Layout::Batch).await;
    memory.conflict_next(&id("a"));
    assert_eq!(replay_all(&memory, &full_scope()).await.messages, 180);
    assert_eq!(stored_segments(&memory, "a"), expected_segments(&messages(), "a"));
}

#[tokio::test]
async fn metric_limit_applies_to_a_replay() {
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
    assert_eq!(
        state.samples_rejected, 0,
        "rejected samples were counted when the message was ingested"
    );
}

#[tokio::test]
async fn expired_messages_are_not_stored() {
    let memory = archive_with_messages(Layout::Batch).await;
    let mut replay = replay(&memory);
    replay.ttl_days = Some(10);
    let mut progress = ReplayProgress::default();
    run_to_end(&replay, &full_scope(), &mut progress).await.unwrap();
    assert_eq!((progress.counts.messages, progress.counts.expired), (0, 180));
    assert!(memory.segments(&id("a")).is_empty());
}

#[tokio::test]
async fn invalid_object_is_counted_and_skipped() {
    let memory = archive_with_messages(Layout::Batch).await;
    let key = "archive/dt=2026-03-01/hh=12/damaged.ndjson.gz";
    Archive::put(&memory, key, "x", Bytes::from_static(b"no gzip")).await.unwrap();
    let counts = replay_all(&memory, &full_scope()).await;
    assert_eq!((counts.messages, counts.invalid), (180, 1));
}

#[tokio::test]
async fn messages_received_before_a_purge_are_not_stored() {
    let memory = archive_with_messages(Layout::Batch).await;
    // The archive still contains copies that the index does not reference.
    let mark = |state: &mut DeviceState| {
        state.mark_deleted(t("2026-03-01T12:00:01Z"), true, &DevicePolicy::default())
    };
    optimistic_update::update_state(&memory, &id("a"), mark).await.unwrap();
    let counts = replay_all(&memory, &full_scope()).await;
    // Received up to the time of the request.
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
