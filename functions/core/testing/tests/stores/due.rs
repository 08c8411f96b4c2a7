//! Deadline queries: the number of calls does not depend on the number of devices, and only items
//! that are due are read.

use std::collections::BTreeSet;

use meter_aws::{Clients, dynamodb};
use meter_domain::id::new_id;
use meter_store::{CommandStore, StateStore, error_chain};
use meter_testing::fixtures::{id, second};
use serde_json::{Value, json};

use crate::fake_server::{Call, FakeServer, error_response};
use crate::faults::tables;

async fn states(fake_server: &FakeServer) -> dynamodb::States {
    dynamodb::States::new(&Clients::for_emulator(&fake_server.url).await, &tables())
}

fn shard(call: &Call) -> usize {
    let values = &call.body["ExpressionAttributeValues"];
    values[":shard"]["S"].as_str().unwrap().parse().unwrap()
}

/// A key in the index of deadlines.
fn key(device: &str, due_at: i64) -> Value {
    json!({"device_id": {"S": device}, "due_shard": {"S": "00"}, "due_at": {"S": second(due_at).key()}})
}

#[tokio::test]
async fn due_query_reads_each_shard_once_and_merges_the_results() {
    let fake_server = FakeServer::start(|_, call| {
        assert_eq!(
            (call.operation.as_str(), &call.body["TableName"]),
            ("Query", &json!("the-state"))
        );
        assert_eq!((&call.body["IndexName"], &call.body["Limit"]), (&json!("by-due"), &json!(3)));
        let values = &call.body["ExpressionAttributeValues"];
        assert_eq!(values[":now"]["S"], "2026-01-01T00:01:00.000000000Z");
        let items = match shard(call) {
            2 => json!([key("b", 2), key("d", 4)]),
            9 => json!([key("a", 1), key("c", 3), key("e", 5)]),
            _ => json!([]),
        };
        (200, json!({"Items": items}))
    })
    .await;
    let due = states(&fake_server).await.list_due(second(60), 3).await.unwrap();
    assert_eq!(due, ["a", "b", "c"].map(id));
    let calls = fake_server.calls();
    assert_eq!(calls.len(), 16);
    assert_eq!(calls.iter().map(shard).collect::<BTreeSet<_>>().len(), 16);
}

#[tokio::test]
async fn failing_shard_fails_the_due_query() {
    let fake_server = FakeServer::start(|_, call| match shard(call) {
        11 => error_response("AccessDeniedException", json!({})),
        _ => (200, json!({"Items": [key("a", 1)]})),
    })
    .await;
    let error = states(&fake_server).await.list_due(second(60), 3).await.unwrap_err();
    assert!(error_chain(&error).contains("AccessDenied"), "{}", error_chain(&error));
}

#[tokio::test]
async fn invalid_key_in_the_due_index_is_skipped() {
    let cmd_id = new_id(second(0));
    let fake_server = FakeServer::start(move |_, call| {
        let (mut bad, mut good, no_device) = (key("m", 1), key("n", 2), key("no device", 3));
        bad["cmd_id"] = json!({"S": "no id"});
        good["cmd_id"] = json!({"S": cmd_id});
        let items = if shard(call) == 7 { vec![bad, good, no_device] } else { vec![] };
        (200, json!({"Items": items}))
    })
    .await;
    let commands =
        dynamodb::Commands::new(&Clients::for_emulator(&fake_server.url).await, &tables());
    assert_eq!(commands.list_due(second(60), 3).await.unwrap(), [(id("n"), cmd_id)]);
    assert_eq!(
        states(&fake_server).await.list_due(second(60), 3).await.unwrap(),
        ["m", "n"].map(id)
    );
}
