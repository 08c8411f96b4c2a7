//! The promises of the ports, held against the adapter in memory and against those to AWS on two
//! emulators that know nothing of each other: what is true on all three leans on none.
//!
//! One test an adapter, not one a promise, so that an emulator starts once. Each promise has stores of
//! its own.
//!
//! The modules are marked as tests for clippy, which allows `unwrap` in those.

#[cfg(test)]
mod due;
#[cfg(test)]
mod emulator;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod given;
#[cfg(test)]
mod history;
#[cfg(test)]
mod ports;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod rejected;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod throughput;
#[cfg(test)]
mod timestream_server;
#[cfg(test)]
mod traces;

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, stream};
use meter_aws::Clients;
use meter_runtime::settings::{self, MetricStore};

use self::emulator::Emulator;
use self::ports::{InMemory, OnAws, Ports};
use self::promises::Promise;
use self::timestream_server::Timestream;

/// Promises under way at once.
const CONCURRENCY: usize = 4;

/// What is not asked of an emulator, by the names of promises.
#[derive(Default)]
struct Exceptions {
    /// It breaks these, always: one that it keeps is no exception any more, and has to go from here.
    broken: &'static [&'static str],
    /// It keeps these or not, as it happens.
    left_out: &'static [&'static str],
}

/// Holds an adapter to every promise but the exceptions.
async fn hold<P: Ports, F: Future<Output = P>>(new: impl Fn() -> F, exceptions: Exceptions) {
    hold_to(promises::all::<P>(), new, exceptions).await;
}

async fn hold_to<P: Ports, F: Future<Output = P>>(
    mut promises: Vec<Promise<P>>,
    new: impl Fn() -> F,
    exceptions: Exceptions,
) {
    let named = exceptions.broken.iter().chain(exceptions.left_out);
    for name in named {
        let exists = promises.iter().any(|promise| promise.name == *name);
        assert!(exists, "there is no promise {name}");
    }
    promises.retain(|promise| !exceptions.left_out.contains(&promise.name));
    let run = |promise: Promise<P>| {
        let ports = new();
        async move {
            let kept = tokio::spawn((promise.hold)(ports.await)).await.is_ok();
            (promise.name, kept)
        }
    };
    let answers: Vec<_> =
        stream::iter(promises).map(run).buffer_unordered(CONCURRENCY).collect().await;
    let surprises: Vec<_> = answers
        .into_iter()
        .filter(|(name, kept)| *kept == exceptions.broken.contains(name))
        .map(|(name, kept)| format!("{name} is {}", if kept { "kept after all" } else { "broken" }))
        .collect();
    assert!(surprises.is_empty(), "see above: {surprises:#?}");
}

static STORES_MADE: AtomicUsize = AtomicUsize::new(0);

/// Fresh stores on an emulator.
async fn fresh(endpoint: &str) -> OnAws {
    fresh_with(endpoint, None).await
}

/// The same, with the metrics in a Timestream.
async fn fresh_with(endpoint: &str, timestream: Option<&Timestream>) -> OnAws {
    let number = STORES_MADE.fetch_add(1, Ordering::Relaxed);
    let tables = tables::create(endpoint, &format!("t{number}")).await;
    let bucket = tables::create_bucket(endpoint, &format!("archive-{number}")).await;
    let queue = tables::create_queue(endpoint, &format!("queue-{number}")).await;
    let dynamodb = tables::dynamodb(endpoint).await;
    let clients = Clients::of_emulator(endpoint).await;
    let mut settings =
        settings::Metrics { store: MetricStore::DynamoDb, max_gap_s: 300, rollup_ttl_days: 0 };
    let metrics = match timestream {
        None => ports::metrics(&clients, &tables, &settings).await,
        Some(timestream) => {
            let (database, table) = timestream.create_table(number).await;
            settings.store = MetricStore::Timestream { database, table };
            ports::metrics(&Clients::of_emulator(&timestream.url).await, &tables, &settings).await
        }
    };
    OnAws::new(&clients, bucket, &tables, queue, dynamodb, metrics)
}

#[tokio::test]
async fn memory_keeps_the_promises_of_the_ports() {
    hold(async || InMemory::default(), Exceptions::default()).await;
}

#[tokio::test]
async fn aws_keeps_the_promises_of_the_ports_on_ministack() {
    let emulator = Emulator::ministack().await;
    hold(|| fresh(&emulator.url), Exceptions::default()).await;
}

#[tokio::test]
async fn timestream_keeps_the_promises_of_the_metric_store() {
    let (emulator, timestream) = (Emulator::ministack().await, Timestream::start().await);
    let new = || fresh_with(&emulator.url, Some(&timestream));
    hold_to(promises::of_metrics(), new, Exceptions::default()).await;
}

#[tokio::test]
async fn aws_keeps_the_promises_of_the_ports_on_moto() {
    let emulator = Emulator::moto().await;
    let exceptions = Exceptions {
        // Its PartiQL takes no parameter in an INSERT, and an UPDATE whose condition is false does not fail.
        broken: &[
            "states_of_one_call_are_saved_or_conflict_alone",
            "devices_saved_in_one_call_are_due_while_their_states_say_so",
        ],
        // A transaction that it refuses puts whole tables back to what they were before it, and undoes
        // what others have written meanwhile.
        left_out: &[
            "a_fleet_that_comes_online_at_once_is_counted_exactly",
            "an_id_is_registered_once_however_many_try",
            "many_who_acknowledge_an_alert_are_counted_as_one",
            "configurations_accepted_at_once_are_all_in_force",
            "counts_are_right_when_devices_are_registered_during_recounts",
            // It also copies whole tables for each, which is too slow for a thousand, and on a busy machine for hundreds.
            "there_are_no_more_rules_than_there_may_be",
            "a_sweep_removes_all_alerts_of_one_device_and_their_keys",
        ],
    };
    hold(|| fresh(&emulator.url), exceptions).await;
}
