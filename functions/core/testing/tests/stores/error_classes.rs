//! The class of the error that an adapter returns for each error response of AWS.

use bytes::Bytes;
use meter_aws::{Clients, S3Archive, Timestream, dynamodb};
use meter_domain::metric::{DevicePoint, MetricName, Point, PointKey, Precedence};
use meter_store::{
    Archive, DeviceStore, MessageStore, MetricStore, PointQuery, StoreError, WriteSummary,
};
use meter_testing::fixtures::{first_segment, id, message_id, second};
use serde_json::json;

use crate::fake_server::{Call, FakeResponse, FakeServer, error_response};
use crate::faults::tables;

fn class_of(error: &StoreError) -> &'static str {
    match error {
        StoreError::Invalid { .. } => "invalid",
        StoreError::Misconfigured { .. } => "misconfigured",
        StoreError::Conflict { .. } => "conflict",
        StoreError::Unavailable { .. } => "unavailable",
        StoreError::Corrupt { .. } => "corrupt",
    }
}

#[tokio::test]
async fn dynamodb_errors_are_classified_by_code() {
    for (code, expected) in [
        ("AccessDeniedException", "misconfigured"),
        ("ResourceNotFoundException", "misconfigured"),
        ("ValidationException", "misconfigured"),
        ("ThrottlingException", "unavailable"),
        ("ProvisionedThroughputExceededException", "unavailable"),
    ] {
        let fake_server = FakeServer::start(move |_, _| error_response(code, json!({}))).await;
        let clients = Clients::for_emulator(&fake_server.url).await;
        let read = dynamodb::Devices::new(&clients, &tables()).get(&id("m")).await;
        assert_eq!(class_of(&read.unwrap_err()), expected, "GetItem {code}");
        let segments = [first_segment("m", second(0), 1)];
        let written = dynamodb::Messages::new(&clients, &tables()).put(&segments).await;
        let error = written.unwrap_err();
        assert_eq!(class_of(&error.source), expected, "BatchWriteItem {code}");
        assert_eq!((error.failed.len(), error.invalid.len()), (1, 0), "{code}");
    }
}

#[tokio::test]
async fn s3_errors_are_classified_by_status() {
    for (status, expected) in
        [(403, "misconfigured"), (404, "misconfigured"), (413, "invalid"), (503, "unavailable")]
    {
        let fake_server = FakeServer::start(move |_, _| (status, json!({}))).await;
        let archive = S3Archive::new(&Clients::for_emulator(&fake_server.url).await, "bucket");
        let error = archive.put("key", "text/plain", Bytes::from_static(b"x")).await.unwrap_err();
        assert_eq!(class_of(&error), expected, "{status}");
    }
}

async fn timestream(fake_server: &FakeServer) -> Timestream {
    let clients = Clients::for_emulator(&fake_server.url).await;
    Timestream::new(&clients, "database", "table", 300).await.unwrap()
}

/// One point of each of three messages.
fn points() -> [DevicePoint; 3] {
    [1, 2, 3].map(|n| {
        let key =
            PointKey { time: second(n), metric: MetricName::parse("pf").unwrap(), sample_index: 0 };
        let precedence = Precedence { ts: second(n), message_id: message_id(n as usize) };
        DevicePoint { device_id: id("m"), point: Point { key, value: 0.5, unit: None, precedence } }
    })
}

/// Accepts the record with every column and rejects the first two records of any other call.
fn reject_two_records(_: usize, call: &Call) -> FakeResponse {
    assert_eq!(call.operation, "WriteRecords");
    if call.body["Records"].to_string().contains("#schema") {
        return (200, json!({"RecordsIngested": {"Total": 1}}));
    }
    let rejected = json!([
        {"RecordIndex": 0, "Reason": "The record timestamp is outside the time range of the table."},
        {"RecordIndex": 1, "Reason": "Multi measure name is too long."},
    ]);
    (
        419,
        json!({"__type": "RejectedRecordsException", "Message": "no", "RejectedRecords": rejected}),
    )
}

#[tokio::test]
async fn rejected_timestream_record_is_invalid_for_its_message_alone() {
    let fake_server = FakeServer::start(reject_two_records).await;
    let error = timestream(&fake_server).await.put_points(&points()).await.unwrap_err();
    assert_eq!(error.failed, [message_id(2)].into());
    assert!(error.invalid[&message_id(2)].ends_with("Multi measure name is too long."));
    let outside_retention = timestream(&fake_server).await.put_points(&points()[..1]).await;
    assert_eq!(
        outside_retention.unwrap(),
        WriteSummary { outside_retention: 1, ..WriteSummary::default() }
    );
}

#[tokio::test]
async fn timestream_write_errors_are_classified_by_code() {
    for (code, expected) in [
        ("AccessDeniedException", "misconfigured"),
        ("ResourceNotFoundException", "misconfigured"),
        ("ValidationException", "misconfigured"),
        ("ThrottlingException", "unavailable"),
        ("InvalidEndpointException", "unavailable"),
        // A rejection of the record with every column concerns the table and no message.
        ("RejectedRecordsException", "misconfigured"),
    ] {
        let fake_server = FakeServer::start(move |_, _| {
            let rejected = json!([{"RecordIndex": 0, "Reason": "no"}]);
            error_response(code, json!({"RejectedRecords": rejected}))
        })
        .await;
        let error = timestream(&fake_server).await.put_points(&points()).await.unwrap_err();
        assert_eq!(class_of(&error.source), expected, "{code}");
        assert_eq!((error.failed.len(), error.invalid.len()), (3, 0), "{code}");
    }
}

#[tokio::test]
async fn query_of_a_timestream_table_without_records_returns_no_points() {
    for (rows, expected) in [(json!([]), "no points"), (json!([{"Data": []}]), "misconfigured")] {
        let fake_server = FakeServer::start(move |_, call| {
            let query = call.body["QueryString"].as_str().unwrap();
            if query.starts_with("SELECT 1 FROM ") {
                let page = json!({"QueryId": "1", "ColumnInfo": [], "Rows": rows});
                return (200, page);
            }
            error_response("ValidationException", json!({}))
        })
        .await;
        let query = PointQuery {
            device_id: id("m"),
            start: second(0),
            stop: second(9),
            metric: None,
            after: None,
            limit: 10,
        };
        let answer = timestream(&fake_server).await.points(&query).await;
        let actual = match &answer {
            Ok(page) if page.points.is_empty() && page.next.is_none() => "no points",
            Ok(_) => "points",
            Err(error) => class_of(error),
        };
        assert_eq!(actual, expected, "{answer:?}");
    }
}
