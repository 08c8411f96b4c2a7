//! The ports of message segments and of the quarantine index.

use std::future::Future;

use jiff::civil::Date;
use meter_domain::archive::Location;
use meter_domain::id::{DeviceId, MessageId, Shard};
use meter_domain::segments::{IndexEntry, MessageSegment, SegmentPosition};
use meter_domain::time::Timestamp;

use super::{BatchWriteError, Page, PageRequest, StoreError};

/// The direction of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// A range of message segments of one device and one day (UTC).
#[derive(Debug, Clone)]
pub struct SegmentQuery {
    /// The device.
    pub device_id: DeviceId,
    /// The day of [`MessageSegment::ts`].
    pub day: Date,
    /// The start of the range, inclusive.
    pub from: Timestamp,
    /// The end of the range, exclusive.
    pub to: Timestamp,
    /// The direction of the read.
    pub order: Order,
    /// The position after which the read continues, in the direction of the read.
    pub after: Option<SegmentPosition>,
    /// The maximum number of segments. The store may return fewer although more exist.
    pub limit: usize,
    /// Whether the read is strongly consistent, at twice the price.
    pub consistent: bool,
}

/// Stores the index of the archive and, in the message-backed metric store, the samples.
pub trait MessageStore: Send + Sync {
    /// Writes segments and the days on which they lie; a segment with the same position is
    /// replaced.
    ///
    /// The days are written before or with the segments. A segment that fails does not affect the
    /// others.
    fn put(
        &self,
        segments: &[MessageSegment],
    ) -> impl Future<Output = Result<(), BatchWriteError>> + Send;

    /// Returns the days on which the device has, or once had, segments, in ascending order.
    fn days(
        &self,
        device_id: &DeviceId,
    ) -> impl Future<Output = Result<Vec<Date>, StoreError>> + Send;

    /// Returns segments of a day, and whether more may follow.
    fn read(
        &self,
        query: &SegmentQuery,
    ) -> impl Future<Output = Result<(Vec<MessageSegment>, bool), StoreError>> + Send;

    /// Deletes segments of a device; missing ones are ignored.
    ///
    /// The days are kept, because processes cache which days they have written.
    fn remove(
        &self,
        device_id: &DeviceId,
        segments: &[SegmentPosition],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the index entry of a message.
    fn get_index_entry(
        &self,
        device_id: &DeviceId,
        ts: Timestamp,
        message_id: MessageId,
    ) -> impl Future<Output = Result<Option<IndexEntry>, StoreError>> + Send;
}

/// A message that failed validation.
#[derive(Debug, Clone, PartialEq)]
pub struct QuarantineEntry {
    /// The id of the message.
    pub message_id: MessageId,
    /// The topic as received, unvalidated.
    pub topic: String,
    /// The receipt time of the broker.
    pub received_at: Timestamp,
    /// The parse error.
    pub reason: String,
    /// The length of the payload in bytes.
    pub size: u64,
    /// The location of the payload in the archive.
    pub location: Location,
}

impl QuarantineEntry {
    /// Returns the public id, which sorts by receipt time and contains the key of the entry.
    pub fn id(&self) -> String {
        format!("{}-{}", self.received_at.file_stem(), self.message_id)
    }

    /// Parses an id that [`QuarantineEntry::id`] returned.
    pub fn parse_id(id: &str) -> Option<(Timestamp, MessageId)> {
        let (stem, message_id) = id.split_once('-')?;
        Some((Timestamp::from_file_stem(stem).ok()?, MessageId::parse(message_id)?))
    }

    /// Returns the shard of an entry in the index of its day, which spreads a flood of invalid
    /// messages over partitions.
    pub fn shard(message_id: MessageId) -> Shard {
        Shard::of(message_id.as_bytes())
    }
}

/// Stores the index of the quarantine.
pub trait QuarantineStore: Send + Sync {
    /// Writes one entry for each message; the first receipt time is kept, the other fields are
    /// replaced.
    fn put_quarantined(
        &self,
        entries: &[QuarantineEntry],
    ) -> impl Future<Output = Result<(), BatchWriteError>> + Send;

    /// Returns a page of entries, newest first.
    fn list_quarantined(
        &self,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<QuarantineEntry>, StoreError>> + Send;

    /// Returns an entry.
    fn get_quarantined(
        &self,
        received_at: Timestamp,
        message_id: MessageId,
    ) -> impl Future<Output = Result<Option<QuarantineEntry>, StoreError>> + Send;
}
