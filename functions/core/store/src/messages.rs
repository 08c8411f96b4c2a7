//! The index of the archive, the measurements, and the index of the quarantine.

use std::future::Future;

use jiff::civil::Date;
use meter_domain::archive::Location;
use meter_domain::id::{DeviceId, MessageId, Shard};
use meter_domain::segments::{IndexEntry, MessageSegment, SegmentPosition};
use meter_domain::time::Timestamp;

use super::{BatchWriteError, Page, PageRequest, StoreError};

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
pub struct SegmentQuery {
    /// Whose.
    pub device_id: DeviceId,
    /// The day that [`MessageSegment::ts`] lies in.
    pub day: Date,
    /// From here on.
    pub from: Timestamp,
    /// Up to but without this.
    pub to: Timestamp,
    /// Which way.
    pub order: Order,
    /// Only what comes after this, in the order asked for.
    pub after: Option<SegmentPosition>,
    /// At most so many; the store may answer fewer and still have more.
    pub limit: usize,
    /// Whether what was just written must be among them. Twice the price.
    pub consistent: bool,
}

/// The index of the archive and, unless another metric store is chosen, the time series.
pub trait MessageStore: Send + Sync {
    /// Writes parts; the same part again replaces it. Also remembers the days that they lie in, not
    /// later than the parts themselves. A part that fails does not hold up the others.
    fn put(
        &self,
        segments: &[MessageSegment],
    ) -> impl Future<Output = Result<(), BatchWriteError>> + Send;

    /// The days on which the device has parts (and perhaps some on which it no longer has), ascending.
    fn days(
        &self,
        device_id: &DeviceId,
    ) -> impl Future<Output = Result<Vec<Date>, StoreError>> + Send;

    /// Some parts of a day, and whether there may be more after the last of them.
    fn read(
        &self,
        query: &SegmentQuery,
    ) -> impl Future<Output = Result<(Vec<MessageSegment>, bool), StoreError>> + Send;

    /// Removes parts of a device; those that are not there are no error. The days stay: whoever writes parts
    /// remembers which days are known, and parts of a day that is not known would not be found.
    fn remove(
        &self,
        device_id: &DeviceId,
        segments: &[SegmentPosition],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The head of one message.
    fn get_index_entry(
        &self,
        device_id: &DeviceId,
        ts: Timestamp,
        message_id: MessageId,
    ) -> impl Future<Output = Result<Option<IndexEntry>, StoreError>> + Send;
}

/// A message that could not be read.
#[derive(Debug, Clone, PartialEq)]
pub struct QuarantineEntry {
    /// Its identity.
    pub message_id: MessageId,
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

impl QuarantineEntry {
    /// Its public id: sorts by receipt, and says where it is.
    pub fn id(&self) -> String {
        format!("{}-{}", self.received_at.file_stem(), self.message_id)
    }

    /// The reverse of [`QuarantineEntry::id`].
    pub fn parse_id(id: &str) -> Option<(Timestamp, MessageId)> {
        let (stem, message_id) = id.split_once('-')?;
        Some((Timestamp::from_file_stem(stem).ok()?, MessageId::parse(message_id)?))
    }

    /// Its partition in a day's index: a flood of garbage must not heat one partition.
    pub fn shard(message_id: MessageId) -> Shard {
        Shard::of(message_id.as_bytes())
    }
}

/// The index of the quarantine.
pub trait QuarantineStore: Send + Sync {
    /// Writes entries, one a message: of several receipts the first that was written stands for all, and
    /// what is written again for it replaces it.
    fn put_quarantined(
        &self,
        entries: &[QuarantineEntry],
    ) -> impl Future<Output = Result<(), BatchWriteError>> + Send;

    /// By id, the newest first.
    fn list_quarantined(
        &self,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<QuarantineEntry>, StoreError>> + Send;

    /// One entry.
    fn get_quarantined(
        &self,
        received_at: Timestamp,
        message_id: MessageId,
    ) -> impl Future<Output = Result<Option<QuarantineEntry>, StoreError>> + Send;
}
