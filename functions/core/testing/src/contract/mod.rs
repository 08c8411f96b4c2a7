//! The contract suite: what every adapter of the ports must fulfil, one function for each contract.
//!
//! The functions panic where an adapter violates a contract. A test binary runs them on the
//! in-memory stores and, since the AWS SDK is a dev-dependency only, on the adapters to AWS.

// Contracts are test code, where clippy allows this; here it cannot recognize it.
#![allow(clippy::unwrap_used)]

mod acknowledgements;
mod alerts;
mod archive;
mod commands;
mod devices;
mod messages;
mod metrics;
mod ports;
mod quarantine;
mod recount;
mod rollups;
mod rules;
mod states;

use std::future::Future;

use futures::future::BoxFuture;
use futures::{StreamExt, stream};

pub use self::ports::Ports;

struct Contract<P> {
    name: &'static str,
    is_concurrent: bool,
    run: fn(P) -> BoxFuture<'static, ()>,
}

/// Lists the contracts of a module, those last that need concurrent writes.
macro_rules! contracts {
    ($($name:ident)* $(; concurrent: $($concurrent:ident)*)?) => {
        pub(super) fn all<P: $crate::contract::Ports>() -> Vec<$crate::contract::Contract<P>> {
            vec![
                $($crate::contract::contract!($name, false),)*
                $($($crate::contract::contract!($concurrent, true),)*)?
            ]
        }
    };
}
use contracts;

macro_rules! contract {
    ($name:ident, $is_concurrent:literal) => {
        $crate::contract::Contract {
            name: stringify!($name),
            is_concurrent: $is_concurrent,
            run: |ports| Box::pin(async move { $name(&ports).await }),
        }
    };
}
use contract;

/// A selection of contracts, and how to run them.
pub struct Suite<P> {
    contracts: Vec<Contract<P>>,
    known_failures: &'static [&'static str],
    parallelism: usize,
}

impl<P: Ports> Suite<P> {
    /// Selects the contracts of all ports.
    pub fn all() -> Self {
        Self::new(
            [
                archive::all(),
                messages::all(),
                metrics::all(),
                quarantine::all(),
                states::all(),
                devices::all(),
                alerts::all(),
                commands::all(),
                acknowledgements::all(),
                recount::all(),
                rollups::all(),
                rules::all(),
            ]
            .into_iter()
            .flatten()
            .collect(),
        )
    }

    /// Selects the contracts of the metric store.
    pub fn metric_store() -> Self {
        Self::new(metrics::all())
    }

    fn new(contracts: Vec<Contract<P>>) -> Self {
        Self { contracts, known_failures: &[], parallelism: 4 }
    }

    /// Runs one contract at a time, and none that needs concurrent writes.
    pub fn sequential(mut self) -> Self {
        self.contracts.retain(|contract| !contract.is_concurrent);
        self.parallelism = 1;
        self
    }

    /// Expects that contracts fail. One that passes has to be removed from the list.
    ///
    /// # Panics
    ///
    /// If the suite does not contain one of them.
    pub fn with_known_failures(mut self, names: &'static [&'static str]) -> Self {
        for name in names {
            let is_contained = self.contracts.iter().any(|contract| contract.name == *name);
            assert!(is_contained, "no such contract: {name}");
        }
        self.known_failures = names;
        self
    }

    /// Runs each contract on stores of its own, which `new_ports` creates.
    ///
    /// # Panics
    ///
    /// After all contracts have run, if one failed that is not a known failure, or the reverse.
    pub async fn run<F: Future<Output = P>>(self, new_ports: impl Fn() -> F) {
        let run = |contract: Contract<P>| {
            let ports = new_ports();
            async move { (contract.name, tokio::spawn((contract.run)(ports.await)).await.is_ok()) }
        };
        let results: Vec<_> = stream::iter(self.contracts)
            .map(run)
            .buffer_unordered(self.parallelism)
            .collect()
            .await;
        let unexpected: Vec<_> = results
            .into_iter()
            .filter(|(name, has_passed)| *has_passed == self.known_failures.contains(name))
            .map(|(name, has_passed)| {
                format!("{name} {}", if has_passed { "passed" } else { "failed" })
            })
            .collect();
        assert!(unexpected.is_empty(), "unexpected results (panics above): {unexpected:#?}");
    }
}
