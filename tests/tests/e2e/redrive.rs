//! What did not reach ingest comes back by `stack redrive`, once.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use blackbox::system::System;
use serde_json::{Value, json};
use stack::Options;

const DEVICE: &str = "dc-meter-001";
const TOPIC: &str = "iot/dc-meter-001/telemetry";

/// More than one call to the queue takes.
const DEAD_LETTERS: u32 = 25;

/// Where messages lie that did not reach ingest.
struct Places<'s> {
    system: &'s System,
    sqs: aws_sdk_sqs::Client,
    s3: aws_sdk_s3::Client,
}

#[tokio::test]
async fn what_did_not_reach_ingest_is_redriven_and_readable_once_however_often_that_is_done()
-> Result<()> {
    let system = System::start().await?;
    let places = Places::of(&system);
    let letters: Vec<_> = (0..DEAD_LETTERS).map(|seq| forwarded(&telemetry(seq))).collect();
    places.put_dead_letters(&letters).await?;
    places.put_undelivered("a", &undelivered(&telemetry(DEAD_LETTERS))).await?;
    places.put_undelivered("b", &undelivered(&json!({"temperature": 23.5}))).await?;
    let received = places.modified("b").await?;
    // So that the time of receipt, in whole seconds, is not the time of the redrive.
    tokio::time::sleep(Duration::from_millis(1_100)).await;

    let output = places.redrive().await?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{said}");
    ensure!(said.contains(" 25 moved") && said.contains(" 2 sent"), "{said}");
    let points = places.points(DEAD_LETTERS as usize + 2).await?;
    // It has no time of its own, and the time of the redrive is not when it was received.
    let untimed = points.iter().find(|point| point["metric"] == "temperature");
    let time: jiff::Timestamp =
        untimed.and_then(|point| point["time"].as_str()).context("no temperature")?.parse()?;
    ensure!(time.as_second() == received, "{time} instead of {received}");

    // As a run leaves it that ends between sending and deleting; then two runs at once.
    places.put_dead_letters(&letters).await?;
    places.put_undelivered("a", &undelivered(&telemetry(DEAD_LETTERS))).await?;
    let (one, other) = tokio::try_join!(places.redrive(), places.redrive())?;
    ensure!(one.status.success() && other.status.success(), "{one:?} {other:?}");
    places.everything_is_taken().await?;
    ensure!(places.points(DEAD_LETTERS as usize + 2).await? == points, "something is doubled");

    let output = places.redrive().await?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(said.contains(" 0 moved") && said.contains(" 0 sent"), "{said}");

    // What no queue can hold stays, and is named.
    places.put_undelivered("empty", "").await?;
    let output = places.redrive().await?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(!output.status.success() && said.contains("empty.json: empty"), "{said}");
    places.modified("empty").await?;
    system.stack.stop().await;
    Ok(())
}

fn telemetry(seq: u32) -> Value {
    json!({"v": 2, "device_id": DEVICE, "ts": format!("2026-03-01T12:00:{seq:02}Z"), "seq": seq,
        "msg_type": "telemetry", "measurements": [{"type": "pf", "val": 0.5}]})
}

/// As the IoT rules' SQL forwards a message.
fn forwarded(message: &Value) -> String {
    json!({"payload": BASE64.encode(message.to_string()), "topic": TOPIC,
        "received_at": 1_772_366_400_000_i64, "principal": "p"})
    .to_string()
}

/// As an error action leaves a message.
fn undelivered(message: &Value) -> String {
    json!({
        "ruleName": "TelemetryRule", "topic": TOPIC, "cloudwatchTraceId": "7e146a2c-95b5-6caf-98b9-50e3969734c7",
        "clientId": DEVICE, "sourceIp": "192.0.2.1", "base64OriginalPayload": BASE64.encode(message.to_string()),
        "failures": [{"failedAction": "SqsAction", "failedResource": "ingest", "errorMessage": "Failed to send"}],
    })
    .to_string()
}

impl<'s> Places<'s> {
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

    /// What a person does.
    async fn redrive(&self) -> Result<Output> {
        let stack = &self.system.stack;
        tokio::process::Command::new(Options::default().binaries.join("stack"))
            .args(["redrive", "--outputs"])
            .arg(stack.data().join("outputs.json"))
            .envs(stack.settings())
            .stderr(Stdio::inherit())
            .output()
            .await
            .context("cannot run stack redrive")
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
                .queue_url(self.output("IngestDeadLettersUrl"))
                .set_entries(Some(entries.collect::<Result<_, _>>()?))
                .send()
                .await?;
            ensure!(answer.failed.is_empty(), "{:?}", answer.failed);
        }
        Ok(())
    }

    async fn put_undelivered(&self, name: &str, body: &str) -> Result<()> {
        self.s3
            .put_object()
            .bucket(self.output("ArchiveBucketName"))
            .key(key(name))
            .body(ByteStream::from(body.as_bytes().to_vec()))
            .send()
            .await?;
        Ok(())
    }

    /// When an object was written, in seconds; fails when there is none.
    async fn modified(&self, name: &str) -> Result<i64> {
        let bucket = self.output("ArchiveBucketName");
        let object = self.s3.head_object().bucket(bucket).key(key(name)).send().await?;
        Ok(object.last_modified.context("no time")?.secs())
    }

    /// Waits until the device has exactly so many points.
    async fn points(&self, count: usize) -> Result<Vec<Value>> {
        let path = format!(
            "/api/devices/{DEVICE}/metrics?start=1970-01-01T00:00:00Z&stop=2100-01-01T00:00:00Z"
        );
        let what = format!("{count} points");
        self.system
            .eventually(&what, || async {
                let points = self.system.list(&path).await?;
                ensure!(points.len() == count, "{} points", points.len());
                Ok(points)
            })
            .await
    }

    /// Waits until ingest has handled all that is in its queue.
    async fn everything_is_taken(&self) -> Result<()> {
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
                ensure!(counts.len() == 2 && counts.values().all(|n| n == "0"), "{counts:?}");
                Ok(())
            })
            .await
    }
}

fn key(name: &str) -> String {
    format!("undelivered/2026-03-01/{name}.json")
}
