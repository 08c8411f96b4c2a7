//! Ports: one small trait a capability, so that a handler asks for no more than it uses.
//!
//! The adapters are in `meter-aws` and, for tests, in `meter-testing`. Both pass the same contract suite.

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

/// Some of a list, and where the rest begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// The position to go on after; none: that was all. Opaque to everybody but the store.
    pub next: Option<String>,
}

/// How much of a list to read.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// Items to answer at most. The store examines at most [`MAX_ITEMS_EXAMINED`] items (about), so that with a
    /// filter a page may be short, even empty, and still have a next.
    pub limit: usize,
    /// A [`Page::next`] of the same list.
    pub after: Option<String>,
}

/// About how many items one request for a page examines.
pub const MAX_ITEMS_EXAMINED: usize = 1_000;

/// A client's name for a request, so that asking twice is asking once (RFC draft Idempotency-Key).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(pub String);

/// Seconds for which an [`IdempotencyKey`] is remembered.
pub const IDEMPOTENCY_TTL_S: i64 = 24 * 3600;

/// What became of something to be made.
#[derive(Debug, Clone, PartialEq)]
pub enum CreateOutcome<T> {
    /// It was made.
    Created,
    /// It was made before, under the same id or [`IdempotencyKey`]; this is it.
    AlreadyExists(T),
    /// Its device is not registered.
    DeviceNotFound,
}

/// Asks the stores whether they answer.
pub trait Probe: Send + Sync {
    /// Each store by name, and whether it answered.
    fn probe(&self) -> impl Future<Output = Vec<(&'static str, Result<(), StoreError>)>> + Send;
}

/// The target of the spans that make a trace.
pub const TRACE_TARGET: &str = "meter::trace";
