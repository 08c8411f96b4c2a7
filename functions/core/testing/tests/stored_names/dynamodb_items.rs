//! Items, and attributes and indexes in expressions, of the requests of every DynamoDB adapter.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use meter_aws::settings::Tables;
use meter_aws::{Clients, dynamodb};
use meter_domain::aggregate::Summary;
use meter_domain::alert::AlertRevision;
use meter_domain::command::{AckResult, CommandKind};
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::message::Category;
use meter_domain::segments::{IndexEntry, MessageSegment};
use meter_domain::state::{Connection, DeviceState};
use meter_store::{
    AlertFilter, AlertStore, BucketQuery, CommandStore, DeviceFilter, DeviceStore, HourRollup,
    IdempotencyKey, IngestLag, IngestLagStore, MessageStore, Order, PageRequest, QuarantineEntry,
    QuarantineStore, RollupBucket, RollupLevel, RollupStore, RuleStore, SegmentQuery, StateStore,
    StateWrite,
};
use serde_json::{Value, json};

use crate::device_state::state;
use crate::examples::{
    alert, command, device, device_id, location, message_id, metric, ota, rule, sample, second,
    uuid,
};
use crate::fake_server::{Call, FakeServer};

const PAGE: PageRequest = PageRequest { limit: 10, after: None };

pub(crate) async fn lines() -> Vec<String> {
    let puts: Arc<Mutex<Vec<Value>>> = Arc::default();
    let fake_server = FakeServer::start(move |_, call| (200, respond(&puts, call))).await;
    let clients = Clients::for_emulator(&fake_server.url).await;
    let name = |name: &str| name.to_owned();
    let tables = Tables {
        devices: name("devices"),
        state: name("state"),
        messages: name("messages"),
        alerts: name("alerts"),
        commands: name("commands"),
        rules: name("rules"),
    };
    use_states(&dynamodb::States::new(&clients, &tables)).await;
    use_devices(&dynamodb::Devices::new(&clients, &tables)).await;
    use_messages(&dynamodb::Messages::new(&clients, &tables)).await;
    use_alerts(&dynamodb::Alerts::new(&clients, &tables)).await;
    use_commands(&dynamodb::Commands::new(&clients, &tables)).await;
    use_rules(&dynamodb::AlertRules::new(&clients, &tables)).await;
    use_tombstones(&dynamodb::Devices::new(&clients, &tables)).await;
    let blocks: BTreeSet<String> = fake_server.calls().iter().flat_map(describe).collect();
    blocks.iter().flat_map(|block| block.lines()).map(str::to_owned).collect()
}

/// Returns items that an earlier transaction put, by key or by an index of ids, and success for
/// every write.
fn respond(puts: &Mutex<Vec<Value>>, call: &Call) -> Value {
    let mut puts = puts.lock().unwrap();
    let actions = call.body["TransactItems"].as_array().into_iter().flatten();
    puts.extend(actions.map(|action| action["Put"].clone()));
    match call.operation.as_str() {
        "GetItem" => {
            let (table, key) = (&call.body["TableName"], call.body["Key"].as_object().unwrap());
            let found = puts.iter().rev().find(|put| {
                put["TableName"] == *table && key.iter().all(|(k, v)| put["Item"][k] == *v)
            });
            found.map_or_else(|| json!({}), |put| json!({"Item": put["Item"]}))
        }
        "Query" if ["by-time", "by-id"].iter().any(|name| call.body["IndexName"] == *name) => {
            let table = &call.body["TableName"];
            let last = puts
                .iter()
                .rev()
                .find(|put| put["TableName"] == *table && put["Item"]["ttl"].is_null());
            json!({"Items": Vec::from_iter(last.map(|put| &put["Item"]))})
        }
        "BatchExecuteStatement" => {
            let statements = call.body["Statements"].as_array().unwrap();
            json!({"Responses": Vec::from_iter(statements.iter().map(|_| json!({})))})
        }
        _ => json!({}),
    }
}

async fn use_states(states: &dynamodb::States) {
    let write = |id: &str, version, before: Connection| {
        let device_id = meter_domain::id::DeviceId::parse(id).unwrap();
        let state = DeviceState {
            device_id,
            version,
            device_type: Some("power_meter_dc".to_owned()),
            ..state()
        };
        StateWrite { connection_before: before, state }
    };
    let online = Connection::Online;
    for writes in [
        vec![write("m", 0, online)],
        vec![write("m", 0, online), write("n", 1, online)],
        vec![write("m", 1, Connection::Offline)],
    ] {
        states.save_many(&writes).await.into_iter().for_each(Result::unwrap);
    }
    states.get_many(&[device_id()]).await.unwrap();
    states.list_due(second(0), 1).await.unwrap();
    let lag = IngestLag { process_id: uuid(9), reported_at: second(0), lag_s: 1 };
    states.record_ingest_lag(lag).await.unwrap();
    states.ingest_lag(second(0)).await.unwrap();
}

async fn use_devices(devices: &dynamodb::Devices) {
    let (before, state) = (device(), state());
    devices.create(&before, &state).await.unwrap();
    let after = Device { status: DeviceStatus::Inactive, device_type: None, ..before.clone() };
    devices.update(&before, &after).await.unwrap();
    let typed = Device { device_type: Some("other".to_owned()), ..before.clone() };
    devices.update(&before, &typed).await.unwrap();
    let renamed = Device { device_name: "other".to_owned(), ..before.clone() };
    devices.update(&before, &renamed).await.unwrap();
    for id_prefix in [None, Some("m".to_owned())] {
        let filter = DeviceFilter { id_prefix, ..DeviceFilter::default() };
        devices.list(&filter, &PAGE).await.unwrap();
    }
    devices.counts().await.unwrap();
}

async fn use_tombstones(devices: &dynamodb::Devices) {
    devices.create_tombstone(&device(), &state()).await.unwrap();
    devices.remove_tombstone(&device_id(), second(0)).await.unwrap();
}

async fn use_messages(messages: &dynamodb::Messages) {
    let index_entry = IndexEntry {
        category: Category::Telemetry,
        received_at: second(2),
        size: 123,
        location: location(),
    };
    let first = MessageSegment {
        device_id: device_id(),
        message_id: message_id(),
        ts: second(1),
        index_entry: Some(index_entry),
        envelope_ts: second(600),
        samples: vec![sample("voltage_dc", 0), sample("voltage_dc", 1)],
        ttl: Some(second(90_000).as_seconds()),
    };
    let continuation =
        MessageSegment { index_entry: None, ttl: None, ts: second(300), ..first.clone() };
    messages.put(&[first, continuation]).await.unwrap();
    messages.days(&device_id()).await.unwrap();
    let query = SegmentQuery {
        device_id: device_id(),
        day: second(0).day(),
        from: second(0),
        to: second(9),
        order: Order::Ascending,
        after: None,
        limit: 10,
        consistent: true,
    };
    messages.read(&query).await.unwrap();
    let entry = QuarantineEntry {
        message_id: message_id(),
        topic: "topic".to_owned(),
        received_at: second(2),
        reason: "reason".to_owned(),
        size: 1,
        location: location(),
    };
    messages.put_quarantined(&[entry]).await.unwrap();
    messages.list_quarantined(&PAGE).await.unwrap();

    let bucket = RollupBucket {
        start: second(0),
        summary: Summary::of(second(1), 1.5),
        unit: Some("V".to_owned()),
    };
    let rollup = HourRollup {
        device_id: device_id(),
        metric: metric("voltage_dc"),
        hour: bucket.clone(),
        minutes: vec![bucket],
        generation: 1,
        points_expire_at: Some(second(90_000).as_seconds()),
        ttl: Some(second(90_000).as_seconds()),
    };
    messages.put_rollup(&rollup, second(0)).await.unwrap();
    let query = BucketQuery {
        device_id: device_id(),
        metric: metric("voltage_dc"),
        level: RollupLevel::Hour,
        from: second(0),
        to: second(3_600),
        limit: 10,
    };
    messages.buckets(&query).await.unwrap();
}

async fn use_alerts(alerts: &dynamodb::Alerts) {
    let alert = alert();
    let key = IdempotencyKey("key".to_owned());
    alerts.open(&alert, Some(&key)).await.unwrap();
    let open = meter_domain::alert::Alert { acknowledged: false, ..alert.clone() };
    alerts.open(&open, None).await.unwrap();
    alerts.list(&AlertFilter::default(), &PAGE).await.unwrap();
    let of_device =
        AlertFilter { device_id: Some(alert.device_id.clone()), ..AlertFilter::default() };
    alerts.list(&of_device, &PAGE).await.unwrap();
    alerts.acknowledge(alert.alert_id, Some("user"), second(2)).await.unwrap();
    let revision = AlertRevision {
        state_version: 1,
        resolved_at: Some(second(3)),
        message: Some("text".to_owned()),
    };
    alerts.revise(&alert.device_id, alert.alert_id, &revision).await.unwrap();
    alerts.count_unacknowledged().await.unwrap();
}

async fn use_commands(commands: &dynamodb::Commands) {
    for kind in [CommandKind::UpdateConfig, CommandKind::StartOta] {
        let command = command(kind);
        let (device_id, cmd_id) = (&command.device_id, command.cmd_id);
        let key = IdempotencyKey("key".to_owned());
        commands.create(&command, Some(&key)).await.unwrap();
        commands.claim(device_id, cmd_id, second(1)).await.unwrap();
        commands.postpone(device_id, cmd_id, second(1)).await.unwrap();
        commands.mark_published(device_id, cmd_id, second(1)).await.unwrap();
        commands.time_out(device_id, cmd_id).await.unwrap();
        commands.find_device(cmd_id).await.unwrap();
        commands.list_due(second(1), 1).await.unwrap();
        commands.list(device_id, None, &PAGE).await.unwrap();
        let detail = Some("text");
        let result = AckResult::Accepted;
        commands
            .record_acknowledgement(device_id, cmd_id, result, detail, second(1))
            .await
            .unwrap();
        let further = meter_domain::command::Ota { progress_pct: Some(60.0), ..ota() };
        commands.advance_ota(device_id, cmd_id, &further).await.unwrap();
    }
}

async fn use_rules(rules: &dynamodb::AlertRules) {
    let rule = rule();
    rules.create(&rule).await.unwrap();
    rules.replace(&rule).await.unwrap();
    rules.list(&PAGE).await.unwrap();
    rules.remove(rule.rule_id, 1).await.unwrap();
    rules.all().await.unwrap();
}

/// Describes the parts of a request in blocks, each with a heading and indented lines.
fn describe(call: &Call) -> Vec<String> {
    let body = &call.body;
    let actions = body["TransactItems"].as_array().into_iter().flatten();
    let requests = actions.flat_map(|action| action.as_object().unwrap().values());
    let mut blocks: Vec<_> = requests.chain([body]).filter_map(describe_request).collect();
    for (table, requests) in body["RequestItems"].as_object().into_iter().flatten() {
        let puts = requests.as_array().into_iter().flatten();
        blocks.extend(puts.map(|put| describe_item(table, &put["PutRequest"]["Item"])));
        let keys = requests["Keys"].as_array().into_iter().flatten();
        blocks.extend(keys.map(|key| format!("key in {table}: {}", without_shard(key))));
    }
    let statements = body["Statements"].as_array().into_iter().flatten();
    blocks.extend(statements.map(|statement| statement["Statement"].as_str().unwrap().to_owned()));
    blocks
}

/// The text of a key, with `NN` for the shard of a counter.
fn without_shard(key: &Value) -> String {
    let text = key.to_string();
    let prefix =
        ["#stats#", "#ingest#"].into_iter().find_map(|name| Some((name, text.find(name)?)));
    let Some((name, start)) = prefix else { return text };
    let shard = start + name.len();
    format!("{}NN{}", &text[..shard], &text[shard + 2..])
}

fn describe_request(request: &Value) -> Option<String> {
    let table = request["TableName"].as_str()?;
    if request["Item"].is_object() {
        return Some(describe_item(table, &request["Item"]));
    }
    let mut attributes = BTreeSet::new();
    if let Some(names) = request["ExpressionAttributeNames"].as_object() {
        attributes.extend(names.values().filter_map(Value::as_str));
    }
    let key = &request["Key"];
    attributes.extend(key.as_object().into_iter().flatten().map(|(name, _)| name.as_str()));
    let values = request["ExpressionAttributeValues"].as_object().into_iter().flatten();
    let maps = values.filter_map(|(_, value)| value["M"].as_object());
    attributes.extend(maps.flatten().map(|(name, _)| name.as_str()));
    let index = request["IndexName"].as_str().map(|name| format!(" index {name}"));
    let attributes: Vec<_> = attributes.into_iter().collect();
    let direct = ["KeyConditionExpression", "ConditionExpression", "ProjectionExpression"];
    let direct: Vec<_> = direct.into_iter().filter_map(|name| request[name].as_str()).collect();
    Some(format!(
        "expressions in {table}{}: {} ({})",
        index.unwrap_or_default(),
        attributes.join(", "),
        direct.join("; ")
    ))
}

fn describe_item(table: &str, item: &Value) -> String {
    let mut attributes: Vec<_> = item.as_object().unwrap().iter().collect();
    attributes.sort_by_key(|(name, _)| *name);
    let lines: Vec<_> = attributes
        .iter()
        .map(|(name, value)| match (table, &name[..]) {
            ("state", "document") => "\n  document = see Device state".to_owned(),
            _ => format!("\n  {name} = {value}"),
        })
        .collect();
    format!("item in {table}:{}", lines.concat())
}
