//! Outages of stores while devices publish: MQTT → IoT Core emulator → queue → function → stores.
//!
//! During an outage the queue holds the messages that cannot be stored, and none becomes a dead
//! letter. After it, each message is stored once without an operation.

mod faulty_system;
mod probe;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::expect::expect_len;
use blackbox::load::model::{DeviceLoad, LoadMessage, LoadSpec};
use blackbox::load::rest::RestClient;
use blackbox::load::throughput;
use blackbox::wait::NO_PROGRESS;
use devstack::MetricStore;
use futures::future::try_join_all;
use serde_json::json;
use tokio::time::{Instant, sleep};

use self::faulty_system::FaultySystem;
use self::probe::ProbeDevice;

/// The time in seconds for which the queue is observed in each outage after all messages are
/// published; long enough for several redeliveries. `OUTAGE_S` overrides it, and the number of
/// messages is proportional to it.
const OUTAGE_S: usize = 5;

/// The visibility timeout of the queue.
const REDELIVERY_DELAY: Duration = Duration::from_secs(2);

/// Devices that publish in each outage. Half of them are registered.
const CLIENTS: usize = 8;

/// Messages of each device per second of an outage, and the time between two of them.
const MESSAGES_PER_SECOND: usize = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// An outage.
struct Outage {
    /// The faults, see [`fault_proxy::FaultPlan`].
    plan: &'static str,
    expected_backlog: ExpectedBacklog,
}

/// The messages of an outage that the queue holds until its end.
#[derive(Clone, Copy, Debug)]
enum ExpectedBacklog {
    /// All messages.
    All,
    /// All telemetry; acknowledgements of commands are stored.
    Telemetry,
    /// At least one message; others are stored.
    Partial,
    /// At least one message for some time; all are stored slowly.
    Transient,
}

const OUTAGES: [Outage; 11] = [
    // Unavailable.
    Outage { plan: "s3#1x*=request-lost", expected_backlog: ExpectedBacklog::All },
    Outage { plan: "dynamodb#1x*=request-lost", expected_backlog: ExpectedBacklog::All },
    // Only the metric store is unavailable, which is a table of its own.
    Outage {
        plan: "dynamodb:BatchWriteItem#1x*=request-lost",
        expected_backlog: ExpectedBacklog::All,
    },
    // Slow.
    Outage { plan: "any#1x*=delayed-2000ms", expected_backlog: ExpectedBacklog::Transient },
    // Throttling: SlowDown, ProvisionedThroughputExceeded, UnprocessedItems, UnprocessedKeys, and
    // single statements.
    Outage { plan: "s3#1x*=throttled", expected_backlog: ExpectedBacklog::All },
    Outage { plan: "dynamodb#1x*=throughput-exceeded", expected_backlog: ExpectedBacklog::All },
    Outage {
        plan: "dynamodb:BatchWriteItem#1x*=partial-batch",
        expected_backlog: ExpectedBacklog::Partial,
    },
    Outage {
        plan: "dynamodb:BatchGetItem#1x*=partial-batch",
        expected_backlog: ExpectedBacklog::All,
    },
    Outage {
        plan: "dynamodb:BatchExecuteStatement#1x*=partial-batch dynamodb:PutItem#1x*=throttled",
        expected_backlog: ExpectedBacklog::Partial,
    },
    // Each transaction conflicts: TransactionCanceled.
    Outage { plan: "dynamodb#1x*=conflict", expected_backlog: ExpectedBacklog::Partial },
    // Internal errors.
    Outage { plan: "any#1x*=internal-error", expected_backlog: ExpectedBacklog::All },
];

const TIMESTREAM_OUTAGES: [Outage; 5] = [
    Outage { plan: "timestream#1x*=request-lost", expected_backlog: ExpectedBacklog::Telemetry },
    Outage { plan: "timestream#1x*=delayed-2000ms", expected_backlog: ExpectedBacklog::Transient },
    Outage { plan: "timestream#1x*=throttled", expected_backlog: ExpectedBacklog::Telemetry },
    Outage { plan: "timestream#1x*=internal-error", expected_backlog: ExpectedBacklog::Telemetry },
    // Everything is written at each delivery, but no write is confirmed.
    Outage { plan: "timestream#1x*=response-lost", expected_backlog: ExpectedBacklog::Telemetry },
];

#[tokio::test(flavor = "multi_thread")]
async fn messages_survive_outages_of_s3_and_dynamodb() -> Result<()> {
    run_outages(MetricStore::Dynamodb, &OUTAGES).await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_survive_outages_of_timestream() -> Result<()> {
    run_outages(MetricStore::Timestream, &TIMESTREAM_OUTAGES).await
}

/// Runs the outages one after the other, then verifies all data.
async fn run_outages(metric_store: MetricStore, outages: &[Outage]) -> Result<()> {
    let system_under_test = FaultySystem::start(metric_store).await?;
    let system = &system_under_test.system;
    let rule = json!({"name": "Overheated", "metric": "temperature", "operator": ">", "threshold": 90, "clear": 85});
    system.post("/api/alert-rules", rule).await?;

    let outage_s = outage_s()?;
    let each = MESSAGES_PER_SECOND * outage_s;
    let messages = CLIENTS * each * outages.len();
    let spec = LoadSpec {
        prefix: "outage",
        run: 1_750_000_000,
        clients: CLIENTS,
        messages,
        measurements: 2,
    };
    let loads = spec.devices();
    let rest = RestClient::new(&system.stack.rest_url())?;
    throughput::register(&rest, &loads[..CLIENTS / 2]).await?;
    let mut clients = Vec::with_capacity(CLIENTS);
    for load in &loads {
        clients.push(Device::connect(system.mqtt_port(), &load.device_id).await?);
    }

    let mut probes = Vec::with_capacity(outages.len());
    for (number, outage) in outages.iter().enumerate() {
        println!("{}", outage.plan);
        let id = format!("probe-{number}");
        let mut probe = ProbeDevice::start(system, &id).await?;
        let published = each * number..each * (number + 1);
        let slices = loads.iter().map(|load| (load, &load.messages[published.clone()]));
        let publish = clients.iter_mut().zip(slices).map(|(client, of)| publish(client, of));
        let outage_ends = async {
            let before = system_under_test.fault_count();
            system_under_test.set_plan(outage.plan)?;
            tokio::try_join!(try_join_all(publish), probe.publish_during_outage())?;
            check_backlog(&system_under_test, outage.expected_backlog, outage_s).await?;
            ensure!(system_under_test.fault_count() > before, "{}: no call failed", outage.plan);
            system_under_test.set_plan("")
        };
        // The command is created at the latest after the outage.
        tokio::try_join!(probe::send_second_command(system, &id), outage_ends)?;
        system_under_test.wait_until_queue_empty().await.context(outage.plan)?;
        probes.push(probe);
    }
    for client in clients {
        client.disconnect().await?;
    }

    let readable =
        throughput::wait_until_readable(&rest, &loads, NO_PROGRESS, &Default::default()).await?;
    ensure!(
        readable,
        "not all messages became readable; faults: {:?}",
        system_under_test.faults_by_kind()
    );
    for probe in &mut probes {
        probe.ack_second_command().await?;
    }
    system_under_test.wait_until_queue_empty().await?;
    throughput::expect_no_differences(&rest, &loads).await?;
    for probe in &mut probes {
        probe.verify(system).await?;
    }
    expect_no_open_alerts(&system_under_test).await?;
    expect_no_dead_letters(&system_under_test).await?;
    system_under_test.system.stack.stop().await;
    Ok(())
}

async fn expect_no_dead_letters(system_under_test: &FaultySystem) -> Result<()> {
    let count = system_under_test.dead_letters().await?;
    ensure!(count == 0, "dead letters: expected none, actual {count}");
    Ok(())
}

fn outage_s() -> Result<usize> {
    match std::env::var("OUTAGE_S") {
        Ok(text) => text.parse().with_context(|| format!("OUTAGE_S={text}")),
        Err(_) => Ok(OUTAGE_S),
    }
}

async fn publish(
    client: &mut Device,
    (load, messages): (&DeviceLoad, &[LoadMessage]),
) -> Result<()> {
    for message in messages {
        client.publish(&load.topic(), message.payload.clone()).await?;
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Waits until the queue holds the expected messages, then verifies that it does until the end.
async fn check_backlog(
    system_under_test: &FaultySystem,
    expected_backlog: ExpectedBacklog,
    outage_s: usize,
) -> Result<()> {
    let telemetry = CLIENTS * MESSAGES_PER_SECOND * outage_s;
    let least = match expected_backlog {
        ExpectedBacklog::All => telemetry + probe::MESSAGES_PER_OUTAGE,
        ExpectedBacklog::Telemetry => telemetry + probe::TELEMETRY_PER_OUTAGE,
        ExpectedBacklog::Partial | ExpectedBacklog::Transient => 1,
    };
    let check_message_count = async || {
        let held = system_under_test.backlog().await?;
        ensure!(held >= least as u64, "queue: expected at least {least} messages, actual {held}");
        Ok(())
    };
    // The IoT Core emulator may still be forwarding messages.
    system_under_test.system.eventually("the messages in the queue", check_message_count).await?;
    let end = Instant::now() + Duration::from_secs(outage_s as u64);
    while Instant::now() < end {
        if !matches!(expected_backlog, ExpectedBacklog::Transient) {
            check_message_count().await?;
        }
        expect_no_dead_letters(system_under_test).await?;
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Waits until no alert is open except for silent devices.
async fn expect_no_open_alerts(system_under_test: &FaultySystem) -> Result<()> {
    system_under_test
        .system
        .eventually("no open alerts", || async {
            let open = system_under_test.system.list("/api/alerts?state=open").await?;
            let (_, others): (Vec<_>, Vec<_>) =
                open.into_iter().partition(|alert| alert["alert_type"] == "device_offline");
            expect_len("GET /api/alerts?state=open", &others, 0)
        })
        .await
}
