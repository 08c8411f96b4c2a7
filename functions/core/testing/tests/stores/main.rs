//! The promises of the ports, held against the adapter in memory and against those to AWS on two
//! emulators that know nothing of each other: what is true on all three leans on none.
//!
//! One test an adapter, not one a test, so that an emulator starts once. Each test has stores of
//! its own.
//!
//! The modules are marked as tests for clippy, which allows `unwrap` in those.

#[cfg(test)]
mod contract;
#[cfg(test)]
mod due;
#[cfg(test)]
mod emulator;
#[cfg(test)]
mod error_classes;
#[cfg(test)]
mod fake_server;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod history;
#[cfg(test)]
mod ports;
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

use self::contract::ContractTest;
use self::emulator::Emulator;
use self::ports::{AwsPorts, MemoryPorts, Ports};
use self::timestream_server::Timestream;

/// Promises under way at once.
const CONCURRENCY: usize = 4;

/// What is not asked of an emulator, by the names of promises.
#[derive(Default)]
struct KnownFailures {
    /// It breaks these, always: one that it keeps is no exception any more, and has to go from here.
    failing: &'static [&'static str],
    /// It keeps these or not, as it happens.
    skipped: &'static [&'static str],
}

/// Holds an adapter to every test but the known_failures.
async fn run_contract<P: Ports, F: Future<Output = P>>(
    new: impl Fn() -> F,
    known_failures: KnownFailures,
) {
    run_tests(contract::all::<P>(), new, known_failures).await;
}

async fn run_tests<P: Ports, F: Future<Output = P>>(
    mut tests: Vec<ContractTest<P>>,
    new: impl Fn() -> F,
    known_failures: KnownFailures,
) {
    let named = known_failures.failing.iter().chain(known_failures.skipped);
    for name in named {
        let exists = tests.iter().any(|test| test.name == *name);
        assert!(exists, "there is no test {name}");
    }
    tests.retain(|test| !known_failures.skipped.contains(&test.name));
    let run = |test: ContractTest<P>| {
        let ports = new();
        async move {
            let passed = tokio::spawn((test.run)(ports.await)).await.is_ok();
            (test.name, passed)
        }
    };
    let answers: Vec<_> =
        stream::iter(tests).map(run).buffer_unordered(CONCURRENCY).collect().await;
    let unexpected: Vec<_> = answers
        .into_iter()
        .filter(|(name, passed)| *passed == known_failures.failing.contains(name))
        .map(|(name, passed)| {
            format!("{name} is {}", if passed { "passed after all" } else { "broken" })
        })
        .collect();
    assert!(unexpected.is_empty(), "see above: {unexpected:#?}");
}

static STORE_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Fresh stores on an emulator.
async fn new_aws_ports(endpoint: &str) -> AwsPorts {
    new_aws_ports_with(endpoint, None).await
}

/// The same, with the metrics in a Timestream.
async fn new_aws_ports_with(endpoint: &str, timestream: Option<&Timestream>) -> AwsPorts {
    let number = STORE_COUNT.fetch_add(1, Ordering::Relaxed);
    let tables = tables::create(endpoint, &format!("t{number}")).await;
    let bucket = tables::create_bucket(endpoint, &format!("archive-{number}")).await;
    let queue = tables::create_queue(endpoint, &format!("queue-{number}")).await;
    let dynamodb = tables::dynamodb(endpoint).await;
    let clients = Clients::for_emulator(endpoint).await;
    let mut settings =
        settings::Metrics { store: MetricStore::DynamoDb, max_gap_s: 300, rollup_ttl_days: 0 };
    let metrics = match timestream {
        None => ports::metrics(&clients, &tables, &settings).await,
        Some(timestream) => {
            let (database, table) = timestream.create_table(number).await;
            settings.store = MetricStore::Timestream { database, table };
            ports::metrics(&Clients::for_emulator(&timestream.url).await, &tables, &settings).await
        }
    };
    AwsPorts::new(&clients, bucket, &tables, queue, dynamodb, metrics)
}

#[tokio::test]
async fn memory_keeps_the_promises_of_the_ports() {
    run_contract(async || MemoryPorts::default(), KnownFailures::default()).await;
}

#[tokio::test]
async fn aws_keeps_the_promises_of_the_ports_on_ministack() {
    let emulator = Emulator::ministack().await;
    run_contract(|| new_aws_ports(&emulator.url), KnownFailures::default()).await;
}

#[tokio::test]
async fn timestream_keeps_the_promises_of_the_metric_store() {
    let (emulator, timestream) = (Emulator::ministack().await, Timestream::start().await);
    let new = || new_aws_ports_with(&emulator.url, Some(&timestream));
    run_tests(contract::metric_store_tests(), new, KnownFailures::default()).await;
}

#[tokio::test]
async fn aws_keeps_the_promises_of_the_ports_on_moto() {
    let emulator = Emulator::moto().await;
    let known_failures = KnownFailures {
        // Its PartiQL takes no parameter in an INSERT, and an UPDATE whose condition is false does not fail.
        failing: &[
            "states_of_one_call_are_saved_or_conflict_alone",
            "devices_saved_in_one_call_are_due_while_their_states_say_so",
        ],
        // A transaction that it refuses puts whole tables back to what they were before it, and undoes
        // what others have written meanwhile.
        skipped: &[
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
    run_contract(|| new_aws_ports(&emulator.url), known_failures).await;
}
