//! The queue depth that is derived from the attributes of the queue.

use meter_aws::{Clients, IngestQueue};
use meter_store::{QueueDepth, StoreError};
use serde_json::{Value, json};

use crate::fake_server::{FakeResponse, FakeServer};

async fn depth(response: FakeResponse) -> (Result<u64, StoreError>, Value) {
    let fake_server = FakeServer::start(move |_, _| response.clone()).await;
    let url = "https://sqs.example/1/ingest".to_owned();
    let queue = IngestQueue::new(
        &Clients::for_emulator(&fake_server.url).await,
        &meter_aws::settings::IngestQueue { url },
    );
    let depth = queue.depth().await;
    (depth, fake_server.calls().remove(0).body)
}

#[tokio::test]
async fn depth_is_the_sum_of_visible_and_in_flight_messages() {
    let counts = json!({
        "ApproximateNumberOfMessages": "7",
        "ApproximateNumberOfMessagesNotVisible": "5",
    });
    let (depth, request) = depth((200, json!({"Attributes": counts}))).await;
    assert_eq!(depth.unwrap(), 12);
    assert_eq!(request["QueueUrl"], "https://sqs.example/1/ingest");
    let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
    assert_eq!(request["AttributeNames"], json!(names));
}

#[tokio::test]
async fn response_without_counts_is_an_error() {
    let half = json!({"Attributes": {"ApproximateNumberOfMessages": "0"}});
    let (response, _) = depth((200, half)).await;
    assert!(matches!(response, Err(StoreError::Corrupt { .. })), "{response:?}");
    let (response, _) = depth((403, json!({"__type": "AccessDenied", "message": "no"}))).await;
    let operation = "sqs:GetQueueAttributes";
    assert!(
        matches!(response, Err(StoreError::Misconfigured { operation: o, .. }) if o == operation),
        "{response:?}"
    );
}
