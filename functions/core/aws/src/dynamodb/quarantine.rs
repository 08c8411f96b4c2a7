//! The index of the quarantine, in the table `messages`.
//!
//! | item | pk | sk |
//! |---|---|---|
//! | quarantine entry | `#quarantine#{YYYY-MM-DD}#{shard}` | its id |
//! | day index entry | `#quarantine` | `{YYYY-MM-DD}` |
//! | first receipt of a message | `#quarantine#{message_id}` | `first_receipt` |
//!
//! The key of an entry contains the time of receipt, because a message that cannot be parsed has no
//! other time. A redelivery has a later one: the first receipt that was stored is used for all, so
//! that a message has one entry.

use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure as OnFailure;
use futures::{StreamExt, stream};
use jiff::civil::Date;
use meter_domain::archive::Location;
use meter_domain::id::{MessageId, SHARDS, Shard};
use meter_domain::time::Timestamp;
use meter_store::{
    BatchFailures, BatchWriteError, Order, Page, PageRequest, QuarantineEntry, QuarantineStore,
    StoreError,
};
use serde::{Deserialize, Serialize};

use super::batch::CONCURRENCY;
use super::conditional::{self, ConditionalWriteError};
use super::item::{Item, decode, encode, text};
use super::merged_query::{self, MergedQuery, PartitionQuery, ReadBudget, RowBatch};
use super::messages::{DayIndexEntry, Messages};
use super::table::{Table, checked_build, values};
use crate::error::classify;

const QUARANTINE_PARTITION: &str = "#quarantine";

#[derive(Debug, Serialize, Deserialize)]
struct EntryItem {
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

#[derive(Debug, Serialize, Deserialize)]
struct FirstReceiptItem {
    pk: String,
    sk: String,
    received_at: Timestamp,
}

fn partition(day: Date, shard: Shard) -> String {
    format!("{QUARANTINE_PARTITION}#{day}#{shard}")
}

fn to_item(entry: &QuarantineEntry) -> Result<Item, StoreError> {
    let day = entry.received_at.day();
    encode(&EntryItem {
        pk: partition(day, QuarantineEntry::shard(entry.message_id)),
        sk: entry.id(),
        topic: entry.topic.clone(),
        received_at: entry.received_at,
        reason: entry.reason.clone(),
        size: entry.size,
        object: entry.location.object.clone(),
        member: entry.location.member,
    })
}

fn from_item(item: Item) -> Result<QuarantineEntry, StoreError> {
    let entry: EntryItem = decode(item)?;
    let Some((_, message_id)) = QuarantineEntry::parse_id(&entry.sk) else {
        return Err(StoreError::Corrupt {
            what: format!("item {} {}", entry.pk, entry.sk),
            reason: "the sort key is invalid".to_owned(),
        });
    };
    Ok(QuarantineEntry {
        message_id,
        topic: entry.topic,
        received_at: entry.received_at,
        reason: entry.reason,
        size: entry.size,
        location: Location { object: entry.object, member: entry.member },
    })
}

/// The entries of a day, newest first.
struct QuarantineDayQuery<'a> {
    table: &'a Table,
    day: Date,
}

impl MergedQuery for QuarantineDayQuery<'_> {
    type Partition = Shard;
    type Row = QuarantineEntry;

    fn order(&self) -> Order {
        Order::Descending
    }

    fn position(&self, entry: &QuarantineEntry) -> String {
        entry.id()
    }

    async fn read(
        &self,
        shard: Shard,
        after: Option<&str>,
        limit: usize,
    ) -> Result<RowBatch<QuarantineEntry>, StoreError> {
        let name = partition(self.day, shard);
        let partition = PartitionQuery { index: None, partition_key: "pk", name, sort_key: "sk" };
        let query = partition.query_descending(self.table, after);
        merged_query::fetch_rows(query, limit, from_item).await
    }
}

impl Messages {
    /// Returns the first receipt of a message; stores `received_at` if there is none.
    async fn first_receipt(
        &self,
        message_id: MessageId,
        received_at: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let first = FirstReceiptItem {
            pk: format!("{QUARANTINE_PARTITION}#{message_id}"),
            sk: "first_receipt".to_owned(),
            received_at,
        };
        let put = self
            .table
            .put(encode(&first)?)
            .condition_expression(self.table.not_exists())
            .return_values_on_condition_check_failure(OnFailure::AllOld);
        match conditional::put(&self.table.client, checked_build(put.build())?).await {
            Ok(()) => Ok(received_at),
            Err(ConditionalWriteError::ConditionFailed(Some(item))) => {
                Ok(decode::<FirstReceiptItem>(item)?.received_at)
            }
            Err(ConditionalWriteError::ConditionFailed(None)) => Err(StoreError::unavailable(
                "dynamodb:PutItem",
                "the failed condition has no stored item",
            )),
            Err(ConditionalWriteError::Store(error)) => Err(error),
        }
    }

    async fn with_first_receipt(
        &self,
        entry: QuarantineEntry,
    ) -> (MessageId, Result<QuarantineEntry, StoreError>) {
        let first = self.first_receipt(entry.message_id, entry.received_at).await;
        (entry.message_id, first.map(|received_at| QuarantineEntry { received_at, ..entry }))
    }

    /// Returns the days with entries up to `last`, newest first.
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
            .set_expression_attribute_values(values([
                ("pk", text(QUARANTINE_PARTITION)),
                ("last", text(last)),
            ]))
            .into_paginator()
            .items()
            .send();
        let mut days = Vec::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(classify("dynamodb:Query"))?;
            let sk = item.get("sk").and_then(|sk| sk.as_s().ok());
            days.push(DayIndexEntry::day(sk.map_or("", String::as_str))?);
        }
        Ok(days)
    }
}

impl QuarantineStore for Messages {
    async fn put_quarantined(&self, entries: &[QuarantineEntry]) -> Result<(), BatchWriteError> {
        let mut items = Vec::with_capacity(entries.len());
        let mut failures = BatchFailures::default();
        let entries = stream::iter(entries.to_vec())
            .map(|entry| self.with_first_receipt(entry))
            .buffer_unordered(CONCURRENCY)
            .collect::<Vec<_>>()
            .await;
        for (message_id, entry) in entries {
            let item = entry.and_then(|entry| Ok((to_item(&entry)?, entry.received_at.day())));
            match item {
                Ok((item, day)) => {
                    items.push((
                        message_id,
                        item,
                        DayIndexEntry::new(QUARANTINE_PARTITION.to_owned(), day, None),
                    ));
                }
                Err(error) => failures.add([message_id], error),
            }
        }
        self.put_with_day_index(items, failures).await
    }

    async fn list_quarantined(
        &self,
        request: &PageRequest,
    ) -> Result<Page<QuarantineEntry>, StoreError> {
        let after = request.after.as_deref();
        let last = after.and_then(QuarantineEntry::parse_id).map(|(at, _)| at.day());
        let mut budget = ReadBudget::default();
        let mut items: Vec<QuarantineEntry> = Vec::new();
        for day in self.quarantine_days(last).await? {
            // A day takes a query for each shard, even with few entries.
            let is_affordable = budget.spend(SHARDS.into());
            if let Some(last) = items.last()
                && (items.len() >= request.limit || !is_affordable)
            {
                let next = Some(last.id());
                return Ok(Page { items, next });
            }
            let query = QuarantineDayQuery { table: &self.table, day };
            let room = request.limit - items.len();
            let of_day =
                merged_query::read_page(&query, Shard::all(), after, room, &mut budget).await?;
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
        message_id: MessageId,
    ) -> Result<Option<QuarantineEntry>, StoreError> {
        let pk = partition(received_at.day(), QuarantineEntry::shard(message_id));
        let id = format!("{}-{message_id}", received_at.file_stem());
        self.table.get(&pk, &id).await?.map(from_item).transpose()
    }
}
