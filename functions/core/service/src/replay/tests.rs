use bytes::Bytes;
use jiff::civil::Date;
use meter_domain::archive::{Layout, pack};
use meter_domain::message::{Received, parse};
use meter_domain::parts::{Head, PartPosition};
use meter_store::{NotStored, PartQuery};
use meter_testing::memory::{Memory, Operation};
use serde_json::json;

use super::*;
use crate::in_messages::InMessages;

type OfMemory<M> = Replay<Memory, M, InMessages<Memory, Memory, Memory>, Memory>;

fn t(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn now() -> Timestamp {
    t("2026-06-01T00:00:00Z")
}

fn id(device: &str) -> DeviceId {
    DeviceId::parse(device).unwrap()
}

fn everything() -> Scope {
    Scope { device: None, start: Timestamp::EPOCH, stop: now() }
}

/// The `n`-th reading of a device, one a minute.
fn reading(device: &str, n: i64) -> Message {
    let at = t("2026-03-01T11:30:00Z").plus_seconds(60 * n);
    let payload = json!({"v": 2, "device_id": device, "ts": at, "seq": n, "msg_type": "telemetry",
        "measurements": [
            {"type": "voltage_dc", "val": n}, {"type": "current_dc", "val": 2},
            {"type": "pf", "val": 1, "ts": "2026-03-01T00:00:00Z"}]});
    parse(&Received {
        topic: format!("iot/{device}/telemetry"),
        payload: format!("{payload:#}").into(),
        received_at: at.plus_seconds(1),
    })
    .unwrap()
}

/// Two devices, an hour and a half, in batches of seven.
fn readings() -> Vec<Message> {
    (0..90).flat_map(|n| [reading("a", n), reading("b", n)]).collect()
}

async fn put(memory: &Memory, layout: Layout, messages: &[Message]) {
    for batch in messages.chunks(7) {
        for object in pack(layout, &batch.iter().collect::<Vec<_>>()) {
            Archive::put(memory, &object.key, "x", object.body).await.unwrap();
        }
    }
}

async fn archived(layout: Layout) -> Memory {
    let memory = Memory::new();
    put(&memory, layout, &readings()).await;
    memory
}

fn replay_into<M>(memory: &Memory, messages: M) -> OfMemory<M> {
    Replay {
        archive: memory.clone(),
        messages,
        metrics: InMessages::of_one(memory, 300),
        states: memory.clone(),
        rules: Rules::default(),
        ttl_days: None,
    }
}

/// From where `progress` is to the end.
async fn go_on<M: MessageStore>(
    replay: &OfMemory<M>,
    scope: &Scope,
    progress: &mut Progress,
) -> Result<(), StoreError> {
    while progress.walk != Walk::Done {
        *progress = replay.step(scope, progress, now()).await?;
    }
    Ok(())
}

async fn replayed(memory: &Memory, scope: &Scope) -> Counts {
    let mut progress = Progress::default();
    go_on(&replay_into(memory, memory.clone()), scope, &mut progress).await.unwrap();
    progress.counts
}

/// The parts that ingest would have stored of messages of a device, each with a place in the archive.
fn wanted(messages: &[Message], device: &str) -> Vec<Part> {
    let place = archive::Location { object: String::new(), member: None };
    let of_device = messages.iter().filter(|m| m.device_id.as_str() == device);
    let parts = of_device.flat_map(|m| parts::cut(m, place.clone(), None, |_| true));
    let mut parts: Vec<_> = parts.map(without_place).collect();
    parts.sort_by_key(Part::position);
    parts
}

/// Sizes are those of the archived payload, which has no line breaks at its end.
fn without_place(part: Part) -> Part {
    let place = archive::Location { object: String::new(), member: None };
    Part { head: part.head.map(|head| Head { location: place, size: 0, ..head }), ..part }
}

fn found(memory: &Memory, device: &str) -> Vec<Part> {
    memory.parts(&id(device)).into_iter().map(without_place).collect()
}

#[tokio::test]
async fn index_and_metrics_are_what_they_were_from_either_layout_and_twice_is_once() {
    for layout in [Layout::Batch, Layout::Message] {
        let memory = archived(layout).await;
        let counts = replayed(&memory, &everything()).await;
        assert_eq!((counts.messages, counts.points, counts.unreadable), (180, 180 * 4, 0));
        for _ in 0..2 {
            for device in ["a", "b"] {
                assert_eq!(found(&memory, device), wanted(&readings(), device), "{layout:?}");
                let state = memory.state(&id(device)).unwrap();
                let latest = state.latest.values().map(|p| (p.key.metric.as_str(), p.value));
                let wanted = [
                    ("active_power", 178.0),
                    ("current_dc", 2.0),
                    ("pf", 1.0),
                    ("voltage_dc", 89.0),
                ];
                assert_eq!(latest.collect::<Vec<_>>(), wanted);
                let noted = state.unrolled.due(now().plus_seconds(3_600));
                assert!(noted.count() > 0 && state.due.is_some(), "hours are to be rolled up");
                assert_eq!(state.presence, Default::default(), "nobody was there");
            }
            replayed(&memory, &everything()).await;
        }
        for part in memory.parts(&id("a")) {
            let Some(head) = part.head else { continue };
            let bytes = Archive::get(&memory, &head.location).await.unwrap().unwrap();
            archive::find_line(&bytes, &head.location, part.mid).unwrap();
        }
    }
}

#[tokio::test]
async fn of_a_device_and_a_range_nothing_else_is_touched() {
    for layout in [Layout::Batch, Layout::Message] {
        let memory = archived(layout).await;
        let scope = Scope {
            device: Some(id("b")),
            start: t("2026-03-01T12:10:01Z"),
            stop: t("2026-03-01T12:12:01Z"),
        };
        assert_eq!(replayed(&memory, &scope).await.messages, 2);
        assert_eq!(found(&memory, "b"), wanted(&[reading("b", 40), reading("b", 41)], "b"));
        assert!(memory.parts(&id("a")).is_empty() && memory.state(&id("a")).is_none());
    }
}

#[tokio::test]
async fn it_may_die_at_any_call_and_the_next_run_makes_it_whole() {
    let mut died = 0;
    for calls in 0.. {
        let memory = archived(Layout::Batch).await;
        let replay = replay_into(&memory, memory.clone());
        let mut progress = Progress::default();
        memory.fail_all_after(calls);
        let whole = go_on(&replay, &everything(), &mut progress).await.is_ok();
        memory.heal();
        // What was noted is text, in the store.
        let noted = serde_json::to_string(&progress).unwrap();
        let mut progress: Progress = serde_json::from_str(&noted).unwrap();
        go_on(&replay, &everything(), &mut progress).await.unwrap();
        assert_eq!(progress.counts.messages, 180, "{calls}");
        for device in ["a", "b"] {
            assert_eq!(found(&memory, device), wanted(&readings(), device), "{calls}");
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
    let memory = archived(Layout::Batch).await;
    memory.conflict_next(&id("a"));
    assert_eq!(replayed(&memory, &everything()).await.messages, 180);
    assert_eq!(found(&memory, "a"), wanted(&readings(), "a"));
}

#[tokio::test]
async fn a_device_gets_no_more_metrics_than_it_may_have() {
    let memory = archived(Layout::Batch).await;
    let other = json!({"v": 2, "device_id": "a", "ts": "2026-03-01T09:00:00Z", "seq": 900,
        "msg_type": "telemetry", "measurements": [{"type": "x", "val": 1}, {"type": "y", "val": 1}]});
    let other = parse(&Received {
        topic: "iot/a/telemetry".to_owned(),
        payload: other.to_string().into(),
        received_at: t("2026-03-01T09:00:00Z"),
    });
    put(&memory, Layout::Batch, &[other.unwrap()]).await;
    let mut replay = replay_into(&memory, memory.clone());
    replay.rules.max_metrics = 1;
    go_on(&replay, &everything(), &mut Progress::default()).await.unwrap();
    let state = memory.state(&id("a")).unwrap();
    let has = |name: &str| state.latest.keys().any(|metric| metric.as_str() == name);
    assert!(has("x") && !has("y"));
    assert_eq!(state.metrics_refused, 0, "that was counted when the message came");
}

#[tokio::test]
async fn what_the_store_would_have_forgotten_is_left_in_the_archive() {
    let memory = archived(Layout::Batch).await;
    let mut replay = replay_into(&memory, memory.clone());
    replay.ttl_days = Some(10);
    let mut progress = Progress::default();
    go_on(&replay, &everything(), &mut progress).await.unwrap();
    assert_eq!((progress.counts.messages, progress.counts.expired), (0, 180));
    assert!(memory.parts(&id("a")).is_empty());
}

#[tokio::test]
async fn damage_is_counted_and_holds_nothing_up() {
    let memory = archived(Layout::Batch).await;
    let key = "archive/dt=2026-03-01/hh=12/damaged.ndjson.gz";
    Archive::put(&memory, key, "x", Bytes::from_static(b"no gzip")).await.unwrap();
    let counts = replayed(&memory, &everything()).await;
    assert_eq!((counts.messages, counts.unreadable), (180, 1));
}

#[tokio::test]
async fn what_a_purge_was_to_remove_does_not_come_back() {
    let memory = archived(Layout::Batch).await;
    // A copy of a message that the index did not lead to stays in the archive.
    let bury =
        |state: &mut DeviceState| state.bury(t("2026-03-01T12:00:01Z"), true, &Rules::default());
    lock::change_state(&memory, &id("a"), bury).await.unwrap();
    let counts = replayed(&memory, &everything()).await;
    // Up to the instant at which it was asked for.
    assert_eq!((counts.messages, counts.purged), (180 - 31, 31));
    let since: Vec<_> = (31..90).map(|n| reading("a", n)).collect();
    assert_eq!(found(&memory, "a"), wanted(&since, "a"));
    assert_eq!(found(&memory, "b"), wanted(&readings(), "b"));
}

/// The index of a system in which, after the first write to it, a purge of device `a` is asked for and done.
struct PurgedMeanwhile(Memory);

impl MessageStore for PurgedMeanwhile {
    async fn put(&self, parts: &[Part]) -> Result<(), NotStored> {
        let first = self.0.calls(Operation::PutParts) == 0;
        MessageStore::put(&self.0, parts).await?;
        if first {
            let bury = |state: &mut DeviceState| state.bury(now(), true, &Rules::default());
            let state = lock::change_state(&self.0, &id("a"), bury).await.unwrap();
            let since = state.sweep.unwrap().since;
            // It looks before what was just written is seen, so it removes nothing of that.
            let swept = |state: &mut DeviceState| {
                state.purged(since, Timestamp::min());
                state.swept(since, true);
            };
            lock::change_state(&self.0, &id("a"), swept).await.unwrap();
        }
        Ok(())
    }

    async fn days(&self, device_id: &DeviceId) -> Result<Vec<Date>, StoreError> {
        self.0.days(device_id).await
    }

    async fn read(&self, query: &PartQuery) -> Result<(Vec<Part>, bool), StoreError> {
        self.0.read(query).await
    }

    async fn remove(&self, id: &DeviceId, parts: &[PartPosition]) -> Result<(), StoreError> {
        MessageStore::remove(&self.0, id, parts).await
    }

    async fn head(
        &self,
        id: &DeviceId,
        ts: Timestamp,
        mid: Mid,
    ) -> Result<Option<Head>, StoreError> {
        self.0.head(id, ts, mid).await
    }
}

#[tokio::test]
async fn a_purge_in_the_middle_of_a_step_has_the_last_word() {
    let memory = archived(Layout::Batch).await;
    let replay = replay_into(&memory, PurgedMeanwhile(memory.clone()));
    let mut progress = Progress::default();
    go_on(&replay, &everything(), &mut progress).await.unwrap();
    assert_eq!(memory.parts(&id("a")), []);
    assert_eq!(found(&memory, "b"), wanted(&readings(), "b"));
    assert_eq!((progress.counts.messages, progress.counts.purged), (90, 90));
}
