//! The promises of the ports, held against the adapter in memory and against those to AWS on two
//! emulators that know nothing of each other: what is true on all three leans on none.
//!
//! One test an adapter, not one a promise, so that an emulator starts once. Each promise has stores of
//! its own.
//!
//! The modules are marked as tests for clippy, which allows `unwrap` in those.

#[cfg(test)]
mod emulator;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod given;
#[cfg(test)]
mod ports;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod throughput;

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, stream};
use meter_core::aws::Clients;

use self::emulator::Emulator;
use self::ports::{InMemory, OnAws, Ports};
use self::promises::Promise;

/// Promises under way at once.
const CONCURRENCY: usize = 4;

/// Holds an adapter to every promise but the `exceptions`, which it must break: an exception that is
/// none any more has to go.
async fn hold<P: Ports, F: Future<Output = P>>(new: impl Fn() -> F, exceptions: &[&str]) {
    let run = |promise: Promise<P>| {
        let ports = new();
        async move {
            let kept = tokio::spawn((promise.hold)(ports.await)).await.is_ok();
            (promise.name, kept)
        }
    };
    let all = promises::all::<P>();
    let known = |name: &&&str| !all.iter().any(|promise| promise.name == **name);
    assert_eq!(exceptions.iter().find(known), None, "there is no such promise");
    let answers: Vec<_> = stream::iter(all).map(run).buffer_unordered(CONCURRENCY).collect().await;
    let (excepted, others): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(name, _)| exceptions.contains(name));
    let names = |answers: Vec<(&'static str, bool)>, wanted: bool| -> Vec<_> {
        let answers = answers.into_iter().filter(|(_, kept)| *kept == wanted);
        answers.map(|(name, _)| name).collect()
    };
    let broken = names(others, false);
    assert!(broken.is_empty(), "broken promises, see above: {broken:#?}");
    let kept = names(excepted, true);
    assert!(kept.is_empty(), "kept after all, so no exceptions: {kept:#?}");
}

static STORES_MADE: AtomicUsize = AtomicUsize::new(0);

/// Fresh stores on an emulator.
async fn fresh(endpoint: &str) -> OnAws {
    let number = STORES_MADE.fetch_add(1, Ordering::Relaxed);
    let tables = tables::create(endpoint, &format!("t{number}")).await;
    let bucket = tables::create_bucket(endpoint, &format!("archive-{number}")).await;
    OnAws::new(&Clients::of_emulator(endpoint).await, bucket, &tables)
}

#[tokio::test]
async fn memory_keeps_the_promises_of_the_ports() {
    hold(async || InMemory::default(), &[]).await;
}

#[tokio::test]
async fn aws_keeps_the_promises_of_the_ports_on_ministack() {
    let emulator = Emulator::ministack().await;
    hold(|| fresh(&emulator.url), &[]).await;
}

#[tokio::test]
async fn aws_keeps_the_promises_of_the_ports_on_moto() {
    let emulator = Emulator::moto().await;
    // Its PartiQL takes no parameter in an INSERT, and an UPDATE whose condition is false does not fail.
    let exceptions = ["states_of_one_call_are_saved_or_conflict_alone"];
    hold(|| fresh(&emulator.url), &exceptions).await;
}
