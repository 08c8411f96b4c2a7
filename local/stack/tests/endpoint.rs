//! A stack that is the endpoint alone, as the tests of an adapter use it.

use stack::{Options, Stack};

#[tokio::test]
async fn the_endpoint_has_the_stores_in_it() {
    let stack = Stack::start(Options::endpoint()).await.unwrap();
    assert_eq!(stack.outputs()["ArchiveBucketName"], "iot-data");
    assert!(stack.outputs()["MessagesTableName"].contains("MessagesTable"));
    stack.stop().await;
}
