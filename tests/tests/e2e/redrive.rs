//! `iot-meter redrive` returns dead letters and undelivered messages to ingest, each once.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use blackbox::expect::{expect_eq, expect_len};
use blackbox::system::System;
use devstack::Options;
use serde_json::{Value, json};

const DEVICE: &str = "dc-meter-001";
const TOPIC: &str = "iot/dc-meter-001/telemetry";

/// More than the 10 messages of one batch call of SQS.
const DEAD_LETTERS: u32 = 25;

/// Clients of the dead letter queue and of the bucket with undelivered messages.
struct RedriveFixture<'s> {
    system: &'s System,
    sqs: aws_sdk_sqs::Client,
    s3: aws_sdk_s3::Client,
}

#[tokio::test]
async fn redriven_messages_are_stored_once_after_repeated_redrives() -> Result<()> {
    let system = System::start().await?;
    let fixture = RedriveFixture::of(&system);
    let dead_letters: Vec<_> = (0..DEAD_LETTERS).map(|seq| rule_output(&telemetry(seq))).collect();
    fixture.put_dead_letters(&dead_letters).await?;
    fixture.put_undelivered("a", &error_action_record(&telemetry(DEAD_LETTERS))).await?;
    fixture.put_undelivered("b", &error_action_record(&json!({"temperature": 23.5}))).await?;
    let received = fixture.last_modified("b").await?;
    // Makes the time of receipt, in whole seconds, differ from that of the redrive.
    tokio::time::sleep(Duration::from_millis(1_100)).await;

    let output = fixture.redrive().await?;
    let report = json_report(&output)?;
    ensure!(output.status.success(), "{report}");
    ensure!(report["dead_letters"] == 25 && report["undelivered"] == 2, "{report}");
    let points = fixture.points(DEAD_LETTERS as usize + 2).await?;
    // The message has no time, so that its point has the time of receipt.
    let untimed = points.iter().find(|point| point["metric"] == "temperature");
    let time: jiff::Timestamp = untimed
        .and_then(|point| point["time"].as_str())
        .context("there is no temperature")?
        .parse()?;
    ensure!(time.as_second() == received, "expected time {received} s, actual {time}");

    // The state after a run that ended between sending and deleting; then two concurrent runs.
    fixture.put_dead_letters(&dead_letters).await?;
    fixture.put_undelivered("a", &error_action_record(&telemetry(DEAD_LETTERS))).await?;
    let (one, other) = tokio::try_join!(fixture.redrive(), fixture.redrive())?;
    ensure!(one.status.success() && other.status.success(), "a concurrent redrive failed");
    fixture.wait_until_queue_empty().await?;
    expect_eq("GET metrics", &fixture.points(DEAD_LETTERS as usize + 2).await?, &points)?;

    let report = json_report(&fixture.redrive_by_stack_name().await?)?;
    ensure!(report["dead_letters"] == 0 && report["undelivered"] == 0, "{report}");

    // A message that the queue does not accept stays, and is reported.
    fixture.put_undelivered("empty", "").await?;
    let output = fixture.redrive().await?;
    let report = json_report(&output)?;
    let reason = report["remaining"][undelivered_key("empty")].as_str().unwrap_or_default();
    ensure!(output.status.code() == Some(3) && reason.starts_with("empty"), "{report}");
    fixture.last_modified("empty").await?;
    system.stack.stop().await;
    Ok(())
}

fn telemetry(seq: u32) -> Value {
    json!({"v": 2, "device_id": DEVICE, "ts": format!("2026-03-01T12:00:{seq:02}Z"), "seq": seq,
        "msg_type": "telemetry", "measurements": [{"type": "pf", "val": 0.5}]})
}

/// A queue message in the format of the IoT rules.
fn rule_output(message: &Value) -> String {
    json!({"payload": BASE64.encode(message.to_string()), "topic": TOPIC,
        "received_at": 1_772_366_400_000_i64, "principal": "p"})
    .to_string()
}

/// The object that the error action of an IoT rule writes for a message.
fn error_action_record(message: &Value) -> String {
    json!({
        "ruleName": "TelemetryRule", "topic": TOPIC, "cloudwatchTraceId": "7e146a2c-95b5-6caf-98b9-50e3969734c7",
        "clientId": DEVICE, "sourceIp": "192.0.2.1", "base64OriginalPayload": BASE64.encode(message.to_string()),
        "failures": [{"failedAction": "SqsAction", "failedResource": "ingest", "errorMessage": "Failed to send"}],
    })
    .to_string()
}

impl<'s> RedriveFixture<'s> {
    fn of(system: &'s System) -> Self {
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "local", "local", None, None, "test",
            )))
            .endpoint_url(system.stack.endpoint_url())
            .build();
        Self {
            system,
            sqs: aws_sdk_sqs::Client::new(&config),
            s3: aws_sdk_s3::Client::new(&config),
        }
    }

    fn output(&self, name: &str) -> &str {
        &self.system.stack.outputs()[name]
    }

    /// Runs the command for the local system.
    async fn redrive(&self) -> Result<Output> {
        let data = self.system.stack.data().display().to_string();
        self.run(&["--local", "--data", &data], &BTreeMap::new()).await
    }

    /// Runs the command for a CloudFormation stack, whose outputs the AWS endpoint returns.
    async fn redrive_by_stack_name(&self) -> Result<Output> {
        self.run(&["--stack", "iot-meter-stores"], self.system.stack.settings()).await
    }

    async fn run(&self, target: &[&str], env: &BTreeMap<String, String>) -> Result<Output> {
        tokio::process::Command::new(Options::default().binaries.join("iot-meter"))
            .args(["redrive", "--output", "json"])
            .args(target)
            .envs(env)
            .stderr(Stdio::inherit())
            .output()
            .await
            .context("cannot run iot-meter redrive")
    }

    async fn put_dead_letters(&self, bodies: &[String]) -> Result<()> {
        for call in bodies.chunks(10) {
            let entries = call.iter().enumerate().map(|(index, body)| {
                let entry = SendMessageBatchRequestEntry::builder();
                entry.id(index.to_string()).message_body(body).build()
            });
            let answer = self
                .sqs
                .send_message_batch()
                .queue_url(self.output("IngestDeadLetterQueueUrl"))
                .set_entries(Some(entries.collect::<Result<_, _>>()?))
                .send()
                .await?;
            ensure!(answer.failed.is_empty(), "failed entries: {:?}", answer.failed);
        }
        Ok(())
    }

    async fn put_undelivered(&self, name: &str, body: &str) -> Result<()> {
        self.s3
            .put_object()
            .bucket(self.output("ArchiveBucketName"))
            .key(undelivered_key(name))
            .body(ByteStream::from(body.as_bytes().to_vec()))
            .send()
            .await?;
        Ok(())
    }

    /// The time at which an object was written, in seconds since the epoch.
    async fn last_modified(&self, name: &str) -> Result<i64> {
        let bucket = self.output("ArchiveBucketName");
        let object = self.s3.head_object().bucket(bucket).key(undelivered_key(name)).send().await?;
        Ok(object.last_modified.context("the object has no time")?.secs())
    }

    /// Waits until the device has exactly `count` points.
    async fn points(&self, count: usize) -> Result<Vec<Value>> {
        let path = format!(
            "/api/devices/{DEVICE}/metrics?start=1970-01-01T00:00:00Z&stop=2100-01-01T00:00:00Z"
        );
        let what = format!("{count} points");
        self.system
            .eventually(&what, || async {
                let points = self.system.list(&path).await?;
                expect_len(&format!("GET {path}"), &points, count)?;
                Ok(points)
            })
            .await
    }

    /// Waits until ingest has processed all messages in its queue.
    async fn wait_until_queue_empty(&self) -> Result<()> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        self.system
            .eventually("an empty queue", || async {
                let answer = self
                    .sqs
                    .get_queue_attributes()
                    .queue_url(self.output("IngestQueueUrl"))
                    .set_attribute_names(Some(names.to_vec()))
                    .send()
                    .await?;
                let counts = answer.attributes.unwrap_or_default();
                ensure!(
                    counts.len() == 2 && counts.values().all(|n| n == "0"),
                    "queue: {counts:?}"
                );
                Ok(())
            })
            .await
    }
}

fn json_report(output: &Output) -> Result<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| format!("no JSON: {text:?}"))
}

fn undelivered_key(name: &str) -> String {
    format!("undelivered/2026-03-01/{name}.json")
}
