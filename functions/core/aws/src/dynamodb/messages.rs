//! The index of the archive and the time series, in the table `messages`.
//!
//! | item | pk | sk |
//! |---|---|---|
//! | head of a message | `{device_id}#{YYYY-MM-DD}` | `{ts}#{mid}` |
//! | tail of a message | `{device_id}#{YYYY-MM-DD}` | `{ts}#{mid}#t` |
//! | a day with parts | `{device_id}` | `{YYYY-MM-DD}`, or `{YYYY-MM-DD}#{last day}` |
//!
//! A day is one partition, so a device's history is no hot key, and `#` is in no device id. An index
//! entry of a day that will be forgotten names the last day that its parts live: entries for the same
//! day but other ends stand beside each other, and writing one never shortens the life of another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::Date;
use meter_domain::archive::Location;
use meter_domain::id::{DeviceId, Mid};
use meter_domain::message::Category;
use meter_domain::parts::{Head, Part, PartPosition};
use meter_domain::time::Timestamp;
use meter_store::{MessageStore, NotStored, Order, PartQuery, StoreError};
use serde::{Deserialize, Serialize};

use super::batch::{self, Key};
use super::item::{Item, decode, encode, text};
use super::samples;
use super::seen_days::SeenDays;
use super::table::{Table, names, values};
use crate::settings::Tables;
use crate::{Clients, unavailable};

/// The table `messages`: a [`MessageStore`] and a
/// [`QuarantineStore`](meter_store::QuarantineStore).
#[derive(Debug, Clone)]
pub struct Messages {
    pub(super) table: Table,
    pub(super) seen_days: Arc<SeenDays>,
}

impl Messages {
    /// The table of this name.
    pub fn new(clients: &Clients, tables: &Tables) -> Self {
        Self {
            table: Table::sorted(clients, &tables.messages, "pk", "sk"),
            seen_days: Arc::default(),
        }
    }

    /// Writes items, each of which belongs to a message, and entries of an index, each of which belongs
    /// to all the items that it leads to.
    pub(super) async fn put_indexed(
        &self,
        items: Vec<(Mid, Item, IndexEntry)>,
        unencoded: Option<(BTreeSet<Mid>, StoreError)>,
    ) -> Result<(), NotStored> {
        let mut owners: BTreeMap<Key, BTreeSet<Mid>> = BTreeMap::new();
        let mut puts = Vec::with_capacity(items.len());
        let mut entries = BTreeMap::new();
        for (mid, item, entry) in items {
            let entry_key = entry.key();
            if !self.seen_days.contains(&entry_key) {
                owners.entry(entry_key.clone()).or_default().insert(mid);
                entries.entry(entry_key).or_insert(entry);
            }
            owners.entry(self.table.key_of(&item)).or_default().insert(mid);
            puts.push(item);
        }
        let (mut failed, mut source) = unencoded.unzip();
        let failed = failed.get_or_insert_default();
        for entry in entries.values() {
            // An entry without parts does no harm, and parts without their entry are not found: a message
            // of which anything is missing is reported, and comes again.
            match encode(entry) {
                Ok(item) => puts.push(item),
                Err(error) => {
                    failed.extend(owners.get(&entry.key()).into_iter().flatten());
                    source.get_or_insert(error);
                }
            }
        }
        let unwritten = match batch::put_all(&self.table, puts).await {
            Ok(()) => BTreeSet::new(),
            Err(unwritten) => {
                source.get_or_insert(unwritten.source);
                unwritten.keys
            }
        };
        for key in entries.into_keys().filter(|key| !unwritten.contains(key)) {
            self.seen_days.insert(key);
        }
        failed.extend(unwritten.iter().filter_map(|key| owners.get(key)).flatten());
        match source {
            None => Ok(()),
            Some(source) => Err(NotStored { failed: std::mem::take(failed), source }),
        }
    }
}

/// That a partition has items of a day.
#[derive(Debug, Serialize)]
pub(super) struct IndexEntry {
    pk: String,
    sk: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<i64>,
}

impl IndexEntry {
    /// The entry for things of `day` that may be forgotten at `ttl`. It lives to the end of that day.
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

    /// The day of an entry, from its sort key.
    pub(super) fn day(sk: &str) -> Result<Date, StoreError> {
        let day = sk.get(.."YYYY-MM-DD".len()).and_then(|day| day.parse().ok());
        day.ok_or_else(|| StoreError::Corrupt {
            what: format!("the day {sk}"),
            reason: "is no date".to_owned(),
        })
    }
}

const DAY_SECONDS: u32 = 24 * 3600;

#[derive(Debug, Serialize, Deserialize)]
struct PartItem {
    pk: String,
    sk: String,
    #[serde(flatten)]
    head: Option<HeadAttributes>,
    /// Where it is not the time of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim_ts: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    samples: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct HeadAttributes {
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

fn sort_key(position: &PartPosition) -> String {
    let tail = if position.tail { "#t" } else { "" };
    format!("{}#{}{tail}", position.ts.key(), position.mid)
}

fn parse_sort_key(sk: &str) -> Option<PartPosition> {
    let (ts, rest) = sk.split_once('#')?;
    let (mid, tail) = match rest.strip_suffix("#t") {
        Some(mid) => (mid, true),
        None => (rest, false),
    };
    Some(PartPosition { ts: Timestamp::parse(ts).ok()?, mid: Mid::parse(mid)?, tail })
}

fn to_item(part: &Part) -> Result<Item, StoreError> {
    let samples = (!part.samples.is_empty())
        .then(|| samples::encode(part.ts, &part.samples))
        .transpose()
        .map_err(unavailable("encoding of samples"))?;
    encode(&PartItem {
        pk: partition(&part.device_id, part.ts.day()),
        sk: sort_key(&PartPosition { ts: part.ts, mid: part.mid, tail: part.head.is_none() }),
        head: part.head.clone().map(|head| HeadAttributes {
            category: head.category,
            received_at: head.received_at,
            size: head.size,
            object: head.location.object,
            member: head.location.member,
        }),
        claim_ts: (part.claim_ts != part.ts).then_some(part.claim_ts),
        samples,
        ttl: part.ttl,
    })
}

fn from_item(device_id: &DeviceId, item: Item) -> Result<Part, StoreError> {
    let item: PartItem = decode(item)?;
    let corrupt = |reason: String| StoreError::Corrupt {
        what: format!("item {} {}", item.pk, item.sk),
        reason,
    };
    let position = parse_sort_key(&item.sk).ok_or_else(|| corrupt("sort key".to_owned()))?;
    if position.tail == item.head.is_some() {
        return Err(corrupt("is neither head nor tail".to_owned()));
    }
    let samples = (item.samples.as_deref())
        .map(|text| samples::decode(position.ts, text))
        .transpose()
        .map_err(|reason| corrupt(format!("samples: {reason}")))?;
    Ok(Part {
        device_id: device_id.clone(),
        mid: position.mid,
        ts: position.ts,
        head: item.head.map(|head| Head {
            category: head.category,
            received_at: head.received_at,
            size: head.size,
            location: Location { object: head.object, member: head.member },
        }),
        claim_ts: item.claim_ts.unwrap_or(position.ts),
        samples: samples.unwrap_or_default(),
        ttl: item.ttl,
    })
}

/// Sort keys to read.
#[derive(Debug, PartialEq)]
struct Range {
    /// The first one or before it.
    low: String,
    /// The last one or after it.
    high: String,
    /// Between the two: only what comes after this one.
    after: Option<String>,
}

/// The sort keys that a query asks for; none when there can be none.
fn range(query: &PartQuery) -> Option<Range> {
    // A key goes on after its time, so a time is below all keys of its instant and above all others
    // that are before it: what is between two times is what is not before the first, but before the
    // second.
    let (low, high) = (query.from.key(), query.to.key());
    // DynamoDB refuses a start outside of the range.
    let after = match (query.after.as_ref().map(sort_key), query.order) {
        (Some(after), Order::Ascending) => Some(after).filter(|after| *after >= low),
        (Some(after), Order::Descending) => Some(after).filter(|after| *after <= high),
        (None, _) => None,
    };
    let is_past_the_end = after.as_ref().is_some_and(|after| match query.order {
        Order::Ascending => *after > high,
        Order::Descending => *after < low,
    });
    (low < high && !is_past_the_end).then_some(Range { low, high, after })
}

impl MessageStore for Messages {
    async fn put(&self, parts: &[Part]) -> Result<(), NotStored> {
        let mut items = Vec::with_capacity(parts.len());
        let mut unencoded: Option<(BTreeSet<Mid>, StoreError)> = None;
        for part in parts {
            match to_item(part) {
                Ok(item) => {
                    let index = part.device_id.as_str().to_owned();
                    let entry = IndexEntry::new(index, part.ts.day(), part.ttl);
                    items.push((part.mid, item, entry));
                }
                Err(error) => {
                    let (mids, _) = unencoded.get_or_insert((BTreeSet::new(), error));
                    mids.insert(part.mid);
                }
            }
        }
        self.put_indexed(items, unencoded).await
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
            let item = item.map_err(unavailable("dynamodb:Query"))?;
            let sk = item.get("sk").and_then(|sk| sk.as_s().ok());
            days.insert(IndexEntry::day(sk.map_or("", String::as_str))?);
        }
        Ok(days.into_iter().collect())
    }

    async fn read(&self, query: &PartQuery) -> Result<(Vec<Part>, bool), StoreError> {
        let Some(Range { low, high, after }) = range(query) else {
            return Ok((Vec::new(), false));
        };
        let pk = partition(&query.device_id, query.day);
        let after = after.map(|sk| self.table.key(&pk, &sk));
        let answer = self
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
            .map_err(unavailable("dynamodb:Query"))?;
        let more = answer.last_evaluated_key.is_some_and(|key| !key.is_empty());
        let items = answer.items.unwrap_or_default().into_iter();
        let parts = items.map(|item| from_item(&query.device_id, item));
        Ok((parts.collect::<Result<_, _>>()?, more))
    }

    async fn remove(&self, device_id: &DeviceId, parts: &[PartPosition]) -> Result<(), StoreError> {
        let keys = parts.iter().map(|at| (partition(device_id, at.ts.day()), sort_key(at)));
        let keys: BTreeSet<Key> = keys.collect();
        batch::delete_all(&self.table, keys.into_iter().collect()).await
    }

    async fn head(
        &self,
        device_id: &DeviceId,
        ts: Timestamp,
        mid: Mid,
    ) -> Result<Option<Head>, StoreError> {
        let sk = sort_key(&PartPosition { ts, mid, tail: false });
        let item = self.table.get(&partition(device_id, ts.day()), &sk).await?;
        let part = item.map(|item| from_item(device_id, item)).transpose()?;
        Ok(part.and_then(|part| part.head))
    }
}
