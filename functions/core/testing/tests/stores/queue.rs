//! What the queue's answers mean.

use meter_aws::{Clients, IngestQueue};
use meter_store::{QueueDepth, StoreError};
use serde_json::{Value, json};

use crate::fake_server::{FakeResponse, FakeServer};

async fn depth(answer: FakeResponse) -> (Result<u64, StoreError>, Value) {
    let fake_server = FakeServer::start(move |_, _| answer.clone()).await;
    let url = "https://sqs.example/1/ingest".to_owned();
    let queue = IngestQueue::new(
        &Clients::for_emulator(&fake_server.url).await,
        &meter_aws::settings::IngestQueue { url },
    );
    let depth = queue.depth().await;
    (depth, fake_server.calls().remove(0).body)
}

#[tokio::test]
async fn the_depth_is_what_waits_and_what_is_handed_out() {
    let counts = json!({
        "ApproximateNumberOfMessages": "7",
        "ApproximateNumberOfMessagesNotVisible": "5",
    });
    let (depth, asked) = depth((200, json!({"Attributes": counts}))).await;
    assert_eq!(depth.unwrap(), 12);
    assert_eq!(asked["QueueUrl"], "https://sqs.example/1/ingest");
    let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
    assert_eq!(asked["AttributeNames"], json!(names));
}

#[tokio::test]
async fn a_queue_that_does_not_say_is_not_taken_for_an_empty_one() {
    let half = json!({"Attributes": {"ApproximateNumberOfMessages": "0"}});
    let (answer, _) = depth((200, half)).await;
    assert!(matches!(answer, Err(StoreError::Corrupt { .. })), "{answer:?}");
    let (answer, _) = depth((403, json!({"__type": "AccessDenied", "message": "no"}))).await;
    let operation = "sqs:GetQueueAttributes";
    assert!(
        matches!(answer, Err(StoreError::Misconfigured { operation: o, .. }) if o == operation),
        "{answer:?}"
    );
}
