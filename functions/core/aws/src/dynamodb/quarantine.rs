//! The index of what could not be read, in the table `messages`.
//!
//! | item | pk | sk |
//! |---|---|---|
//! | an entry | `#quarantine#{YYYY-MM-DD}#{shard}` | its id |
//! | a day with entries | `#quarantine` | `{YYYY-MM-DD}` |
//! | which receipt stands for a message | `#quarantine#{mid}` | `first` |
//!
//! An entry is found by its receipt, since what cannot be read has no other time; and a message that comes
//! twice is received twice. So the first receipt that anybody writes down stands for all.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure as OnFailure;
use futures::{StreamExt, stream};
use jiff::civil::Date;
use meter_domain::archive::Location;
use meter_domain::id::{Mid, SHARDS, Shard};
use meter_domain::time::Timestamp;
use meter_store::{NotStored, Order, Page, PageRequest, QuarantineStore, Quarantined, StoreError};
use serde::{Deserialize, Serialize};

use super::batch::CONCURRENCY;
use super::conditional::{self, Failure};
use super::item::{Item, decode, encode, text};
use super::listing::{self, Budget, Listing, Partition, Rows};
use super::messages::{IndexEntry, Messages};
use super::table::{Table, built, values};
use crate::unavailable;

const INDEX: &str = "#quarantine";

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    pk: String,
    sk: String,
    topic: String,
    received_at: Timestamp,
    reason: String,
    size: u64,
    object: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member: Option<(u64, u64)>,
}

/// Which receipt stands for a message.
#[derive(Debug, Serialize, Deserialize)]
struct First {
    pk: String,
    sk: String,
    received_at: Timestamp,
}

fn partition(day: Date, shard: Shard) -> String {
    format!("{INDEX}#{day}#{shard}")
}

fn to_item(entry: &Quarantined) -> Result<Item, StoreError> {
    let day = entry.received_at.day();
    encode(&Entry {
        pk: partition(day, Quarantined::shard(entry.mid)),
        sk: entry.id(),
        topic: entry.topic.clone(),
        received_at: entry.received_at,
        reason: entry.reason.clone(),
        size: entry.size,
        object: entry.location.object.clone(),
        member: entry.location.member,
    })
}

fn from_item(item: Item) -> Result<Quarantined, StoreError> {
    let entry: Entry = decode(item)?;
    let Some((_, mid)) = Quarantined::parse_id(&entry.sk) else {
        return Err(StoreError::Corrupt {
            what: format!("item {} {}", entry.pk, entry.sk),
            reason: "sort key".to_owned(),
        });
    };
    Ok(Quarantined {
        mid,
        topic: entry.topic,
        received_at: entry.received_at,
        reason: entry.reason,
        size: entry.size,
        location: Location { object: entry.object, member: entry.member },
    })
}

/// The entries of a day, newest first.
struct DayListing<'a> {
    table: &'a Table,
    day: Date,
}

impl Listing for DayListing<'_> {
    type Stream = Shard;
    type Row = Quarantined;

    fn order(&self) -> Order {
        Order::Descending
    }

    fn position(&self, row: &Quarantined) -> String {
        row.id()
    }

    async fn read(
        &self,
        shard: Shard,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Rows<Quarantined>, StoreError> {
        let name = partition(self.day, shard);
        let partition = Partition { index: None, hash: "pk", name, sort: "sk" };
        let query = partition.backwards(self.table, after);
        listing::rows(query, limit, from_item).await
    }
}

impl Messages {
    /// The receipt that stands for a message: `received_at`, unless there is one already.
    async fn first_receipt(
        &self,
        mid: Mid,
        received_at: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let first = First { pk: format!("{INDEX}#{mid}"), sk: "first".to_owned(), received_at };
        let put = self
            .table
            .put(encode(&first)?)
            .condition_expression(self.table.is_free())
            .return_values_on_condition_check_failure(OnFailure::AllOld);
        match conditional::put(&self.table.client, built(put.build())?).await {
            Ok(()) => Ok(received_at),
            Err(Failure::Refused(Some(item))) => Ok(decode::<First>(item)?.received_at),
            Err(Failure::Refused(None)) => {
                Err(unavailable("dynamodb:PutItem")("a refusal without what stands there"))
            }
            Err(Failure::Failed(error)) => Err(error),
        }
    }

    async fn with_first_receipt(
        &self,
        entry: Quarantined,
    ) -> (Mid, Result<Quarantined, StoreError>) {
        let first = self.first_receipt(entry.mid, entry.received_at).await;
        (entry.mid, first.map(|received_at| Quarantined { received_at, ..entry }))
    }

    /// The days with entries in quarantine, up to a day, newest first.
    async fn quarantine_days(&self, last: Option<Date>) -> Result<Vec<Date>, StoreError> {
        let query = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .projection_expression("sk")
            .scan_index_forward(false);
        let last = last.map_or_else(|| "9999-99-99".to_owned(), |day| day.to_string());
        let mut items = query
            .key_condition_expression("pk = :pk AND sk <= :last")
            .set_expression_attribute_values(values([("pk", text(INDEX)), ("last", text(last))]))
            .into_paginator()
            .items()
            .send();
        let mut days = Vec::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(unavailable("dynamodb:Query"))?;
            let sk = item.get("sk").and_then(|sk| sk.as_s().ok());
            days.push(IndexEntry::day(sk.map_or("", String::as_str))?);
        }
        Ok(days)
    }
}

impl QuarantineStore for Messages {
    async fn put_quarantined(&self, entries: &[Quarantined]) -> Result<(), NotStored> {
        let mut items = Vec::with_capacity(entries.len());
        let mut unwritten: Option<(BTreeSet<Mid>, StoreError)> = None;
        let entries = stream::iter(entries.to_vec())
            .map(|entry| self.with_first_receipt(entry))
            .buffer_unordered(CONCURRENCY)
            .collect::<Vec<_>>()
            .await;
        for (mid, entry) in entries {
            let item = entry.and_then(|entry| Ok((to_item(&entry)?, entry.received_at.day())));
            match item {
                Ok((item, day)) => {
                    items.push((mid, item, IndexEntry::new(INDEX.to_owned(), day, None)));
                }
                Err(error) => {
                    let (mids, _) = unwritten.get_or_insert((BTreeSet::new(), error));
                    mids.insert(mid);
                }
            }
        }
        self.put_indexed(items, unwritten).await
    }

    async fn list_quarantined(
        &self,
        request: &PageRequest,
    ) -> Result<Page<Quarantined>, StoreError> {
        let after = request.after.as_deref();
        let last = after.and_then(Quarantined::parse_id).map(|(at, _)| at.day());
        let mut budget = Budget::default();
        let mut items: Vec<Quarantined> = Vec::new();
        for day in self.quarantine_days(last).await? {
            // A day costs a query for each shard, also when there is next to nothing in it.
            let is_affordable = budget.spend(SHARDS.into());
            if let Some(last) = items.last()
                && (items.len() >= request.limit || !is_affordable)
            {
                let next = Some(last.id());
                return Ok(Page { items, next });
            }
            let listing = DayListing { table: &self.table, day };
            let room = request.limit - items.len();
            let of_day = listing::page(&listing, Shard::all(), after, room, &mut budget).await?;
            items.extend(of_day.items);
            if let Some(next) = of_day.next {
                return Ok(Page { items, next: Some(next) });
            }
        }
        Ok(Page { items, next: None })
    }

    async fn get_quarantined(
        &self,
        received_at: Timestamp,
        mid: Mid,
    ) -> Result<Option<Quarantined>, StoreError> {
        let pk = partition(received_at.day(), Quarantined::shard(mid));
        let id = format!("{}-{mid}", received_at.file_stem());
        self.table.get(&pk, &id).await?.map(from_item).transpose()
    }
}
