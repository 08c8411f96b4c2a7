//! The index of the archive and the samples, in the table `messages`.
//!
//! | item | pk | sk |
//! |---|---|---|
//! | first segment of a message | `{device_id}#{YYYY-MM-DD}` | `{ts}#{message_id}` |
//! | further segment of a message | `{device_id}#{YYYY-MM-DD}` | `{ts}#{message_id}#s` |
//! | day index entry | `{device_id}` | `{YYYY-MM-DD}`, or `{YYYY-MM-DD}#{last day}` |
//!
//! Each day is a partition, so that a device with a long history is no hot key; no device id
//! contains `#`. The day index entry of segments with a `ttl` has the last day on which they exist:
//! entries of the same day with different last days are separate items, so that none shortens the
//! life of another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::Date;
use meter_domain::archive::Location;
use meter_domain::id::{DeviceId, MessageId};
use meter_domain::message::Category;
use meter_domain::segments::{IndexEntry, MessageSegment, SegmentPosition};
use meter_domain::time::Timestamp;
use meter_store::{BatchFailures, BatchWriteError, MessageStore, Order, SegmentQuery, StoreError};
use serde::{Deserialize, Serialize};

use super::batch::{self, Key, UnwrittenItems};
use super::day_cache::DayCache;
use super::item::{Item, decode, encode, text};
use super::samples;
use super::table::{Table, names, values};
use crate::Clients;
use crate::error::classify;
use crate::settings::Tables;

/// Implements [`MessageStore`], [`QuarantineStore`](meter_store::QuarantineStore) and
/// [`RollupStore`](meter_store::RollupStore) with the table `messages`.
#[derive(Debug, Clone)]
pub struct Messages {
    pub(super) table: Table,
    pub(super) day_cache: Arc<DayCache>,
}

impl Messages {
    /// Creates the adapter.
    pub fn new(clients: &Clients, tables: &Tables) -> Self {
        Self {
            table: Table::with_sort_key(clients, &tables.messages, "pk", "sk"),
            day_cache: Arc::default(),
        }
    }

    /// Writes items, each of one message, and the day index entry that each of them needs.
    ///
    /// An index entry without items does no harm, but items without their entry are not found:
    /// a message of which any write fails is reported as failed. `failures` holds the messages that
    /// could not be encoded.
    pub(super) async fn put_with_day_index(
        &self,
        items: Vec<(MessageId, Item, DayIndexEntry)>,
        mut failures: BatchFailures,
    ) -> Result<(), BatchWriteError> {
        let mut owners: BTreeMap<Key, BTreeSet<MessageId>> = BTreeMap::new();
        let mut puts = Vec::with_capacity(items.len());
        let mut entries = BTreeMap::new();
        for (message_id, item, entry) in items {
            let entry_key = entry.key();
            if !self.day_cache.contains(&entry_key) {
                owners.entry(entry_key.clone()).or_default().insert(message_id);
                entries.entry(entry_key).or_insert(entry);
            }
            owners.entry(self.table.key_text_of(&item)).or_default().insert(message_id);
            puts.push(item);
        }
        let owners_of = |key: &Key| owners.get(key).into_iter().flatten().copied();
        for (key, entry) in &entries {
            match encode(entry) {
                Ok(item) => puts.push(item),
                Err(error) => failures.add(owners_of(key), error),
            }
        }
        let unwritten = match batch::put_all(&self.table, puts).await {
            Ok(()) => BTreeSet::new(),
            Err(UnwrittenItems { keys, source }) => {
                failures.add(keys.iter().flat_map(owners_of), source);
                keys
            }
        };
        for key in entries.into_keys().filter(|key| !unwritten.contains(key)) {
            self.day_cache.insert(key);
        }
        failures.into_result()
    }
}

/// The index entry of a day with segments.
#[derive(Debug, Serialize)]
pub(super) struct DayIndexEntry {
    pk: String,
    sk: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<i64>,
}

impl DayIndexEntry {
    /// Creates the entry for items of `day` that are deleted at `ttl`, in seconds since the epoch.
    /// The entry is deleted at the end of the day of `ttl`.
    pub(super) fn new(pk: String, day: Date, ttl: Option<i64>) -> Self {
        let end = ttl.map(|ttl| {
            let at = Timestamp::EPOCH.plus_seconds(ttl);
            (at.day(), at.floor(DAY_SECONDS).plus_seconds(i64::from(DAY_SECONDS)))
        });
        Self {
            pk,
            sk: end.map_or(day.to_string(), |(last_day, _)| format!("{day}#{last_day}")),
            ttl: end.map(|(_, end)| end.as_seconds()),
        }
    }

    fn key(&self) -> Key {
        (self.pk.clone(), self.sk.clone())
    }

    /// Parses the day from the sort key of an entry.
    pub(super) fn day(sk: &str) -> Result<Date, StoreError> {
        let day = sk.get(.."YYYY-MM-DD".len()).and_then(|day| day.parse().ok());
        day.ok_or_else(|| StoreError::Corrupt {
            what: format!("day index entry {sk}"),
            reason: "the sort key has no date".to_owned(),
        })
    }
}

const DAY_SECONDS: u32 = 24 * 3600;

#[derive(Debug, Serialize, Deserialize)]
struct SegmentItem {
    pk: String,
    sk: String,
    #[serde(flatten)]
    index_entry: Option<IndexEntryAttributes>,
    /// Omitted if it is the time in the sort key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    envelope_ts: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    samples: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct IndexEntryAttributes {
    category: Category,
    received_at: Timestamp,
    size: u64,
    object: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member: Option<(u64, u64)>,
}

fn partition(device_id: &DeviceId, day: Date) -> String {
    format!("{device_id}#{day}")
}

fn sort_key(position: &SegmentPosition) -> String {
    let suffix = if position.is_continuation { "#s" } else { "" };
    format!("{}#{}{suffix}", position.ts.key(), position.message_id)
}

fn parse_sort_key(sk: &str) -> Option<SegmentPosition> {
    let (ts, rest) = sk.split_once('#')?;
    let (message_id, is_continuation) = match rest.strip_suffix("#s") {
        Some(message_id) => (message_id, true),
        None => (rest, false),
    };
    Some(SegmentPosition {
        ts: Timestamp::parse(ts).ok()?,
        message_id: MessageId::parse(message_id)?,
        is_continuation,
    })
}

fn to_item(segment: &MessageSegment) -> Result<Item, StoreError> {
    let samples = (!segment.samples.is_empty())
        .then(|| samples::encode(segment.ts, &segment.samples))
        .transpose()
        .map_err(|error| StoreError::invalid("encoding of samples", error))?;
    encode(&SegmentItem {
        pk: partition(&segment.device_id, segment.ts.day()),
        sk: sort_key(&SegmentPosition {
            ts: segment.ts,
            message_id: segment.message_id,
            is_continuation: segment.index_entry.is_none(),
        }),
        index_entry: segment.index_entry.clone().map(|index_entry| IndexEntryAttributes {
            category: index_entry.category,
            received_at: index_entry.received_at,
            size: index_entry.size,
            object: index_entry.location.object,
            member: index_entry.location.member,
        }),
        envelope_ts: (segment.envelope_ts != segment.ts).then_some(segment.envelope_ts),
        samples,
        ttl: segment.ttl,
    })
}

fn from_item(device_id: &DeviceId, item: Item) -> Result<MessageSegment, StoreError> {
    let item: SegmentItem = decode(item)?;
    let corrupt = |reason: String| StoreError::Corrupt {
        what: format!("item {} {}", item.pk, item.sk),
        reason,
    };
    let position =
        parse_sort_key(&item.sk).ok_or_else(|| corrupt("the sort key is invalid".to_owned()))?;
    if position.is_continuation == item.index_entry.is_some() {
        return Err(corrupt("the sort key does not match the index entry".to_owned()));
    }
    let samples = (item.samples.as_deref())
        .map(|text| samples::decode(position.ts, text))
        .transpose()
        .map_err(|reason| corrupt(format!("samples: {reason}")))?;
    Ok(MessageSegment {
        device_id: device_id.clone(),
        message_id: position.message_id,
        ts: position.ts,
        index_entry: item.index_entry.map(|index_entry| IndexEntry {
            category: index_entry.category,
            received_at: index_entry.received_at,
            size: index_entry.size,
            location: Location { object: index_entry.object, member: index_entry.member },
        }),
        envelope_ts: item.envelope_ts.unwrap_or(position.ts),
        samples: samples.unwrap_or_default(),
        ttl: item.ttl,
    })
}

/// A range of sort keys.
#[derive(Debug, PartialEq)]
struct SortKeyRange {
    /// At or below the first key.
    low: String,
    /// At or above the last key.
    high: String,
    /// The key after which to start, between `low` and `high`.
    after: Option<String>,
}

/// Returns the sort keys of a query; `None` if the range is empty.
fn sort_key_range(query: &SegmentQuery) -> Option<SortKeyRange> {
    // A time alone sorts below all keys of its instant and above all keys of earlier instants, so
    // that the range includes the instant `from` and excludes the instant `to`.
    let (low, high) = (query.from.key(), query.to.key());
    // DynamoDB rejects a start key outside of the range.
    let after = match (query.after.as_ref().map(sort_key), query.order) {
        (Some(after), Order::Ascending) => Some(after).filter(|after| *after >= low),
        (Some(after), Order::Descending) => Some(after).filter(|after| *after <= high),
        (None, _) => None,
    };
    let is_past_the_end = after.as_ref().is_some_and(|after| match query.order {
        Order::Ascending => *after > high,
        Order::Descending => *after < low,
    });
    (low < high && !is_past_the_end).then_some(SortKeyRange { low, high, after })
}

impl MessageStore for Messages {
    async fn put(&self, segments: &[MessageSegment]) -> Result<(), BatchWriteError> {
        let mut items = Vec::with_capacity(segments.len());
        let mut failures = BatchFailures::default();
        for segment in segments {
            match to_item(segment) {
                Ok(item) => {
                    let index = segment.device_id.as_str().to_owned();
                    let entry = DayIndexEntry::new(index, segment.ts.day(), segment.ttl);
                    items.push((segment.message_id, item, entry));
                }
                Err(error) => failures.add([segment.message_id], error),
            }
        }
        self.put_with_day_index(items, failures).await
    }

    async fn days(&self, device_id: &DeviceId) -> Result<Vec<Date>, StoreError> {
        let mut pages = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .key_condition_expression("pk = :pk")
            .set_expression_attribute_values(values([("pk", text(device_id.as_str()))]))
            .projection_expression("sk")
            .into_paginator()
            .items()
            .send();
        let mut days = BTreeSet::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(classify("dynamodb:Query"))?;
            let sk = item.get("sk").and_then(|sk| sk.as_s().ok());
            days.insert(DayIndexEntry::day(sk.map_or("", String::as_str))?);
        }
        Ok(days.into_iter().collect())
    }

    async fn read(&self, query: &SegmentQuery) -> Result<(Vec<MessageSegment>, bool), StoreError> {
        let Some(SortKeyRange { low, high, after }) = sort_key_range(query) else {
            return Ok((Vec::new(), false));
        };
        let pk = partition(&query.device_id, query.day);
        let after = after.map(|sk| self.table.key(&pk, &sk));
        let response = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .key_condition_expression("#pk = :pk AND #sk BETWEEN :low AND :high")
            .set_expression_attribute_names(names(["pk", "sk"]))
            .set_expression_attribute_values(values([
                ("pk", text(pk)),
                ("low", text(low)),
                ("high", text(high)),
            ]))
            .consistent_read(query.consistent)
            .scan_index_forward(query.order == Order::Ascending)
            .set_exclusive_start_key(after)
            .limit(i32::try_from(query.limit.max(1)).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(classify("dynamodb:Query"))?;
        let more = response.last_evaluated_key.is_some_and(|key| !key.is_empty());
        let items = response.items.unwrap_or_default().into_iter();
        let segments = items.map(|item| from_item(&query.device_id, item));
        Ok((segments.collect::<Result<_, _>>()?, more))
    }

    async fn remove(
        &self,
        device_id: &DeviceId,
        segments: &[SegmentPosition],
    ) -> Result<(), StoreError> {
        let keys = segments.iter().map(|at| (partition(device_id, at.ts.day()), sort_key(at)));
        let keys: BTreeSet<Key> = keys.collect();
        batch::delete_all(&self.table, keys.into_iter().collect()).await
    }

    async fn get_index_entry(
        &self,
        device_id: &DeviceId,
        ts: Timestamp,
        message_id: MessageId,
    ) -> Result<Option<IndexEntry>, StoreError> {
        let sk = sort_key(&SegmentPosition { ts, message_id, is_continuation: false });
        let item = self.table.get(&partition(device_id, ts.day()), &sk).await?;
        let segment = item.map(|item| from_item(device_id, item)).transpose()?;
        Ok(segment.and_then(|segment| segment.index_entry))
    }
}
