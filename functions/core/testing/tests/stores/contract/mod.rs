//! What every adapter promises, a function a promise.

mod alerts;
mod archive;
mod commands;
mod devices;
mod messages;
mod metrics;
mod quarantine;
mod recount;
mod rollups;
mod rules;
mod states;

use futures::future::BoxFuture;

use crate::ports::Ports;

pub(crate) struct ContractTest<P> {
    pub(crate) name: &'static str,
    pub(crate) run: fn(P) -> BoxFuture<'static, ()>,
}

/// Lists promises of a module.
macro_rules! contract_tests {
    ($($name:ident)*) => {
        pub(crate) fn all<P: $crate::ports::Ports>() -> Vec<$crate::contract::ContractTest<P>> {
            vec![$($crate::contract::ContractTest {
                name: stringify!($name),
                run: |ports| Box::pin(async move { $name(&ports).await }),
            }),*]
        }
    };
}
pub(crate) use contract_tests;

/// Those of the metric store.
pub(crate) fn metric_store_tests<P: Ports>() -> Vec<ContractTest<P>> {
    metrics::all()
}

pub(crate) fn all<P: Ports>() -> Vec<ContractTest<P>> {
    [
        archive::all(),
        messages::all(),
        metrics::all(),
        quarantine::all(),
        states::all(),
        devices::all(),
        alerts::all(),
        commands::all(),
        recount::all(),
        rollups::all(),
        rules::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
