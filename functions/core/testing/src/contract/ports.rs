//! The ports of one system, as the contracts use them.

use std::future::Future;

use meter_store::{
    AlertStore, Archive, ArchiveListing, CommandStore, DeviceStore, IngestLagStore, MessageStore,
    MetricStore, QuarantineStore, QueueDepth, Recount, RecountReport, RollupStore, RuleStore,
    StateStore,
};

use crate::memory::MemoryStores;

macro_rules! ports {
    ($($accessor:ident: $port:ident $(+ $more:ident)*;)+) => {
        /// Adapters of the ports over the same stores, and what a contract does to these stores.
        #[allow(unused_parens, reason = "needed by the accessor with two bounds")]
        pub trait Ports: Clone + Send + Sync + 'static {
            $(fn $accessor(&self) -> &(impl $port $(+ $more)*);)+

            /// Recounts the devices and, if they are counted, the alerts.
            fn recount(&self) -> impl Future<Output = Vec<RecountReport>> + Send;

            /// Adds 3 to the counter of active devices and 2 to that of online ones.
            fn corrupt_counts(&self) -> impl Future<Output = ()> + Send;

            /// Sends messages to the ingest queue.
            fn send(&self, messages: u64) -> impl Future<Output = ()> + Send;

            /// Receives a message from the ingest queue without deleting it.
            fn receive(&self) -> impl Future<Output = ()> + Send;
        }

        #[allow(unused_parens, reason = "needed by the accessor with two bounds")]
        impl Ports for MemoryStores {
            $(fn $accessor(&self) -> &(impl $port $(+ $more)*) {
                self
            })+

            async fn recount(&self) -> Vec<RecountReport> {
                Recount::recount(self).await.unwrap()
            }

            async fn corrupt_counts(&self) {
                MemoryStores::corrupt_counts(self);
            }

            async fn send(&self, messages: u64) {
                self.set_depth(messages);
            }

            async fn receive(&self) {}
        }
    };
}

ports! {
    archive: Archive + ArchiveListing;
    messages: MessageStore;
    quarantine: QuarantineStore;
    metrics: MetricStore;
    rollups: RollupStore;
    states: StateStore;
    ingest_lag: IngestLagStore;
    devices: DeviceStore;
    alerts: AlertStore;
    commands: CommandStore;
    rules: RuleStore;
    queue: QueueDepth;
}
