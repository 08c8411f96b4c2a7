//! A devstack with the Timestream emulator, as the tests of the adapter use it.

#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

use std::time::{Duration, Instant};

use devstack::{DevStack, MetricStore, Options};
use serde_json::{Value, json};

fn with_timestream() -> Options {
    Options { metric_store: MetricStore::Timestream, ..Options::endpoint_only() }
}

#[tokio::test]
async fn timestream_does_not_run_by_default() {
    let devstack = DevStack::start(Options::endpoint_only()).await.unwrap();
    assert!(!devstack.child_names().any(|name| name == "timestream"));
    assert_eq!(devstack.settings()["METRIC_STORE"], "dynamodb");
    assert!(
        !devstack.settings().keys().any(|name| name.starts_with("AWS_ENDPOINT_URL_TIMESTREAM"))
    );
}

#[tokio::test]
async fn settings_of_functions_contain_an_existing_table() {
    let devstack = DevStack::start(with_timestream()).await.unwrap();
    let settings = devstack.settings();
    assert_eq!(settings["METRIC_STORE"], "timestream");
    assert_eq!(settings["AWS_ENDPOINT_URL_TIMESTREAM_QUERY"], devstack.timestream_url());
    let url = &settings["AWS_ENDPOINT_URL_TIMESTREAM_WRITE"];
    let table = json!({
        "DatabaseName": settings["TIMESTREAM_DATABASE"],
        "TableName": settings["TIMESTREAM_TABLE"],
    });
    let answer = call(url, "DescribeTable", &table).await.unwrap();
    let writes = &answer["Table"]["MagneticStoreWriteProperties"]["EnableMagneticStoreWrites"];
    assert_eq!(writes, true, "late messages need the magnetic store");
}

#[tokio::test]
async fn written_records_survive_kill_and_restart() {
    let data = tempfile::tempdir().unwrap();
    let options = Options { data: Some(data.path().to_owned()), ..with_timestream() };
    let first = DevStack::start(options.clone()).await.unwrap();
    let record = json!({
        "Dimensions": [{ "Name": "device_id", "Value": "meter-1" }],
        "MeasureName": "iot_telemetry",
        "MeasureValue": "1512.5",
        "Time": "1700000000000",
    });
    let request =
        json!({ "DatabaseName": "iot-meter", "TableName": "telemetry", "Records": [record] });
    call(&first.timestream_url(), "WriteRecords", &request).await.unwrap();
    first.kill("timestream").unwrap();
    assert_eq!(voltage(&first).await, "1512.5");
    first.stop().await;

    let second = DevStack::start(options).await.unwrap();
    assert_eq!(voltage(&second).await, "1512.5");
}

/// The stored value, as soon as the emulator responds.
async fn voltage(devstack: &DevStack) -> String {
    let query = json!({
        "QueryString": "SELECT measure_value::double FROM \"iot-meter\".\"telemetry\"",
    });
    let begin = Instant::now();
    loop {
        match call(&devstack.timestream_url(), "Query", &query).await {
            Ok(answer) => {
                return answer["Rows"][0]["Data"][0]["ScalarValue"].as_str().unwrap().to_owned();
            }
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(60), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn call(url: &str, operation: &str, request: &Value) -> reqwest::Result<Value> {
    reqwest::Client::new()
        .post(url)
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("Timestream_20181101.{operation}"))
        .json(request)
        .send()
        .await?
        .error_for_status()?
        .json()
        .await
}
