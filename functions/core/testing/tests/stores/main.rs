//! Tests of the adapters: the contract suite on the in-memory stores and on those to AWS with two
//! independent emulators, and what AWS does that no emulator does.
//!
//! An adapter has one test and not one for each contract, so that an emulator starts once.
//!
//! The modules are marked as tests for clippy, which allows `unwrap` in those.

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
mod history;
#[cfg(test)]
mod ports;
#[cfg(test)]
mod publication;
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

use std::sync::atomic::{AtomicUsize, Ordering};

use meter_aws::Clients;
use meter_runtime::settings::{self, MetricStore};
use meter_testing::contract::Suite;
use meter_testing::memory::MemoryStores;

use self::emulator::Emulator;
use self::ports::AwsPorts;
use self::timestream_server::Timestream;

static STORE_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Creates empty stores on an emulator.
async fn new_aws_ports(endpoint: &str) -> AwsPorts {
    new_aws_ports_with(endpoint, None).await
}

/// Creates empty stores on an emulator, with the points in Timestream if one is given.
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
async fn memory_fulfils_the_store_contract() {
    Suite::all().run(async || MemoryStores::new()).await;
}

#[tokio::test]
async fn aws_adapter_fulfils_the_store_contract_on_ministack() {
    let emulator = Emulator::ministack().await;
    Suite::all().run(|| new_aws_ports(&emulator.url)).await;
}

#[tokio::test]
async fn timestream_adapter_fulfils_the_metric_store_contract() {
    let (emulator, timestream) = (Emulator::ministack().await, Timestream::start().await);
    Suite::metric_store().run(|| new_aws_ports_with(&emulator.url, Some(&timestream))).await;
}

#[tokio::test]
async fn aws_adapter_fulfils_the_store_contract_on_moto() {
    let emulator = Emulator::moto().await;
    Suite::all()
        // moto copies all tables for each transaction and restores the copy if the transaction
        // fails. Concurrent writes of other requests are lost then, or fail with HTTP 500.
        .sequential()
        // PartiQL in moto accepts no parameter in an INSERT, and ignores the condition of an
        // UPDATE.
        .with_known_failures(&[
            "conflict_does_not_affect_other_states_in_the_call",
            "devices_saved_in_one_call_are_due_at_their_next_checks",
        ])
        // Copying the tables of earlier contracts as well would take minutes.
        .run(async || {
            emulator.reset().await;
            new_aws_ports(&emulator.url).await
        })
        .await;
}
