//! A devstack with the endpoint only, as the tests of an adapter use it: the same supervision, no
//! functions.

#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use devstack::{DevStack, Options};
use serde_json::{Value, json};

#[tokio::test]
async fn endpoint_contains_the_stores() {
    let devstack = DevStack::start(Options::endpoint_only()).await.unwrap();
    assert_eq!(devstack.outputs()["ArchiveBucketName"], "iot-data");
    assert!(devstack.outputs()["MessagesTableName"].contains("MessagesTable"));
}

#[tokio::test]
async fn settings_of_functions_contain_stores_and_endpoint() {
    let devstack = DevStack::start(Options {
        settings: vec![("OFFLINE_AFTER_S".to_owned(), "1".to_owned())],
        ..Options::endpoint_only()
    })
    .await
    .unwrap();
    let settings = devstack.settings();
    assert_eq!(settings["STATE_TABLE"], devstack.outputs()["StateTableName"]);
    assert_eq!(settings["AWS_ENDPOINT_URL"], devstack.endpoint_url());
    assert_eq!(settings["API_AUTH"], "none");
    assert_eq!(settings["MAX_RESPONSE_BYTES"], "1500000");
    assert_eq!(settings["OFFLINE_AFTER_S"], "1");
}

#[tokio::test]
async fn concurrent_devstacks_share_no_data() {
    let start = || DevStack::start(Options::endpoint_only());
    let (one, two) = futures::future::try_join(start(), start()).await.unwrap();
    put_device(&one, "meter-1").await;
    assert_eq!(get_device(&two, "meter-1").await, None);
}

#[tokio::test]
async fn second_run_reads_data_of_first_run() {
    let data = tempfile::tempdir().unwrap();
    let options = Options { data: Some(data.path().to_owned()), ..Options::endpoint_only() };

    let first = DevStack::start(options.clone()).await.unwrap();
    put_device(&first, "meter-1").await;
    let outputs = first.outputs().clone();
    first.stop().await;

    // On other ports.
    let second = DevStack::start(options).await.unwrap();
    assert_eq!(get_device(&second, "meter-1").await.as_deref(), Some("meter-1"));
    assert_eq!(second.outputs()["DevicesTableName"], outputs["DevicesTableName"]);
}

#[tokio::test]
async fn endpoint_killed_in_first_run_starts_again() {
    let data = tempfile::tempdir().unwrap();
    let options = Options { data: Some(data.path().to_owned()), ..Options::endpoint_only() };
    let first = DevStack::start(options.clone()).await.unwrap();
    first.kill("ministack").unwrap();
    drop(first);
    DevStack::start(options).await.unwrap();
}

#[tokio::test]
async fn data_directory_in_use_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let options = Options { data: Some(data.path().to_owned()), ..Options::endpoint_only() };
    let _first = DevStack::start(options.clone()).await.unwrap();
    let error = DevStack::start(options).await.err().unwrap().to_string();
    assert!(error.contains("already running"), "{error}");
    assert!(devstack::remove_data(data.path()).is_err());
}

#[tokio::test]
async fn remove_data_removes_the_data_directory() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("data");
    let options = Options { data: Some(folder.clone()), ..Options::endpoint_only() };
    DevStack::start(options).await.unwrap().stop().await;
    devstack::remove_data(&folder).unwrap();
    assert!(!folder.exists());
}

#[tokio::test]
async fn killed_endpoint_is_reported_as_failure() {
    let devstack = DevStack::start(Options::endpoint_only()).await.unwrap();
    devstack.kill("ministack").unwrap();
    assert_eq!(devstack.wait_for_failure().await, "ministack");
}

#[test]
fn killed_supervisor_leaves_no_process() {
    let data = tempfile::tempdir().unwrap();
    let mut supervisor = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "supervisor_process", "--ignored", "--nocapture"])
        .env("SUPERVISOR_DATA", data.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(supervisor.stdout.take().unwrap());
    let pid = output
        .lines()
        .find_map(|line| line.unwrap().strip_prefix("ministack is ").map(str::to_owned))
        .unwrap();
    let endpoint = Path::new("/proc").join(pid);
    assert!(endpoint.exists());

    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while endpoint.exists() {
        assert!(Instant::now() < deadline, "the endpoint still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
#[ignore = "the process that killed_supervisor_leaves_no_process kills"]
async fn supervisor_process() {
    let data = std::env::var_os("SUPERVISOR_DATA").map(Into::into);
    let devstack = DevStack::start(Options { data, ..Options::endpoint_only() }).await.unwrap();
    println!("\nministack is {}", devstack.pid("ministack").unwrap().unwrap());
    devstack.wait_for_failure().await;
}

async fn put_device(devstack: &DevStack, device_id: &str) {
    let item = json!({"device_id": {"S": device_id}});
    dynamodb(devstack, "PutItem", json!({"Item": item})).await;
}

async fn get_device(devstack: &DevStack, device_id: &str) -> Option<String> {
    let key = json!({"device_id": {"S": device_id}});
    let answer = dynamodb(devstack, "GetItem", json!({"Key": key})).await;
    answer["Item"]["device_id"]["S"].as_str().map(str::to_owned)
}

/// Calls DynamoDB without its SDK, whose build is long for two calls.
async fn dynamodb(devstack: &DevStack, operation: &str, mut request: Value) -> Value {
    request["TableName"] = json!(devstack.outputs()["DevicesTableName"]);
    let answer = reqwest::Client::new()
        .post(devstack.endpoint_url())
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request",
        )
        .json(&request)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{operation}: {}", answer.status());
    answer.json().await.unwrap()
}
