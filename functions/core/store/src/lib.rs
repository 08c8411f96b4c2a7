//! Ports: one small trait a capability, so that a handler asks for no more than it uses.
//!
//! The adapters are in `meter-aws` and, for tests, in `meter-testing`. Both pass the same contract suite.

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

/// An error and its causes in one line, for the log.
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// The target of the spans that make a trace.
pub const TRACE_TARGET: &str = "meter::trace";
