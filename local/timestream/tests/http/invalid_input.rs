//! Input that no client sends by accident.

use serde_json::json;

use crate::server::{Emulator, now, record};

#[tokio::test]
async fn invalid_body_of_any_operation_is_a_client_error() {
    let emulator = Emulator::with_table().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies = ["", "{", "null", "[]", "7", "\"text\"", "{\"DatabaseName\": 7}", "\u{0}", &deep];
    for operation in [
        "CreateDatabase",
        "DescribeDatabase",
        "UpdateDatabase",
        "DeleteDatabase",
        "CreateTable",
        "DescribeTable",
        "UpdateTable",
        "DeleteTable",
        "WriteRecords",
        "ListTagsForResource",
        "TagResource",
        "UntagResource",
        "Query",
        "CancelQuery",
        "PrepareQuery",
    ] {
        for body in bodies {
            let (status, result) =
                emulator.send(&format!("Timestream_20181101.{operation}"), body).await;
            assert_eq!(status.as_u16(), 400, "{operation} {body:.40}: {result}");
            assert!(result["__type"].is_string() && result["Message"].is_string());
        }
    }
}

#[tokio::test]
async fn unknown_target_is_named_in_the_error() {
    let emulator = Emulator::empty().await;
    for target in [
        "",
        "Query",
        "Timestream_20181101.",
        "Timestream_20181101.DropEverything",
        "DynamoDB_20120810.ListTables",
    ] {
        let (status, result) = emulator.send(target, "{}").await;
        assert_eq!(status.as_u16(), 400);
        assert!(result["__type"].as_str().unwrap().ends_with("#UnknownOperationException"));
        assert!(result["Message"].as_str().unwrap().contains(target));
    }
}

#[tokio::test]
async fn oversized_body_is_rejected() {
    let emulator = Emulator::empty().await;
    let body = format!("{{\"QueryString\": \"{}\"}}", "x".repeat(5 << 20));
    let (status, result) = emulator.send("Timestream_20181101.Query", body).await;
    assert_eq!(status.as_u16(), 413, "{result}");
}

#[tokio::test]
async fn endless_query_times_out() {
    let emulator = Emulator::with_table().await;
    let records = (0..100).map(|second| record("m1", now() - second, 1.0)).collect();
    emulator.write(records).await;
    let t = "\"iot-meter\".telemetry";
    let query = format!("SELECT count(*) FROM {t} a, {t} b, {t} c, {t} d, {t} e, {t} f");
    let (exception, message) = emulator.expect_query_error(&query).await;
    assert_eq!(exception, "QueryExecutionException");
    assert!(message.contains("timed out"), "{message}");
}

#[tokio::test]
async fn names_and_values_cannot_inject_sql() {
    let emulator = Emulator::with_table().await;
    let evil = "x\"; DROP TABLE records_1; --";
    let mut strange = record("'; DELETE FROM records_1; --", now(), 1.0);
    strange["MeasureValues"][0]["Name"] = json!(evil);
    emulator.write(json!([strange])).await;
    let query = format!(
        "SELECT \"{}\" FROM \"iot-meter\".telemetry WHERE device_id = '''; DELETE FROM records_1; --'",
        evil.replace('"', "\"\"")
    );
    assert_eq!(emulator.value(&query).await.as_deref(), Some("1.0"));
}

#[tokio::test]
async fn deep_and_long_queries_do_not_stop_the_server() {
    let emulator = Emulator::empty().await;
    for query in [
        format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("SELECT {}1", "-".repeat(100_000)),
        format!("SELECT {}true", "NOT ".repeat(15_000)),
        format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(3_000), " END".repeat(3_000)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(5_000)),
        format!("SELECT {}", vec!["1"; 9_000].join(" + ")),
        format!("SELECT {}", vec!["1"; 9_000].join(", ")),
        format!("SELECT {}1{}", "abs(".repeat(5_000), ")".repeat(5_000)),
        "SELECT '".to_owned(),
        "SELECT \u{0}".to_owned(),
        "/*".to_owned(),
    ] {
        let (status, result) = emulator.call("Query", json!({ "QueryString": query })).await;
        assert_eq!(status.as_u16(), 400, "{query:.60}: {result}");
    }
    assert_eq!(emulator.value("SELECT 1").await.as_deref(), Some("1"));
}
