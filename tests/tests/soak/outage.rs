//! Stores that are away, slow or throttling while devices publish: MQTT → edge → queue → function → stores.
//!
//! While a trouble lasts, the queue is looked at: what cannot be stored it holds, and none of it becomes a dead letter.
//! When all is over, everything is there, once, without a hand on it.

mod faulty_system;
mod probe;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
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

/// For how many seconds the queue is looked at in each trouble, when everything has been said in it: what fails comes again
/// several times meanwhile. The variable `OUTAGE_S` says something else, in seconds; what is said grows with it.
const OUTAGE_S: usize = 5;

/// After how long it does.
const REDELIVERY_DELAY: Duration = Duration::from_secs(2);

/// Devices that publish in every trouble. Half of them are registered.
const CLIENTS: usize = 8;

/// Messages of each of them for each second of a trouble, and the time from one to the next.
const MESSAGES_PER_SECOND: usize = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// Something that goes wrong until it is over.
struct Outage {
    /// What, see [`fault_proxy::FaultPlan`].
    plan: &'static str,
    expected_backlog: ExpectedBacklog,
}

/// What the queue holds of what is said in a trouble, to its end.
#[derive(Clone, Copy, Debug)]
enum ExpectedBacklog {
    /// All of it: nothing can be stored.
    All,
    /// All that is measured: answers to commands are no measurements.
    Telemetry,
    /// Some of it at least: others get through.
    Partial,
    /// Some of it for a while: everything gets through, and takes its time.
    Transient,
}

const OUTAGES: [Outage; 11] = [
    // Away.
    Outage { plan: "s3#1x*=request-lost", expected_backlog: ExpectedBacklog::All },
    Outage { plan: "dynamodb#1x*=request-lost", expected_backlog: ExpectedBacklog::All },
    // The metric store, which is a table of its own. The others answer.
    Outage {
        plan: "dynamodb:BatchWriteItem#1x*=request-lost",
        expected_backlog: ExpectedBacklog::All,
    },
    // Slow.
    Outage { plan: "any#1x*=delayed-2000ms", expected_backlog: ExpectedBacklog::Transient },
    // Throttling: SlowDown, ProvisionedThroughputExceeded, UnprocessedItems, UnprocessedKeys, and single statements.
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
    // Transactions that always meet others: TransactionCanceled.
    Outage { plan: "dynamodb#1x*=conflict", expected_backlog: ExpectedBacklog::Partial },
    // Broken.
    Outage { plan: "any#1x*=internal-error", expected_backlog: ExpectedBacklog::All },
];

const TIMESTREAM_OUTAGES: [Outage; 5] = [
    Outage { plan: "timestream#1x*=request-lost", expected_backlog: ExpectedBacklog::Telemetry },
    Outage { plan: "timestream#1x*=delayed-2000ms", expected_backlog: ExpectedBacklog::Transient },
    Outage { plan: "timestream#1x*=throttled", expected_backlog: ExpectedBacklog::Telemetry },
    Outage { plan: "timestream#1x*=internal-error", expected_backlog: ExpectedBacklog::Telemetry },
    // Everything is written, again and again, and nobody knows.
    Outage { plan: "timestream#1x*=response-lost", expected_backlog: ExpectedBacklog::Telemetry },
];

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_holds_what_stores_that_are_away_slow_or_throttling_do_not_take_and_all_is_there_afterwards()
-> Result<()> {
    run_outages(MetricStore::Dynamodb, &OUTAGES).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_holds_what_a_timestream_that_is_away_or_slow_does_not_take_and_all_is_there_afterwards()
-> Result<()> {
    run_outages(MetricStore::Timestream, &TIMESTREAM_OUTAGES).await
}

/// One trouble after the other, and then a look at what there is. Nobody lends a hand.
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
        let said = each * number..each * (number + 1);
        let slices = loads.iter().map(|load| (load, &load.messages[said.clone()]));
        let publish = clients.iter_mut().zip(slices).map(|(client, of)| publish(client, of));
        let passes = async {
            let before = system_under_test.fault_count();
            system_under_test.set_plan(outage.plan)?;
            tokio::try_join!(try_join_all(publish), probe.publish_during_outage())?;
            check_backlog(&system_under_test, outage.expected_backlog, outage_s).await?;
            ensure!(system_under_test.fault_count() > before, "{} met nobody", outage.plan);
            system_under_test.set_plan("")
        };
        // The order is taken when the trouble is over, if not before.
        tokio::try_join!(probe::send_second_command(system, &id), passes)?;
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
        "not everything is readable; faults: {:?}",
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
    assert_no_open_alerts(&system_under_test).await?;
    ensure!(system_under_test.dead_letters().await? == 0, "there are dead letters");
    system_under_test.system.stack.stop().await;
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

/// Waits until the queue holds what it must, and sees to it that it does so as long as the trouble lasts.
async fn check_backlog(
    system_under_test: &FaultySystem,
    expected_backlog: ExpectedBacklog,
    outage_s: usize,
) -> Result<()> {
    let measured = CLIENTS * MESSAGES_PER_SECOND * outage_s;
    let least = match expected_backlog {
        ExpectedBacklog::All => measured + probe::MESSAGES_PER_OUTAGE,
        ExpectedBacklog::Telemetry => measured + probe::TELEMETRY_PER_OUTAGE,
        ExpectedBacklog::Partial | ExpectedBacklog::Transient => 1,
    };
    let check_message_count = async || {
        let held = system_under_test.backlog().await?;
        ensure!(held >= least as u64, "the queue holds {held} messages, not {least}");
        Ok(())
    };
    // The edge may still be handing them over.
    system_under_test
        .system
        .eventually("what cannot be stored is in the queue", check_message_count)
        .await?;
    let end = Instant::now() + Duration::from_secs(outage_s as u64);
    while Instant::now() < end {
        if !matches!(expected_backlog, ExpectedBacklog::Transient) {
            check_message_count().await?;
        }
        ensure!(system_under_test.dead_letters().await? == 0, "there are dead letters");
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Of the alerts that were raised meanwhile none is open but for devices that say nothing any more.
async fn assert_no_open_alerts(system_under_test: &FaultySystem) -> Result<()> {
    system_under_test
        .system
        .eventually("no open alerts", || async {
            let open = system_under_test.system.list("/api/alerts?state=open").await?;
            let wrong = open.iter().find(|alert| alert["alert_type"] != "device_offline");
            ensure!(wrong.is_none(), "{wrong:?}");
            Ok(())
        })
        .await
}
