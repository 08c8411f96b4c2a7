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

pub(crate) struct Promise<P> {
    pub(crate) name: &'static str,
    pub(crate) hold: fn(P) -> BoxFuture<'static, ()>,
}

/// Lists promises of a module.
macro_rules! promises {
    ($($name:ident)*) => {
        pub(crate) fn all<P: $crate::ports::Ports>() -> Vec<$crate::promises::Promise<P>> {
            vec![$($crate::promises::Promise {
                name: stringify!($name),
                hold: |ports| Box::pin(async move { $name(&ports).await }),
            }),*]
        }
    };
}
pub(crate) use promises;

/// Those of the metric store.
pub(crate) fn of_metrics<P: Ports>() -> Vec<Promise<P>> {
    metrics::all()
}

pub(crate) fn all<P: Ports>() -> Vec<Promise<P>> {
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
