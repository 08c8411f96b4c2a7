//! Stores that are away, slow or throttling while devices publish: MQTT → edge → queue → function → stores.
//!
//! While a trouble lasts, the queue is looked at: what cannot be stored it holds, and none of it becomes a dead letter.
//! When all is over, everything is there, once, without a hand on it.

mod stage;
mod witness;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::load::model::{DeviceLoad, LoadMessage, Shape};
use blackbox::load::rest::Rest;
use blackbox::load::throughput;
use futures::future::try_join_all;
use serde_json::json;
use stack::MetricStore;
use tokio::time::{Instant, sleep};

use self::stage::Stage;
use self::witness::Witness;

/// Longer than any machine that is not broken takes.
const DEADLINE: Duration = Duration::from_secs(300);

/// For how many seconds the queue is looked at in each trouble, when everything has been said in it: what fails comes again
/// several times meanwhile. The variable `TROUBLE_S` says something else, in seconds; what is said grows with it.
const TROUBLE_S: usize = 5;

/// After how long it does.
const REDELIVERY: Duration = Duration::from_secs(2);

/// Devices that publish in every trouble. Half of them are registered.
const CLIENTS: usize = 8;

/// Messages of each of them for each second of a trouble, and the time from one to the next.
const MESSAGES_A_SECOND: usize = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// Something that goes wrong until it is over.
struct Trouble {
    /// What, see [`faults::Plan`].
    plan: &'static str,
    holds: Holds,
}

/// What the queue holds of what is said in a trouble, to its end.
#[derive(Clone, Copy, Debug)]
enum Holds {
    /// All of it: nothing can be stored.
    All,
    /// All that is measured: answers to commands are no measurements.
    Telemetry,
    /// Some of it at least: others get through.
    Some,
    /// Some of it for a while: everything gets through, and takes its time.
    Awhile,
}

const TROUBLES: [Trouble; 11] = [
    // Away.
    Trouble { plan: "s3#1x*=lost", holds: Holds::All },
    Trouble { plan: "dynamodb#1x*=lost", holds: Holds::All },
    // The metric store, which is a table of its own. The others answer.
    Trouble { plan: "dynamodb:BatchWriteItem#1x*=lost", holds: Holds::All },
    // Slow.
    Trouble { plan: "any#1x*=late-2000ms", holds: Holds::Awhile },
    // Throttling: SlowDown, ProvisionedThroughputExceeded, UnprocessedItems, UnprocessedKeys, and single statements.
    Trouble { plan: "s3#1x*=throttled", holds: Holds::All },
    Trouble { plan: "dynamodb#1x*=over-capacity", holds: Holds::All },
    Trouble { plan: "dynamodb:BatchWriteItem#1x*=in-part", holds: Holds::Some },
    Trouble { plan: "dynamodb:BatchGetItem#1x*=in-part", holds: Holds::All },
    Trouble {
        plan: "dynamodb:BatchExecuteStatement#1x*=in-part dynamodb:PutItem#1x*=throttled",
        holds: Holds::Some,
    },
    // Transactions that always meet others: TransactionCanceled.
    Trouble { plan: "dynamodb#1x*=conflict", holds: Holds::Some },
    // Broken.
    Trouble { plan: "any#1x*=internal-error", holds: Holds::All },
];

const TROUBLES_OF_TIMESTREAM: [Trouble; 5] = [
    Trouble { plan: "timestream#1x*=lost", holds: Holds::Telemetry },
    Trouble { plan: "timestream#1x*=late-2000ms", holds: Holds::Awhile },
    Trouble { plan: "timestream#1x*=throttled", holds: Holds::Telemetry },
    Trouble { plan: "timestream#1x*=internal-error", holds: Holds::Telemetry },
    // Everything is written, again and again, and nobody knows.
    Trouble { plan: "timestream#1x*=answer-lost", holds: Holds::Telemetry },
];

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_holds_what_stores_that_are_away_slow_or_throttling_do_not_take_and_all_is_there_afterwards()
-> Result<()> {
    go_through(MetricStore::Dynamodb, &TROUBLES).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_holds_what_a_timestream_that_is_away_or_slow_does_not_take_and_all_is_there_afterwards()
-> Result<()> {
    go_through(MetricStore::Timestream, &TROUBLES_OF_TIMESTREAM).await
}

/// One trouble after the other, and then a look at what there is. Nobody lends a hand.
async fn go_through(metric_store: MetricStore, troubles: &[Trouble]) -> Result<()> {
    let stage = Stage::set(metric_store).await?;
    let system = &stage.system;
    let rule = json!({"name": "Overheated", "metric": "temperature", "operator": ">", "threshold": 90, "clear": 85});
    system.post("/api/alert-rules", rule).await?;

    let trouble_s = trouble_s()?;
    let each = MESSAGES_A_SECOND * trouble_s;
    let messages = CLIENTS * each * troubles.len();
    let shape =
        Shape { prefix: "outage", run: 1_750_000_000, clients: CLIENTS, messages, measurements: 2 };
    let loads = shape.devices();
    let rest = Rest::new(&system.stack.rest_url())?;
    throughput::register(&rest, &loads[..CLIENTS / 2]).await?;
    let mut clients = Vec::with_capacity(CLIENTS);
    for load in &loads {
        clients.push(Device::connect(system.mqtt(), &load.device_id).await?);
    }

    let mut witnesses = Vec::with_capacity(troubles.len());
    for (number, trouble) in troubles.iter().enumerate() {
        println!("{}", trouble.plan);
        let id = format!("witness-{number}");
        let mut witness = Witness::arrive(system, &id).await?;
        let said = each * number..each * (number + 1);
        let slices = loads.iter().map(|load| (load, &load.messages[said.clone()]));
        let publish = clients.iter_mut().zip(slices).map(|(client, of)| publish(client, of));
        let passes = async {
            let before = stage.faults();
            stage.set_plan(trouble.plan)?;
            tokio::try_join!(try_join_all(publish), witness.speak())?;
            look_at_the_queue(&stage, trouble.holds, trouble_s).await?;
            ensure!(stage.faults() > before, "{} met nobody", trouble.plan);
            stage.set_plan("")
        };
        // The order is taken when the trouble is over, if not before.
        tokio::try_join!(witness::order(system, &id), passes)?;
        stage.until_the_queue_is_empty().await.context(trouble.plan)?;
        witnesses.push(witness);
    }
    for client in clients {
        client.disconnect().await?;
    }

    let deadline = Instant::now() + DEADLINE;
    let readable =
        throughput::wait_until_readable(&rest, &loads, deadline, &Default::default()).await?;
    ensure!(readable, "not everything is readable; faults: {:?}", stage.faults_by_kind());
    for witness in &mut witnesses {
        witness.answer_the_order().await?;
    }
    stage.until_the_queue_is_empty().await?;
    let differences = throughput::verify(&rest, &loads).await?;
    ensure!(differences.is_empty(), "{} differences: {:?}", differences.len(), differences.first());
    for witness in &mut witnesses {
        witness.find_everything_once(system).await?;
    }
    nothing_is_wrong_any_more(&stage).await?;
    ensure!(stage.dead_letters().await? == 0, "there are dead letters");
    stage.system.stack.stop().await;
    Ok(())
}

fn trouble_s() -> Result<usize> {
    match std::env::var("TROUBLE_S") {
        Ok(text) => text.parse().with_context(|| format!("TROUBLE_S={text}")),
        Err(_) => Ok(TROUBLE_S),
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
async fn look_at_the_queue(stage: &Stage, holds: Holds, trouble_s: usize) -> Result<()> {
    let measured = CLIENTS * MESSAGES_A_SECOND * trouble_s;
    let least = match holds {
        Holds::All => measured + witness::SPOKEN,
        Holds::Telemetry => measured + witness::MEASURED,
        Holds::Some | Holds::Awhile => 1,
    };
    let holds_enough = async || {
        let held = stage.held().await?;
        ensure!(held >= least as u64, "the queue holds {held} messages, not {least}");
        Ok(())
    };
    // The edge may still be handing them over.
    stage.system.eventually("what cannot be stored is in the queue", holds_enough).await?;
    let end = Instant::now() + Duration::from_secs(trouble_s as u64);
    while Instant::now() < end {
        if !matches!(holds, Holds::Awhile) {
            holds_enough().await?;
        }
        ensure!(stage.dead_letters().await? == 0, "there are dead letters");
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Of the alerts that were raised meanwhile none is open but for devices that say nothing any more.
async fn nothing_is_wrong_any_more(stage: &Stage) -> Result<()> {
    stage
        .system
        .eventually("no open alerts", || async {
            let open = stage.system.list("/api/alerts?state=open").await?;
            let wrong = open.iter().find(|alert| alert["alert_type"] != "device_offline");
            ensure!(wrong.is_none(), "{wrong:?}");
            Ok(())
        })
        .await
}
