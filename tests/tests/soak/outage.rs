//! Stores that are away, slow or throttling while devices publish: MQTT → edge → queue → function → stores.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::load::model::{DeviceLoad, Shape};
use blackbox::load::rest::Rest;
use blackbox::load::throughput;
use blackbox::system::System;
use faults::{Plan, Proxy};
use futures::future::try_join_all;
use serde_json::{Value, json};
use stack::Options;
use tokio::time::{Instant, sleep};

/// Longer than any machine that is not broken takes.
const DEADLINE: Duration = Duration::from_secs(300);

/// How long each trouble lasts.
const TROUBLE: Duration = Duration::from_secs(8);

/// From one message of a device to its next.
const PAUSE: Duration = Duration::from_millis(100);

/// What goes wrong, one after the other without a break.
const TROUBLES: [&str; 6] = [
    "s3#1x*=lost",
    "dynamodb#1x*=lost",
    "any#1x*=late-2000ms",
    "s3#1x*=throttled dynamodb#1x*=over-capacity",
    "dynamodb:BatchWriteItem#1x*=in-part dynamodb:BatchExecuteStatement#1x*=in-part",
    "any#1x*=internal-error",
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_stores_are_away_slow_or_throttling_and_all_is_there_afterwards()
-> Result<()> {
    let proxy = Proxy::listen(0).await?;
    let settings = vec![("AWS_ENDPOINT_URL".to_owned(), proxy.url())];
    let system = System::start_with(Options { settings, ..Options::default() }).await?;
    proxy.forward_to(&system.stack.endpoint_url());
    let rest = Rest::new(&system.stack.rest_url())?;

    // More messages than can be published meanwhile: trouble ends first, publishing after it.
    let messages = 8 * usize::try_from(TROUBLE.as_millis() / PAUSE.as_millis())? * TROUBLES.len();
    let shape =
        Shape { prefix: "outage", run: 1_750_000_000, clients: 8, messages, measurements: 2 };
    let devices = shape.devices();
    throughput::register(&rest, &devices[..4]).await?;

    let acknowledged = AtomicU64::new(0);
    let publish =
        try_join_all(devices.iter().map(|device| publish(&system, device, &acknowledged)));
    let trouble = async {
        for trouble in TROUBLES {
            let before = proxy.tally().total_faults();
            proxy.set_plan(trouble.parse()?);
            sleep(TROUBLE).await;
            let faults = proxy.tally().total_faults() - before;
            ensure!(faults > 0, "{trouble} met nobody");
        }
        proxy.set_plan(Plan::none());
        anyhow::Ok(())
    };
    tokio::try_join!(publish, trouble)?;
    ensure!(
        acknowledged.load(Ordering::Relaxed) == messages as u64,
        "the broker kept none waiting"
    );

    // Nobody lends a hand.
    let deadline = Instant::now() + DEADLINE;
    let readable =
        throughput::wait_until_readable(&rest, &devices, deadline, &AtomicU64::new(0)).await?;
    ensure!(readable, "not everything is readable; faults: {:?}", proxy.tally().faults);
    system
        .eventually("an empty queue", || async {
            let waiting = waiting(&system, "IngestQueueUrl").await?;
            ensure!(waiting == 0, "{waiting} messages are in the queue");
            Ok(())
        })
        .await?;
    let differences = throughput::verify(&rest, &devices).await?;
    ensure!(differences.is_empty(), "{} differences: {:?}", differences.len(), differences.first());
    let dead = waiting(&system, "IngestDeadLettersUrl").await?;
    ensure!(dead == 0, "{dead} dead letters");
    system.stack.stop().await;
    Ok(())
}

async fn publish(system: &System, load: &DeviceLoad, acknowledged: &AtomicU64) -> Result<()> {
    let mut device = Device::connect(system.mqtt(), &load.device_id).await?;
    for message in &load.messages {
        device.publish(&load.topic(), message.payload.clone()).await?;
        acknowledged.fetch_add(1, Ordering::Relaxed);
        sleep(PAUSE).await;
    }
    device.disconnect().await
}

/// Messages in a queue, those in somebody's hands included.
async fn waiting(system: &System, output: &str) -> Result<u64> {
    const WAITING: [&str; 2] =
        ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
    let url = system.stack.outputs().get(output).with_context(|| format!("no output {output}"))?;
    let answer: Value = reqwest::Client::new()
        .post(system.stack.endpoint_url())
        .header("x-amz-target", "AmazonSQS.GetQueueAttributes")
        .header("content-type", "application/x-amz-json-1.0")
        .body(json!({"QueueUrl": url, "AttributeNames": WAITING}).to_string())
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?;
    let counts = WAITING.map(|name| answer["Attributes"][name].as_str()?.parse::<u64>().ok());
    let counts: Option<Vec<u64>> = counts.into_iter().collect();
    Ok(counts.with_context(|| format!("the queue answers {answer}"))?.iter().sum())
}
