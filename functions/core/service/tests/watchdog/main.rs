//! The scheduled checks on in-memory stores.

#![allow(clippy::unwrap_used, reason = "a test fails where a result is missing")]

mod commands;
mod devices;
mod maintenance;

use bytes::Bytes;
use meter_domain::alert::{Alert, Severity};
use meter_domain::archive::Location;
use meter_domain::command::{Command, CommandKind, CommandStatus, OtaState};
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{DeviceId, MessageId, new_id};
use meter_domain::message::{Category, ReceivedMessage, parse};
use meter_domain::metric::MetricName;
use meter_domain::rule::{Condition, Rule, RuleSet, Scope};
use meter_domain::segments::{IndexEntry, MessageSegment};
use meter_domain::state::{Connection, DevicePolicy, DeviceState, Effect, NotificationPolicy};
use meter_domain::time::Timestamp;
use meter_service::recount::recount;
use meter_service::rule_cache::RuleCache;
use meter_service::watchdog::{Watchdog, WatchdogReport};
use meter_service::{effects, optimistic_update};
use meter_store::{
    AlertStore, CommandStore, DeviceStore, IngestLag, IngestLagStore, MessageStore, RuleStore,
    StateStore, StateWrite,
};
use meter_testing::memory::{Fault, MemoryStores, Operation};
use serde_json::{Map, Value, json};
use uuid::Uuid;

fn second(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1_000).unwrap()
}

fn id(device: &str) -> DeviceId {
    DeviceId::parse(device).unwrap()
}

/// Without rollups, which make devices due as well.
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

fn watchdog(memory: &MemoryStores, queue_depth: u64) -> Watchdog<MemoryStores> {
    memory.set_depth(queue_depth);
    Watchdog {
        stores: memory.clone(),
        alert_rules: RuleCache::new(60),
        policy: POLICY,
        rollup_ttl_days: None,
    }
}

async fn run(memory: &MemoryStores, s: i64) -> WatchdogReport {
    watchdog(memory, 0).run(second(s)).await.unwrap()
}

async fn register(memory: &MemoryStores, device: &str, config: Value) {
    let row = Device {
        id: new_id(second(0)),
        device_id: id(device),
        device_name: device.to_owned(),
        device_type: None,
        location: None,
        status: DeviceStatus::Active,
        metadata: Map::new(),
        config: config.as_object().unwrap().clone(),
        command_key: None,
        claimable: false,
        claimed_by: None,
        created_at: second(0),
        updated_at: second(0),
        revision: 0,
    };
    let mut state = optimistic_update::read_state(memory, &row.device_id).await.unwrap();
    state.register(second(0), &POLICY);
    DeviceStore::create(memory, &row, &state).await.unwrap();
}

/// Requests the delete of a device.
async fn delete(memory: &MemoryStores, device: &str, s: i64, purge: bool) {
    let row = DeviceStore::get(memory, &id(device)).await.unwrap().unwrap();
    let mut state = optimistic_update::read_state(memory, &id(device)).await.unwrap();
    state.mark_deleted(second(s), purge, &POLICY);
    memory.create_tombstone(&row, &state).await.unwrap();
}

/// Receives a telemetry message of a device at second `s`.
async fn receive_telemetry(memory: &MemoryStores, device: &str, s: i64, seq: u32) {
    let payload = json!({"v": 2, "device_id": device, "ts": second(s), "seq": seq, "boot": 1,
        "msg_type": "telemetry", "measurements": [{"type": "pf", "val": 1}]});
    receive_message(memory, "telemetry", s, payload).await;
}

/// Receives a message on a topic of its device.
async fn receive_message(memory: &MemoryStores, suffix: &str, s: i64, payload: Value) {
    let device = payload["device_id"].as_str().unwrap();
    let message = parse(&ReceivedMessage {
        topic: format!("iot/{device}/{suffix}"),
        payload: payload.to_string().into(),
        received_at: second(s),
    })
    .unwrap();
    let all = memory.all().await.unwrap();
    let set = RuleSet::new(all.rules, all.generation);
    let apply = |state: &mut DeviceState| {
        let known = state.latest.clone();
        state.apply(&[&message], &POLICY);
        state.evaluate(&[&message], &known, &set, &POLICY);
    };
    let state = optimistic_update::update_state(memory, &id(device), apply).await.unwrap();
    effects::dispatch_due_effects(memory, state, second(s), &POLICY).await.unwrap();
}

fn connection(memory: &MemoryStores, device: &str) -> Connection {
    memory.state(&id(device)).unwrap().presence.connection
}

fn command(cmd: CommandKind, created_s: i64) -> Command {
    Command {
        cmd_id: new_id(second(created_s)),
        device_id: id("m"),
        cmd,
        params: Map::new(),
        status: CommandStatus::Pending,
        ack_detail: None,
        created_at: second(created_s),
        published_at: None,
        acked_at: None,
        expires_at: second(created_s + 300),
        ota: None,
    }
}

async fn status_of(memory: &MemoryStores, command: &Command) -> CommandStatus {
    CommandStore::get(memory, &command.device_id, command.cmd_id).await.unwrap().unwrap().status
}
