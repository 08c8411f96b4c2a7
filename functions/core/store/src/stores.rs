use crate::{
    AlertStore, Archive, ArchiveListing, CommandPublisher, CommandStore, DeviceStore,
    IngestLagStore, MessageStore, MetricStore, Notifier, QuarantineStore, QueueDepth, Recount,
    RollupStore, RuleStore, StateStore,
};

/// The ports of one system, so that a use case takes one type parameter.
///
/// Each accessor returns an adapter. Adapters are cheap to clone and share their connections.
pub trait Stores: Clone + Send + Sync + 'static {
    /// The objects of the archive.
    type Archive: Archive + ArchiveListing;
    /// The index of the archive with the samples, the index of the quarantine, and the rollups.
    type Messages: MessageStore + QuarantineStore + RollupStore;
    /// The time series.
    type Metrics: MetricStore;
    /// The states of devices, and the lag of ingest.
    type States: StateStore + IngestLagStore;
    /// The registry of devices.
    type Devices: DeviceStore + Recount;
    /// The alerts.
    type Alerts: AlertStore + Recount;
    /// The alert rules.
    type Rules: RuleStore;
    /// The commands.
    type Commands: CommandStore;
    /// Where commands and notifications leave.
    type Publisher: CommandPublisher + Notifier;
    /// The queue in front of ingest.
    type Queue: QueueDepth;

    /// See [`Stores::Archive`].
    fn archive(&self) -> &Self::Archive;
    /// See [`Stores::Messages`].
    fn messages(&self) -> &Self::Messages;
    /// See [`Stores::Metrics`].
    fn metrics(&self) -> &Self::Metrics;
    /// See [`Stores::States`].
    fn states(&self) -> &Self::States;
    /// See [`Stores::Devices`].
    fn devices(&self) -> &Self::Devices;
    /// See [`Stores::Alerts`].
    fn alerts(&self) -> &Self::Alerts;
    /// See [`Stores::Rules`].
    fn rules(&self) -> &Self::Rules;
    /// See [`Stores::Commands`].
    fn commands(&self) -> &Self::Commands;
    /// See [`Stores::Publisher`].
    fn publisher(&self) -> &Self::Publisher;
    /// See [`Stores::Queue`].
    fn queue(&self) -> &Self::Queue;
}
