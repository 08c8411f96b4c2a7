//! Ports: one trait for each capability, so that a handler depends on what it uses.
//!
//! `meter-aws` contains the adapters and `meter-testing` in-memory ones for tests. Both pass the
//! same contract suite.

mod alerts;
mod archive;
mod commands;
mod devices;
mod error;
mod messages;
mod metrics;
mod notifier;
mod recount;
pub mod retry;
mod rollups;
mod rules;
mod states;
mod stores;

use std::future::Future;

pub use self::alerts::{AlertFilter, AlertStore};
pub use self::archive::{Archive, ArchiveListing, VersionedObject};
pub use self::commands::{
    AcknowledgeOutcome, CommandPublisher, CommandStore, PUBLISH_RETRY_DELAY_S, PublishError,
};
pub use self::devices::{CreateDeviceError, DeviceFilter, DeviceStore, FleetCounts};
pub use self::error::{BatchFailures, BatchWriteError, Cause, StoreError, WriteError, error_chain};
pub use self::messages::{MessageStore, Order, QuarantineEntry, QuarantineStore, SegmentQuery};
pub use self::metrics::{
    MetricStore, PointPage, PointQuery, WindowPage, WindowQuery, WriteSummary,
};
pub use self::notifier::{Notifier, NotifyError};
pub use self::recount::{Counts, Recount, RecountReport};
pub use self::rollups::{
    BucketPage, BucketQuery, HourRollup, RollupBucket, RollupLevel, RollupStore,
};
pub use self::rules::{CreateRuleError, RuleSnapshot, RuleStore};
pub use self::states::{
    INGEST_LAG_TTL_S, IngestLag, IngestLagStore, QueueDepth, StateStore, StateWrite,
};
pub use self::stores::Stores;

/// A part of a list, and the position of the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// In the order of the list.
    pub items: Vec<T>,
    /// The opaque position after which the next page starts; `None` on the last page.
    pub next: Option<String>,
}

/// The size and start of a page.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// The maximum number of items. A page can have fewer, even none, and still have a next page,
    /// since the store examines about [`MAX_ITEMS_EXAMINED`] items at most and filters them.
    pub limit: usize,
    /// [`Page::next`] of the preceding page of the same list.
    pub after: Option<String>,
}

/// The approximate number of items that one request for a page examines.
pub const MAX_ITEMS_EXAMINED: usize = 1_000;

/// The name that a client gives to a request, so that repeating it creates nothing twice (IETF
/// draft Idempotency-Key).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(pub String);

/// Seconds for which an [`IdempotencyKey`] is valid.
pub const IDEMPOTENCY_TTL_S: i64 = 24 * 3600;

/// The result of an idempotent create.
#[derive(Debug, Clone, PartialEq)]
pub enum CreateOutcome<T> {
    /// The entity was created.
    Created,
    /// It was created before, under the same id or [`IdempotencyKey`]; contains that entity.
    AlreadyExists(T),
    /// Its device is not registered.
    DeviceNotFound,
}

/// Checks whether the stores respond.
pub trait Probe: Send + Sync {
    /// Sends a request to each store; returns the names of the stores with the results.
    fn probe(&self) -> impl Future<Output = Vec<(&'static str, Result<(), StoreError>)>> + Send;
}

/// The `tracing` target of the spans that form a trace.
pub const TRACE_TARGET: &str = "meter::trace";
