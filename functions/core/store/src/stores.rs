//! The bundle of all ports.

use crate::{
    AlertStore, Archive, ArchiveListing, CommandPublisher, CommandStore, DeviceStore,
    IngestLagStore, MessageStore, MetricStore, Notifier, QuarantineStore, QueueDepth, Recount,
    RollupStore, RuleStore, StateStore,
};

/// The ports of one system, so that a use case takes one type parameter.
///
/// Each accessor returns an adapter. Adapters are cheap to clone and share their connections.
pub trait Stores: Clone + Send + Sync + 'static {
    /// Objects of the archive.
    type Archive: Archive + ArchiveListing;
    /// Message segments, the quarantine index and rollups.
    type Messages: MessageStore + QuarantineStore + RollupStore;
    /// Points and windows.
    type Metrics: MetricStore;
    /// Device states and ingest lag.
    type States: StateStore + IngestLagStore;
    /// The registry of devices.
    type Devices: DeviceStore + Recount;
    /// Alerts.
    type Alerts: AlertStore + Recount;
    /// Alert rules.
    type Rules: RuleStore;
    /// Commands.
    type Commands: CommandStore;
    /// Publication of commands and notifications.
    type Publisher: CommandPublisher + Notifier;
    /// The ingest queue.
    type Queue: QueueDepth;

    /// Returns the archive.
    fn archive(&self) -> &Self::Archive;
    /// Returns the store of messages, quarantine and rollups.
    fn messages(&self) -> &Self::Messages;
    /// Returns the metric store.
    fn metrics(&self) -> &Self::Metrics;
    /// Returns the store of device states and ingest lag.
    fn states(&self) -> &Self::States;
    /// Returns the registry.
    fn devices(&self) -> &Self::Devices;
    /// Returns the store of alerts.
    fn alerts(&self) -> &Self::Alerts;
    /// Returns the store of alert rules.
    fn rules(&self) -> &Self::Rules;
    /// Returns the store of commands.
    fn commands(&self) -> &Self::Commands;
    /// Returns the publisher of commands and notifications.
    fn publisher(&self) -> &Self::Publisher;
    /// Returns the ingest queue.
    fn queue(&self) -> &Self::Queue;
}
