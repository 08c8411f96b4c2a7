//! Ports: one small trait a capability, so that a handler asks for no more than it uses.
//!
//! [`memory`] has an adapter of each with the semantics of the real one (conditions, pages, partial
//! failures); the adapters on AWS are in [`crate::aws`]. Both pass the same contract tests.

pub mod memory;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::future::Future;

use bytes::Bytes;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::alert::{Alert, Severity};
use crate::archive::Location;
use crate::command::{AckResult, Command, CommandStatus, Ota};
use crate::device::{Device, DeviceStatus};
use crate::id::{DeviceId, Mid, Shard};
use crate::message::Category;
use crate::metric::{MetricName, Point};
use crate::state::{Connection, DeviceState};
use crate::time::Timestamp;

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
    /// Items to answer at most. The store examines at most [`READ_BUDGET`] items (about), so that with a
    /// filter a page may be short, even empty, and still have a next.
    pub limit: usize,
    /// A [`Page::next`] of the same list.
    pub after: Option<String>,
}

/// About how many items one request for a page examines.
pub const READ_BUDGET: usize = 1_000;

// ---------------------------------------------------------------- archive

/// Keeps objects of bytes.
pub trait Archive: Send + Sync {
    /// Writes an object; the same key again replaces it with the same bytes.
    fn put(
        &self,
        key: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads the bytes at a location; none when there is no such object.
    fn get(
        &self,
        location: &Location,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;
}

// ---------------------------------------------------------------- messages

/// Seconds of device time that one part of a message covers at most. Parts are cut at multiples of it
/// since the epoch, so that a range of points is found by reading from the multiple before its start
/// to the one after its stop, whatever the messages look like. It divides a day.
pub const PART_SECONDS: u32 = 300;

/// A part of a message: an item of the table `messages`. A message is one head, whose time is the
/// envelope's, and a tail for each other [`PART_SECONDS`] interval that it has samples in.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Whose.
    pub device_id: DeviceId,
    /// Of which message.
    pub mid: Mid,
    /// Head: the envelope's time. Tail: the start of its interval.
    pub ts: Timestamp,
    /// For the head: what the message is and where its bytes are.
    pub head: Option<Head>,
    /// The envelope's time, which decides between two messages that claim a point.
    pub claim_ts: Timestamp,
    /// The samples whose times lie in the interval of `ts`. Their order means nothing: metric, time and
    /// ordinal say which point each is.
    pub samples: Vec<Sample>,
    /// When the store may forget it, in seconds since the epoch.
    pub ttl: Option<i64>,
}

/// What a message is, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// What it is about.
    pub category: Category,
    /// When the broker had it.
    pub received_at: Timestamp,
    /// Its payload's length in bytes.
    pub size: u64,
    /// Where it is in the archive.
    pub location: Location,
}

/// A measurement as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What.
    pub metric: MetricName,
    /// When.
    pub time: Timestamp,
    /// See [`crate::metric::PointKey::ordinal`].
    pub ordinal: u16,
    /// How much; finite.
    pub value: f64,
    /// In what.
    pub unit: Option<String>,
}

/// Where a part stands among those of its device: by time, then by message, head before tail.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartPosition {
    /// See [`Part::ts`].
    pub ts: Timestamp,
    /// See [`Part::mid`].
    pub mid: Mid,
    /// Whether it is a tail.
    pub tail: bool,
}

/// Which way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// Which parts of one device and one day (UTC) to read.
#[derive(Debug, Clone)]
pub struct PartQuery {
    /// Whose.
    pub device_id: DeviceId,
    /// The day that [`Part::ts`] lies in.
    pub day: Date,
    /// From here on.
    pub from: Timestamp,
    /// Up to but without this.
    pub to: Timestamp,
    /// Which way.
    pub order: Order,
    /// Only what comes after this, in the order asked for.
    pub after: Option<PartPosition>,
    /// At most so many; the store may answer fewer and still have more.
    pub limit: usize,
}

/// What was not stored of a batch, and why (one reason of possibly many).
#[derive(Debug, thiserror::Error)]
#[error("{} of a batch were not stored", failed.len())]
pub struct NotStored {
    /// The messages of which at least one part was not stored.
    pub failed: BTreeSet<Mid>,
    /// What the store said.
    #[source]
    pub source: StoreError,
}

/// The index of the archive and, unless another metric store is chosen, the time series.
pub trait MessageStore: Send + Sync {
    /// Writes parts; the same part again replaces it. Also remembers the days that they lie in, not
    /// later than the parts themselves. A part that fails does not hold up the others.
    fn put(&self, parts: &[Part]) -> impl Future<Output = Result<(), NotStored>> + Send;

    /// The days on which the device has parts (and perhaps some on which it no longer has), ascending.
    fn days(
        &self,
        device_id: &DeviceId,
    ) -> impl Future<Output = Result<Vec<Date>, StoreError>> + Send;

    /// Some parts of a day, and whether there may be more after the last of them.
    fn read(
        &self,
        query: &PartQuery,
    ) -> impl Future<Output = Result<(Vec<Part>, bool), StoreError>> + Send;

    /// The head of one message.
    fn head(
        &self,
        device_id: &DeviceId,
        ts: Timestamp,
        mid: Mid,
    ) -> impl Future<Output = Result<Option<Head>, StoreError>> + Send;
}

/// A message that could not be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Quarantined {
    /// Its identity.
    pub mid: Mid,
    /// The topic as received; anything at all.
    pub topic: String,
    /// When the broker had it.
    pub received_at: Timestamp,
    /// Why it cannot be read.
    pub reason: String,
    /// Its payload's length in bytes.
    pub size: u64,
    /// Where its bytes are.
    pub location: Location,
}

impl Quarantined {
    /// Its public id: sorts by receipt, and says where it is.
    pub fn id(&self) -> String {
        format!("{}-{}", self.received_at.file_stem(), self.mid)
    }

    /// The reverse of [`Quarantined::id`].
    pub fn parse_id(id: &str) -> Option<(Timestamp, Mid)> {
        let (stem, mid) = id.split_once('-')?;
        Some((Timestamp::from_file_stem(stem).ok()?, Mid::parse(mid)?))
    }

    /// Its partition in a day's index: a flood of garbage must not heat one partition.
    pub fn shard(mid: Mid) -> Shard {
        Shard::of(mid.as_bytes())
    }
}

/// The index of the quarantine.
pub trait QuarantineStore: Send + Sync {
    /// Writes entries; the same one again replaces it.
    fn put_quarantined(
        &self,
        entries: &[Quarantined],
    ) -> impl Future<Output = Result<(), NotStored>> + Send;

    /// By id, the newest first.
    fn list_quarantined(
        &self,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Quarantined>, StoreError>> + Send;

    /// One entry.
    fn get_quarantined(
        &self,
        received_at: Timestamp,
        mid: Mid,
    ) -> impl Future<Output = Result<Option<Quarantined>, StoreError>> + Send;
}

// ---------------------------------------------------------------- state

/// A state to write, and what it was.
#[derive(Debug, Clone)]
pub struct StateWrite {
    /// As it should be; its version is still the one that was read.
    pub state: DeviceState,
    /// The connection as it was read: for a registered device the fleet's counts follow the change.
    pub connection_before: Connection,
}

/// Device states, under optimistic locks.
pub trait StateStore: Send + Sync {
    /// The states that exist, read consistently.
    fn get_many(
        &self,
        ids: &[DeviceId],
    ) -> impl Future<Output = Result<HashMap<DeviceId, DeviceState>, StoreError>> + Send;

    /// Writes each state if its version is still the stored one (0: none is stored), with the version
    /// after it. One answer a write, in order; one that fails does not hold up the others.
    fn save_many(
        &self,
        writes: &[StateWrite],
    ) -> impl Future<Output = Vec<Result<(), WriteError>>> + Send;
}

// ---------------------------------------------------------------- registry

/// Which devices.
#[derive(Debug, Clone, Default)]
pub struct DeviceFilter {
    /// With this status.
    pub status: Option<DeviceStatus>,
    /// Of exactly this type.
    pub device_type: Option<String>,
    /// Whose id begins with this. The list is then cut into pages by `device_id`.
    pub id_prefix: Option<String>,
}

/// Why a device was not registered.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There is one of this id.
    #[error("exists")]
    Exists,
    /// One of this id was deleted and what hangs on it is not swept yet: sweep, then try again.
    #[error("is being deleted")]
    BeingDeleted,
    /// See [`WriteError::Conflict`].
    #[error("written by somebody else meanwhile")]
    Conflict,
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The fleet in numbers; exact, since they change in the transactions that change the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetCounts {
    /// Registered devices by status.
    pub by_status: BTreeMap<DeviceStatus, u64>,
    /// Registered devices by connection.
    pub by_connection: BTreeMap<Connection, u64>,
}

/// The registry.
pub trait DeviceStore: Send + Sync {
    /// Registers a device, in one transaction with its state (`registered`, under the version read)
    /// and the fleet's counts.
    fn create(
        &self,
        device: &Device,
        state: &DeviceState,
    ) -> impl Future<Output = Result<(), CreateError>> + Send;

    /// A registered device, read consistently.
    fn get(&self, id: &DeviceId)
    -> impl Future<Output = Result<Option<Device>, StoreError>> + Send;

    /// Replaces `before` by `after`, with the revision after that of `before`, if that is still the stored
    /// one; counts follow the status.
    fn update(
        &self,
        before: &Device,
        after: &Device,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Newest first; with an id prefix in the order of ids.
    fn list(
        &self,
        filter: &DeviceFilter,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Device>, StoreError>> + Send;

    /// First half of a delete, in one transaction: leaves a tombstone in place of the row, takes the
    /// device out of the counts, and marks its state (under the version read) as not registered, with
    /// an empty outbox.
    fn bury(
        &self,
        device: &Device,
        state: &DeviceState,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Whether there is a tombstone.
    fn is_buried(&self, id: &DeviceId) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Second half of a delete, when what hung on the device is swept: removes the tombstone, if there
    /// is one.
    fn forget(&self, id: &DeviceId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The fleet in numbers.
    fn counts(&self) -> impl Future<Output = Result<FleetCounts, StoreError>> + Send;
}

// ---------------------------------------------------------------- alerts and commands

/// A client's name for a request, so that asking twice is asking once (RFC draft Idempotency-Key).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(pub String);

/// Seconds for which an [`IdempotencyKey`] is remembered.
pub const IDEMPOTENCY_SECONDS: i64 = 24 * 3600;

/// What became of something to be made.
#[derive(Debug, Clone, PartialEq)]
pub enum Made<T> {
    /// It was made.
    New,
    /// It was made before, under the same id or [`IdempotencyKey`]; this is it.
    Already(T),
    /// Its device is not registered.
    NoDevice,
}

/// Which alerts.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// Of this device; none: of the fleet.
    pub device_id: Option<DeviceId>,
    /// Seen by somebody, or not.
    pub acknowledged: Option<bool>,
    /// Exactly so bad.
    pub severity: Option<Severity>,
}

/// Alerts.
pub trait AlertStore: Send + Sync {
    /// Raises an alert, in one transaction with the count, if its device is registered.
    fn open(
        &self,
        alert: &Alert,
        key: Option<&IdempotencyKey>,
    ) -> impl Future<Output = Result<Made<Alert>, StoreError>> + Send;

    /// Newest first.
    fn list(
        &self,
        filter: &AlertFilter,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Alert>, StoreError>> + Send;

    /// Marks it as seen; the alert as it is then (unchanged when it was seen before), none if there is
    /// no such alert.
    fn acknowledge(
        &self,
        alert_id: Uuid,
        at: Timestamp,
    ) -> impl Future<Output = Result<Option<Alert>, StoreError>> + Send;

    /// Marks its cause as ended, unless it is marked already or there is no such alert.
    fn resolve(
        &self,
        device_id: &DeviceId,
        alert_id: Uuid,
        at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes some of a device's alerts, counts included; whether there may be more.
    fn sweep(&self, device_id: &DeviceId) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// How many of the fleet's alerts nobody has seen.
    fn unacknowledged(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// What became of an answer to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Finished {
    /// It was taken; the command as it is now.
    Now(Command),
    /// There was one before, which stands.
    Before(Command),
    /// There is no such command.
    Unknown,
}

/// Commands.
pub trait CommandStore: Send + Sync {
    /// Stores a command if its device is registered.
    fn create(
        &self,
        command: &Command,
        key: Option<&IdempotencyKey>,
    ) -> impl Future<Output = Result<Made<Command>, StoreError>> + Send;

    /// Notes that the broker has it.
    fn published(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whose command this is.
    fn device_of(
        &self,
        cmd_id: Uuid,
    ) -> impl Future<Output = Result<Option<DeviceId>, StoreError>> + Send;

    /// Newest first.
    fn list(
        &self,
        device_id: &DeviceId,
        status: Option<CommandStatus>,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Command>, StoreError>> + Send;

    /// Takes the first answer (a late one after `timeout`, too). When `update_config` is accepted, its
    /// parameters become configuration in force in the same transaction.
    fn finish(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        result: AckResult,
        detail: Option<&str>,
        at: Timestamp,
    ) -> impl Future<Output = Result<Finished, StoreError>> + Send;

    /// Moves a `start_ota` on, if [`Ota::is_advanced_by`] says so; else nothing changes.
    fn advance_ota(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        ota: &Ota,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes some of a device's commands; whether there may be more.
    fn sweep(&self, device_id: &DeviceId) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// Why a command did not reach the broker.
#[derive(Debug, thiserror::Error)]
#[error("the broker did not take it")]
pub struct PublishError(#[source] pub Box<dyn Error + Send + Sync>);

/// Hands commands to the broker.
pub trait CommandPublisher: Send + Sync {
    /// Publishes to the device's command topic at QoS 1.
    fn publish(
        &self,
        device_id: &DeviceId,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;
}

/// Asks the stores whether they answer.
pub trait Probe: Send + Sync {
    /// Each store by name, and whether it answered.
    fn probe(&self) -> impl Future<Output = Vec<(&'static str, Result<(), StoreError>)>> + Send;
}

impl Point {
    /// The point that a sample of a part is.
    pub fn of(part: &Part, sample: &Sample) -> Self {
        Self {
            key: crate::metric::PointKey {
                time: sample.time,
                metric: sample.metric.clone(),
                ordinal: sample.ordinal,
            },
            value: sample.value,
            unit: sample.unit.clone(),
            claim: crate::metric::Claim { ts: part.claim_ts, mid: part.mid },
        }
    }
}
