//! Ports: one trait for each capability, so that a handler depends on what it uses.
//!
//! `meter-aws` contains the adapters and `meter-testing` in-memory ones for tests. Both pass the
//! same contract suite.

mod alerts;
mod archive;
mod commands;
mod devices;
mod messages;
mod metrics;
mod notifier;
mod recount;
pub mod retry;
mod rollups;
mod rules;
mod states;
mod stores;

use std::collections::BTreeSet;
use std::error::Error;
use std::future::Future;

pub use self::stores::Stores;
use meter_domain::id::MessageId;

pub use self::alerts::{AlertFilter, AlertStore};
pub use self::archive::{Archive, ArchiveListing, VersionedObject};
pub use self::commands::{
    AcknowledgeOutcome, CommandPublisher, CommandStore, PUBLISH_RETRY_DELAY_S, PublishError,
};
pub use self::devices::{CreateDeviceError, DeviceFilter, DeviceStore, FleetCounts};
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

/// A store that did not do what it was asked. The text is for logs, never for clients.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is away, slow, throttling, or it refused: try again later.
    #[error("{operation} failed")]
    Unavailable {
        /// What was asked of it (`dynamodb:BatchWriteItem`).
        operation: &'static str,
        /// What it, or the way to it, said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It answered with something that nobody of this version wrote.
    #[error("{what} cannot be read: {reason}")]
    Corrupt {
        /// Which item or object.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A write under a lock that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody else wrote since it was read: read again and decide again.
    #[error("written by somebody else meanwhile")]
    Conflict,
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

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

/// What was not stored of a batch, and why (one reason of possibly many).
#[derive(Debug, thiserror::Error)]
#[error("{} of a batch were not stored", failed.len())]
pub struct BatchWriteError {
    /// The messages of which at least one part was not stored.
    pub failed: BTreeSet<MessageId>,
    /// What the store said.
    #[source]
    pub source: StoreError,
}

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

/// Returns an error and all of its causes in one line, for the log.
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// The `tracing` target of the spans that form a trace.
pub const TRACE_TARGET: &str = "meter::trace";
