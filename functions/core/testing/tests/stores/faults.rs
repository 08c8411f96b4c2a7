//! Throttling, unprocessed items, lost responses and transaction conflicts in the adapters to AWS,
//! which the emulators do not produce.

use meter_aws::settings::{ArchiveBucket, Tables};
use meter_aws::{Clients, StoreProbe, dynamodb};
use meter_domain::state::DeviceState;
use meter_store::{
    AlertStore, BatchWriteError, MessageStore, Probe, StateStore, StateWrite, StoreError,
    WriteError, error_chain,
};
use meter_testing::fixtures::{alert, first_segment, id, message_id, sample, second};
use serde_json::{Value, json};

use crate::fake_server::{Call, FakeServer, error_response};

pub(crate) fn tables() -> Tables {
    let name = |name: &str| format!("the-{name}");
    Tables {
        devices: name("devices"),
        state: name("state"),
        messages: name("messages"),
        alerts: name("alerts"),
        commands: name("commands"),
        rules: name("rules"),
    }
}

async fn messages(fake_server: &FakeServer) -> dynamodb::Messages {
    dynamodb::Messages::new(&Clients::for_emulator(&fake_server.url).await, &tables())
}

async fn states(fake_server: &FakeServer) -> dynamodb::States {
    dynamodb::States::new(&Clients::for_emulator(&fake_server.url).await, &tables())
}

/// Returns the put requests of a BatchWriteItem.
fn puts(call: &Call) -> Vec<Value> {
    assert_eq!(call.operation, "BatchWriteItem");
    let requests = call.body["RequestItems"]["the-messages"].as_array().unwrap();
    requests.clone()
}

fn item(put: &Value) -> &Value {
    &put["PutRequest"]["Item"]
}

/// Returns whether a put writes a day item and not a segment.
fn is_day(put: &Value) -> bool {
    !item(put)["pk"]["S"].as_str().unwrap().contains('#')
}

fn unprocessed_items(puts: &[Value]) -> (u16, Value) {
    (200, json!({"UnprocessedItems": {"the-messages": puts}}))
}

fn no_unprocessed_items() -> (u16, Value) {
    (200, json!({"UnprocessedItems": {}}))
}

#[tokio::test]
async fn only_unprocessed_items_are_sent_again() {
    let fake_server = FakeServer::start(|before, call| match before {
        0 => unprocessed_items(&puts(call)[3..]),
        1 => unprocessed_items(&puts(call)[1..]),
        _ => no_unprocessed_items(),
    })
    .await;
    let segments: Vec<_> = (0..4).map(|n| first_segment("m", second(0), n)).collect();
    messages(&fake_server).await.put(&segments).await.unwrap();
    let sent: Vec<_> = fake_server.calls().iter().map(|call| puts(call).len()).collect();
    assert_eq!(sent, [5, 2, 1]);
}

#[tokio::test]
async fn items_that_stay_unprocessed_fail_only_their_messages() {
    let is_failing = |put: &Value| {
        let sk = item(put)["sk"]["S"].as_str().unwrap().to_owned();
        [1, 30].iter().any(|n| sk.contains(&message_id(*n).to_string()))
    };
    let fake_server = FakeServer::start(move |_, call| {
        unprocessed_items(&puts(call).into_iter().filter(is_failing).collect::<Vec<_>>())
    })
    .await;
    let segments: Vec<_> = (0..60).map(|n| first_segment("m", second(0), n)).collect();
    let BatchWriteError { failed, source, .. } =
        messages(&fake_server).await.put(&segments).await.unwrap_err();
    assert_eq!(failed, [message_id(1), message_id(30)].into());
    let text = error_chain(&source);
    assert!(text.contains("dynamodb:BatchWriteItem") && text.contains("unprocessed"), "{text}");
}

#[tokio::test]
async fn throttled_batch_fails_all_messages_with_its_cause() {
    let fake_server = FakeServer::start(|_, _| {
        error_response("ProvisionedThroughputExceededException", json!({}))
    })
    .await;
    let segments = [first_segment("m", second(0), 1), first_segment("n", second(0), 2)];
    let BatchWriteError { failed, source, .. } =
        messages(&fake_server).await.put(&segments).await.unwrap_err();
    assert_eq!(failed, [message_id(1), message_id(2)].into());
    assert!(matches!(source, StoreError::Unavailable { operation: "dynamodb:BatchWriteItem", .. }));
    let text = error_chain(&source);
    assert!(text.contains("ProvisionedThroughputExceeded"), "{text}");
    assert_eq!(fake_server.calls().len(), 4, "number of attempts of the SDK");
}

#[tokio::test]
async fn message_without_its_day_item_fails_and_the_day_is_written_again() {
    let fake_server = FakeServer::start(|before, call| match before {
        0..8 => unprocessed_items(&puts(call).into_iter().filter(is_day).collect::<Vec<_>>()),
        _ => no_unprocessed_items(),
    })
    .await;
    let messages = messages(&fake_server).await;
    let segment = [first_segment("m", second(0), 1)];
    assert_eq!(messages.put(&segment).await.unwrap_err().failed, [message_id(1)].into());
    messages.put(&segment).await.unwrap();
    assert!(puts(fake_server.calls().last().unwrap()).iter().any(is_day));
}

#[tokio::test]
async fn day_item_is_written_once_and_outlives_its_segments() {
    let fake_server = FakeServer::start(|_, _| no_unprocessed_items()).await;
    let messages = messages(&fake_server).await;
    let mut segment = first_segment("m", second(0), 1);
    let put = async |segment: &_| messages.put(std::slice::from_ref(segment)).await.unwrap();
    put(&segment).await;
    put(&segment).await;
    segment.ttl = Some(second(90_000).as_seconds());
    put(&segment).await;
    put(&segment).await;
    let days = fake_server.calls().into_iter().map(|call| puts(&call).into_iter().find(is_day));
    let days: Vec<_> = days.map(|day| day.map(|put| item(&put).clone())).collect();
    let permanent = days[0].as_ref().unwrap();
    assert_eq!((&permanent["sk"]["S"], permanent.get("ttl")), (&json!("2026-01-01"), None));
    let expiring = days[2].as_ref().unwrap();
    assert_eq!(expiring["ttl"]["N"], second(2 * 24 * 3600).as_seconds().to_string());
    assert_eq!((&days[1], &days[3]), (&None, &None));
}

#[tokio::test]
async fn batch_contains_at_most_25_distinct_items() {
    let fake_server = FakeServer::start(|_, _| no_unprocessed_items()).await;
    let segments: Vec<_> = (0..60).map(|n| first_segment("m", second(0), n % 40)).collect();
    messages(&fake_server).await.put(&segments).await.unwrap();
    let mut sizes: Vec<_> = fake_server.calls().iter().map(|call| puts(call).len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [16, 25]);
}

#[tokio::test]
async fn oversized_segment_fails_only_its_message() {
    let fake_server = FakeServer::start(|_, _| no_unprocessed_items()).await;
    let mut large = first_segment("m", second(0), 1);
    large.samples[0].unit = Some("x".repeat(400 * 1024));
    let segments = [large, first_segment("m", second(0), 2)];
    let BatchWriteError { failed, invalid, source } =
        messages(&fake_server).await.put(&segments).await.unwrap_err();
    assert_eq!(failed, [message_id(1)].into());
    assert!(matches!(source, StoreError::Invalid { .. }), "{source:?}");
    let [(id, reason)] = &Vec::from_iter(invalid)[..] else { panic!("one invalid message") };
    assert!(*id == message_id(1) && reason.contains("409600"), "{id} {reason}");
    assert_eq!(puts(&fake_server.calls()[0]).len(), 2, "the other segment and its day");
}

#[tokio::test]
async fn message_of_20_samples_takes_one_write_unit() {
    let fake_server = FakeServer::start(|_, _| no_unprocessed_items()).await;
    let ts = second(299);
    let mut segment = first_segment("depot-17:dc-meter-000001", ts, 1);
    segment.index_entry.as_mut().unwrap().location.object =
        format!("archive/dt=2026-01-01/hh=00/{}.ndjson.gz", message_id(1));
    segment.ttl = Some(ts.as_seconds());
    segment.samples = (0..20)
        .map(|n| {
            let metric = ["voltage_dc", "current_dc"][n % 2];
            let time = second(280 + n as i64 / 2);
            sample(metric, time, 0, 1_500.0 + n as f64 / 7.0)
        })
        .collect();
    messages(&fake_server).await.put(&[segment]).await.unwrap();
    let puts = puts(&fake_server.calls()[0]);
    let stored = item(puts.iter().find(|put| !is_day(put)).unwrap());
    let bytes: usize =
        stored.as_object().unwrap().iter().map(|(name, value)| name.len() + length(value)).sum();
    assert!(bytes < 1_024, "{bytes} bytes: {stored}");
}

/// Returns an upper bound of the size of an attribute by DynamoDB's rules.
fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => 3 + values.iter().map(|value| 1 + length(value)).sum::<usize>(),
        Value::Object(of_type) => of_type.values().map(length).sum(),
        _ => 1,
    }
}

#[tokio::test]
async fn unprocessed_keys_are_read_again() {
    let fake_server = FakeServer::start(|before, call| {
        let request = &call.body["RequestItems"]["the-state"];
        assert_eq!(request["ConsistentRead"], true);
        let keys = request["Keys"].as_array().unwrap();
        let document = json!(serde_json::to_string(&DeviceState::new(id("x"))).unwrap());
        let found = &keys[..keys.len().min(2)];
        let items: Vec<_> = found
            .iter()
            .map(|key| {
                json!({"device_id": key["device_id"], "v": {"N": "1"}, "version": {"N": "7"},
                    "registered": {"BOOL": false}, "document": {"S": document}})
            })
            .collect();
        let rest = &keys[found.len()..];
        let unprocessed = if rest.is_empty() {
            json!({})
        } else {
            json!({"the-state": {"Keys": rest, "ConsistentRead": true}})
        };
        assert!(before < 5);
        (200, json!({"Responses": {"the-state": items}, "UnprocessedKeys": unprocessed}))
    })
    .await;
    let ids: Vec<_> = (0..5).map(|n| id(&format!("m{n}"))).collect();
    states(&fake_server).await.get_many(&ids).await.unwrap();
    assert_eq!(fake_server.calls().len(), 3);
}

fn write(device: &str, version: u64) -> StateWrite {
    let state = DeviceState { version, ..DeviceState::new(id(device)) };
    StateWrite { connection_before: state.presence.connection, state }
}

#[tokio::test]
async fn only_throttled_statements_are_executed_again() {
    let fake_server = FakeServer::start(|before, call| {
        let fails = |code: &str| json!({"Error": {"Code": code, "Message": "no"}});
        let done = json!({"TableName": "the-state"});
        let statements = call.body["Statements"].as_array().unwrap().len();
        let responses = match before {
            0 => json!([
                done,
                fails("ThrottlingError"),
                fails("ConditionalCheckFailed"),
                fails("ValidationError")
            ]),
            _ => json!([done]),
        };
        assert_eq!(responses.as_array().unwrap().len(), statements);
        (200, json!({"Responses": responses}))
    })
    .await;
    let writes = [write("a", 1), write("b", 0), write("c", 2), write("d", 3)];
    let results = states(&fake_server).await.save_many(&writes).await;
    assert!(
        matches!(
            results[..],
            [
                Ok(()),
                Ok(()),
                Err(WriteError::Conflict),
                Err(WriteError::Store(StoreError::Misconfigured { .. }))
            ]
        ),
        "{results:?}"
    );
    let again = fake_server.calls()[1].body["Statements"][0].to_string();
    assert!(again.contains("INSERT") && again.contains("\"b\""), "{again}");
}

#[tokio::test]
async fn oversized_state_fails_alone_with_its_size() {
    let fake_server =
        FakeServer::start(|_, _| (200, json!({"Responses": [{"TableName": "the-state"}]}))).await;
    let mut large = write("a", 1);
    large.state.fw_version = Some("x".repeat(400 * 1024));
    let mut results = states(&fake_server).await.save_many(&[large, write("b", 1)]).await;
    assert!(results.pop().unwrap().is_ok());
    let text = error_chain(&results.pop().unwrap().unwrap_err());
    assert!(text.contains("larger than the 409600"), "{text}");
    assert_eq!(fake_server.calls().len(), 1);
}

#[tokio::test]
async fn failed_batch_of_statements_fails_each_write_with_the_cause() {
    let fake_server =
        FakeServer::start(|_, _| error_response("AccessDeniedException", json!({}))).await;
    let results = states(&fake_server).await.save_many(&[write("a", 1), write("b", 1)]).await;
    assert_eq!(results.len(), 2);
    for result in results {
        let error = result.unwrap_err();
        assert!(matches!(error, WriteError::Store(StoreError::Misconfigured { .. })), "{error:?}");
        let text = error_chain(&error);
        assert!(text.contains("AccessDenied"), "{text}");
    }
}

#[tokio::test]
async fn save_with_lost_response_succeeds() {
    // The first attempt succeeds and its response is lost; the retry of the SDK finds the written
    // item.
    let fake_server = FakeServer::start(|before, call| match before {
        0 => (500, json!({"__type": "InternalServerError", "message": "no"})),
        _ => error_response("ConditionalCheckFailedException", json!({"Item": call.body["Item"]})),
    })
    .await;
    let mut results = states(&fake_server).await.save_many(&[write("m", 3)]).await;
    assert!(results.pop().unwrap().is_ok());
    assert_eq!(fake_server.calls()[1].body["ReturnValuesOnConditionCheckFailure"], "ALL_OLD");
}

#[tokio::test]
async fn save_that_finds_another_state_conflicts() {
    let fake_server = FakeServer::start(|_, call| {
        let mut stored = call.body["Item"].clone();
        stored["document"]["S"] = json!("{}");
        error_response("ConditionalCheckFailedException", json!({"Item": stored}))
    })
    .await;
    let result = states(&fake_server).await.save_many(&[write("m", 3)]).await.pop().unwrap();
    assert!(matches!(result, Err(WriteError::Conflict)), "{result:?}");
}

fn canceled(codes: [&str; 3]) -> (u16, Value) {
    let reasons = codes.map(|code| json!({"Code": code, "Message": "no"}));
    error_response("TransactionCanceledException", json!({"CancellationReasons": reasons}))
}

#[tokio::test]
async fn transaction_conflict_is_retried() {
    let fake_server = FakeServer::start(|before, _| match before {
        0 => canceled(["None", "TransactionConflict", "None"]),
        1 => canceled(["ThrottlingError", "None", "None"]),
        _ => (200, json!({})),
    })
    .await;
    let alerts = dynamodb::Alerts::new(&Clients::for_emulator(&fake_server.url).await, &tables());
    alerts.open(&alert("m", second(0)), None).await.unwrap();
    let calls = fake_server.calls();
    assert_eq!(calls.len(), 3);
    // The token makes retries of the SDK idempotent; a new attempt needs a new token.
    assert_ne!(calls[0].body["ClientRequestToken"], calls[1].body["ClientRequestToken"]);
}

#[tokio::test]
async fn transaction_that_always_conflicts_is_a_conflict() {
    let fake_server =
        FakeServer::start(|_, _| canceled(["TransactionConflict", "None", "None"])).await;
    let alerts = dynamodb::Alerts::new(&Clients::for_emulator(&fake_server.url).await, &tables());
    let error = alerts.open(&alert("m", second(0)), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{}", error_chain(&error));
    assert_eq!(fake_server.calls().len(), 8);
}

#[tokio::test]
async fn invalid_transaction_is_not_retried() {
    let fake_server = FakeServer::start(|_, _| canceled(["None", "ValidationError", "None"])).await;
    let alerts = dynamodb::Alerts::new(&Clients::for_emulator(&fake_server.url).await, &tables());
    let error = alerts.open(&alert("m", second(0)), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Misconfigured { .. }), "{error:?}");
    assert!(error_chain(&error).contains("ValidationError"), "{}", error_chain(&error));
    assert_eq!(fake_server.calls().len(), 1);
}

#[tokio::test]
async fn probe_returns_the_result_of_each_store() {
    let fake_server = FakeServer::start(|_, call| match call.body["TableName"].as_str() {
        Some("the-alerts") => error_response("ResourceNotFoundException", json!({})),
        _ => (200, json!({})),
    })
    .await;
    let bucket = ArchiveBucket { name: "the-bucket".to_owned() };
    let clients = Clients::for_emulator(&fake_server.url).await;
    let results = StoreProbe::new(&clients, &bucket, &tables()).probe().await;
    let results: Vec<_> = results.iter().map(|(name, result)| (*name, result.is_ok())).collect();
    let expected = [
        ("archive", true),
        ("devices", true),
        ("state", true),
        ("messages", true),
        ("alerts", false),
        ("commands", true),
        ("rules", true),
    ];
    assert_eq!(results, expected);
    let mut operations: Vec<_> =
        fake_server.calls().into_iter().map(|call| call.operation).collect();
    operations.sort();
    assert_eq!(operations[0], "/the-bucket/");
    assert!(operations[1..].iter().all(|operation| operation == "GetItem"), "{operations:?}");
}

#[tokio::test]
async fn unreadable_alert_is_deleted_and_not_counted() {
    let raised = alert("m", second(0));
    let fake_server = FakeServer::start(move |_, call| match call.operation.as_str() {
        "Query" => {
            let readable = json!({"device_id": {"S": "m"}, "alert_id": {"S": raised.alert_id}, "acknowledged": {"BOOL": false}});
            let (no_id, nothing) = (json!({"device_id": {"S": "m"}, "alert_id": {"S": "?"}, "acknowledged": {"S": "no"}}),
                json!({"device_id": {"S": "m"}, "alert_id": {"S": "!"}}));
            (200, json!({"Items": [readable, no_id, nothing]}))
        }
        _ => (200, json!({})),
    })
    .await;
    let alerts = dynamodb::Alerts::new(&Clients::for_emulator(&fake_server.url).await, &tables());
    assert!(alerts.delete_for_device(&id("m"), second(9)).await.unwrap());
    let calls = fake_server.calls();
    let actions = calls[1].body["TransactItems"].as_array().unwrap();
    assert_eq!(actions[0]["ConditionCheck"]["TableName"], "the-devices");
    let deleted = |n: usize| &actions[n]["Delete"]["Key"]["alert_id"]["S"];
    assert_eq!(
        [deleted(1), deleted(2), deleted(3)],
        [&json!(raised.alert_id), &json!("?"), &json!("!")]
    );
    // An alert that cannot be read was not counted.
    assert_eq!(actions.len(), 5);
    let count = &actions[4]["Update"]["ExpressionAttributeValues"];
    assert!(count.to_string().contains("\"-1\""), "{count}");
}
