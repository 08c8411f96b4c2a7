//! NextToken, MaxRows and CancelQuery.

use serde_json::{Value, json};

use crate::server::{Emulator, record};

const ALL: &str = "SELECT time, voltage FROM \"iot-meter\".telemetry ORDER BY time";

async fn with_records(count: i64) -> Emulator {
    let emulator = Emulator::with_table().await;
    for begin in (0..count).step_by(100) {
        let records: Value = (begin..count.min(begin + 100))
            .map(|second| record("m1", 1_700_000_000 + second, second as f64))
            .collect();
        emulator.write(records).await;
    }
    emulator
}

fn voltages(result: &Value) -> Vec<String> {
    let rows = result["Rows"].as_array().unwrap();
    rows.iter().map(|row| row["Data"][1]["ScalarValue"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn result_within_max_rows_is_one_page() {
    let emulator = with_records(5).await;
    let result = emulator.ok("Query", json!({ "QueryString": ALL, "MaxRows": 5 })).await;
    assert_eq!(voltages(&result).len(), 5);
    assert_eq!(result.get("NextToken"), None);
}

#[tokio::test]
async fn result_beyond_max_rows_starts_with_an_empty_page() {
    let emulator = with_records(5).await;
    let mut request = json!({ "QueryString": ALL, "MaxRows": 2 });
    let first = emulator.ok("Query", request.clone()).await;
    assert_eq!(first["Rows"], json!([]));
    assert_eq!(first["ColumnInfo"].as_array().unwrap().len(), 2);
    let mut pages = Vec::new();
    let mut result = first.clone();
    while let Some(token) = result.get("NextToken") {
        request["NextToken"] = token.clone();
        result = emulator.ok("Query", request.clone()).await;
        assert_eq!(result["QueryId"], first["QueryId"]);
        pages.push(voltages(&result));
    }
    assert_eq!(pages, [vec!["0.0", "1.0"], vec!["2.0", "3.0"], vec!["4.0"]]);
}

#[tokio::test]
async fn latest_token_is_repeatable_and_earlier_ones_expire() {
    let emulator = with_records(6).await;
    let request = |token: &Value| json!({ "QueryString": ALL, "MaxRows": 2, "NextToken": token });
    let first = emulator.ok("Query", json!({ "QueryString": ALL, "MaxRows": 2 })).await;
    let one = emulator.ok("Query", request(&first["NextToken"])).await;
    assert_eq!(emulator.ok("Query", request(&first["NextToken"])).await, one);
    let two = emulator.ok("Query", request(&one["NextToken"])).await;
    let (exception, message) = emulator.expect_error("Query", request(&first["NextToken"])).await;
    assert_eq!(exception, "ValidationException");
    assert!(message.contains("pagination token"), "{message}");
    let three = emulator.ok("Query", request(&two["NextToken"])).await;
    assert_eq!(voltages(&three), ["4.0", "5.0"]);
    assert_eq!(three.get("NextToken"), None);
    // The last page may be lost, too.
    assert_eq!(emulator.ok("Query", request(&two["NextToken"])).await, three);
}

#[tokio::test]
async fn pages_are_of_one_snapshot() {
    let emulator = with_records(4).await;
    let first = emulator.ok("Query", json!({ "QueryString": ALL, "MaxRows": 3 })).await;
    emulator.write(json!([record("m1", 1_700_000_099, 99.0)])).await;
    let mut request = json!({ "QueryString": ALL, "MaxRows": 3, "NextToken": first["NextToken"] });
    let mut seen = voltages(&emulator.ok("Query", request.clone()).await);
    assert_eq!(seen.len(), 3);
    let page = emulator.ok("Query", request.clone()).await;
    request["NextToken"] = page["NextToken"].clone();
    seen.extend(voltages(&emulator.ok("Query", request).await));
    assert_eq!(seen, ["0.0", "1.0", "2.0", "3.0"]);
    assert_eq!(emulator.rows(ALL).await.len(), 5);
}

#[tokio::test]
async fn page_without_max_rows_is_limited_to_one_megabyte() {
    let emulator = Emulator::with_table().await;
    let text = "x".repeat(2_000);
    for begin in 0..8 {
        let records: Value = (0..100)
            .map(|number| {
                let measures = json!([{ "Name": "note", "Value": text, "Type": "VARCHAR" }]);
                crate::server::multi("m1", 1_700_000_000 + begin * 100 + number, measures)
            })
            .collect();
        emulator.write(records).await;
    }
    let query = "SELECT note FROM \"iot-meter\".telemetry";
    let first = emulator.ok("Query", json!({ "QueryString": query })).await;
    let rows = first["Rows"].as_array().unwrap().len();
    assert!((400..600).contains(&rows), "{rows}");
    assert!(first["NextToken"].is_string());
    assert_eq!(emulator.rows(query).await.len(), 800);

    let row = format!("SELECT {} FROM \"iot-meter\".telemetry", vec!["note"; 600].join(", "));
    let (exception, message) = emulator.expect_query_error(&row).await;
    assert_eq!(exception, "QueryExecutionException");
    assert!(message.contains("max page response size"), "{message}");
}

#[tokio::test]
async fn token_of_another_query_is_rejected() {
    let emulator = with_records(3).await;
    let first = emulator.ok("Query", json!({ "QueryString": ALL, "MaxRows": 1 })).await;
    let token = &first["NextToken"];
    for (query, token) in [
        ("SELECT 1", token.clone()),
        (ALL, json!("nonsense")),
        (ALL, json!("nonsense.1")),
        (ALL, json!(format!("{}9", token.as_str().unwrap()))),
    ] {
        let request = json!({ "QueryString": query, "NextToken": token });
        let (exception, message) = emulator.expect_error("Query", request).await;
        assert_eq!(exception, "ValidationException");
        assert!(message.contains("pagination token"), "{message}");
    }
    for rows in [0, 1_001] {
        let request = json!({ "QueryString": ALL, "MaxRows": rows });
        assert_eq!(emulator.expect_error("Query", request).await.0, "ValidationException");
    }
}

#[tokio::test]
async fn cancelled_query_has_no_next_page() {
    let emulator = with_records(3).await;
    let first = emulator.ok("Query", json!({ "QueryString": ALL, "MaxRows": 1 })).await;
    let id = json!({ "QueryId": first["QueryId"] });
    for _ in 0..2 {
        let result = emulator.ok("CancelQuery", id.clone()).await;
        assert!(result["CancellationMessage"].is_string());
    }
    let request = json!({ "QueryString": ALL, "MaxRows": 1, "NextToken": first["NextToken"] });
    assert_eq!(emulator.expect_error("Query", request).await.0, "ValidationException");
}

#[tokio::test]
async fn idle_queries_are_replaced_by_new_ones() {
    let emulator = with_records(2).await;
    for _ in 0..100 {
        emulator.ok("Query", json!({ "QueryString": ALL, "MaxRows": 1 })).await;
    }
    assert_eq!(emulator.rows(ALL).await.len(), 2);
}
