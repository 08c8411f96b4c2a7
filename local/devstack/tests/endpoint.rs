//! A stack that is the endpoint alone, as the tests of an adapter use it: the same supervision, without
//! the functions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use devstack::{DevStack, Options};
use serde_json::{Value, json};

#[tokio::test]
async fn the_endpoint_has_the_stores_in_it() {
    let stack = DevStack::start(Options::endpoint_only()).await.unwrap();
    assert_eq!(stack.outputs()["ArchiveBucketName"], "iot-data");
    assert!(stack.outputs()["MessagesTableName"].contains("MessagesTable"));
}

#[tokio::test]
async fn the_functions_settings_name_the_stores_and_the_endpoint() {
    let stack = DevStack::start(Options {
        settings: vec![("OFFLINE_AFTER_S".to_owned(), "1".to_owned())],
        ..Options::endpoint_only()
    })
    .await
    .unwrap();
    let settings = stack.settings();
    assert_eq!(settings["STATE_TABLE"], stack.outputs()["StateTableName"]);
    assert_eq!(settings["AWS_ENDPOINT_URL"], stack.endpoint_url());
    assert_eq!(settings["API_AUTH"], "none", "unlike in the template");
    assert_eq!(settings["MAX_RESPONSE_BYTES"], "1500000", "what the local router does not lose");
    assert_eq!(settings["OFFLINE_AFTER_S"], "1", "as the test says");
}

#[tokio::test]
async fn stacks_of_tests_that_run_at_the_same_time_do_not_meet() {
    let start = || DevStack::start(Options::endpoint_only());
    let (one, two) = futures::future::try_join(start(), start()).await.unwrap();
    put_device(&one, "meter-1").await;
    assert_eq!(get_device(&two, "meter-1").await, None);
}

#[tokio::test]
async fn a_second_run_finds_the_data_of_the_first() {
    let data = tempfile::tempdir().unwrap();
    let options = Options { data: Some(data.path().to_owned()), ..Options::endpoint_only() };

    let first = DevStack::start(options.clone()).await.unwrap();
    put_device(&first, "meter-1").await;
    let outputs = first.outputs().clone();
    first.stop().await;

    // On other ports, too.
    let second = DevStack::start(options).await.unwrap();
    assert_eq!(get_device(&second, "meter-1").await.as_deref(), Some("meter-1"));
    assert_eq!(second.outputs()["DevicesTableName"], outputs["DevicesTableName"]);
}

#[tokio::test]
async fn an_endpoint_that_died_in_its_first_run_starts_again() {
    let data = tempfile::tempdir().unwrap();
    let options = Options { data: Some(data.path().to_owned()), ..Options::endpoint_only() };
    let first = DevStack::start(options.clone()).await.unwrap();
    first.kill("ministack").unwrap();
    drop(first);
    DevStack::start(options).await.unwrap();
}

#[tokio::test]
async fn a_folder_in_use_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let options = Options { data: Some(data.path().to_owned()), ..Options::endpoint_only() };
    let _first = DevStack::start(options.clone()).await.unwrap();
    let error = DevStack::start(options).await.err().unwrap().to_string();
    assert!(error.contains("runs already"), "{error}");
    assert!(devstack::remove_data(data.path()).is_err(), "nor is it removed");
}

#[tokio::test]
async fn removed_data_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("data");
    let options = Options { data: Some(folder.clone()), ..Options::endpoint_only() };
    DevStack::start(options).await.unwrap().stop().await;
    devstack::remove_data(&folder).unwrap();
    assert!(!folder.exists());
}

#[tokio::test]
async fn the_death_of_the_endpoint_is_noticed() {
    let stack = DevStack::start(Options::endpoint_only()).await.unwrap();
    stack.kill("ministack").unwrap();
    assert_eq!(stack.wait_for_failure().await, "ministack");
}

#[test]
fn a_killed_supervisor_leaves_no_process_behind() {
    let data = tempfile::tempdir().unwrap();
    let mut supervisor = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holds_a_stack_until_it_is_killed", "--ignored", "--nocapture"])
        .env("DATA_OF_THE_KILLED", data.path())
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
#[ignore = "the process that a_killed_supervisor_leaves_no_process_behind kills"]
async fn holds_a_stack_until_it_is_killed() {
    let data = std::env::var_os("DATA_OF_THE_KILLED").map(Into::into);
    let stack = DevStack::start(Options { data, ..Options::endpoint_only() }).await.unwrap();
    println!("\nministack is {}", stack.pid("ministack").unwrap().unwrap());
    stack.wait_for_failure().await;
}

async fn put_device(stack: &DevStack, device_id: &str) {
    let item = json!({"device_id": {"S": device_id}});
    dynamodb(stack, "PutItem", json!({"Item": item})).await;
}

async fn get_device(stack: &DevStack, device_id: &str) -> Option<String> {
    let key = json!({"device_id": {"S": device_id}});
    let answer = dynamodb(stack, "GetItem", json!({"Key": key})).await;
    answer["Item"]["device_id"]["S"].as_str().map(str::to_owned)
}

/// DynamoDB's protocol as it is on the wire: the SDK would be a long build for two calls.
async fn dynamodb(stack: &DevStack, operation: &str, mut request: Value) -> Value {
    request["TableName"] = json!(stack.outputs()["DevicesTableName"]);
    let answer = reqwest::Client::new()
        .post(stack.endpoint_url())
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
