//! Counts of the fleet, in an item `#stats#NN` for each shard.
//!
//! An item accepts 1,000 writes a second, and every change of status or connection writes a count.
//! Counts change in the transaction that changes what they count, so they are exact. Each item also
//! has the number of its changes, which a recount compares ([`super::recount`]).

use std::collections::HashMap;
use std::fmt::Write as _;

use aws_sdk_dynamodb::types::{AttributeValue, Update};
use meter_domain::id::Shard;
use meter_store::StoreError;

use super::batch;
use super::conditional::{self, is_applied};
use super::item::{Item, number};
use super::table::{Table, checked_build, names, values};

/// The attribute with the number of changes of an item.
const CHANGES: &str = "changes";

/// Returns the update that adds to the counts of a shard; `None` if no count changes.
///
/// `sort_key` is the sort key of the item, in tables that have one.
pub(super) fn add(
    table: &Table,
    sort_key: &str,
    shard: Shard,
    changes: &[(&str, i64)],
) -> Result<Option<Update>, StoreError> {
    let mut sums: HashMap<&str, i64> = HashMap::new();
    for (name, change) in changes {
        *sums.entry(name).or_default() += change;
    }
    sums.retain(|_, change| *change != 0);
    if sums.is_empty() {
        return Ok(None);
    }
    let mut update = table
        .update(&item_key(shard), sort_key)
        .set_expression_attribute_names(names([CHANGES]))
        .set_expression_attribute_values(values([("one", number(1))]));
    let mut expression = format!("ADD #{CHANGES} :one");
    for (i, (name, change)) in sums.into_iter().enumerate() {
        // Cannot fail for a String.
        let _ = write!(expression, ", #n{i} :n{i}");
        update = update
            .expression_attribute_names(format!("#n{i}"), name)
            .expression_attribute_values(format!(":n{i}"), number(change));
    }
    checked_build(update.update_expression(expression).build()).map(Some)
}

/// Returns the sum of each count over all shards, read with strong consistency.
pub(super) async fn totals(
    table: &Table,
    sort_key: &str,
) -> Result<HashMap<String, u64>, StoreError> {
    let keys = Shard::all().map(|shard| (item_key(shard), sort_key.to_owned()));
    let mut sums: HashMap<String, i64> = HashMap::new();
    for item in batch::get_all(table, keys).await? {
        for (name, value) in item {
            if let AttributeValue::N(digits) = value {
                let count: i64 = digits.parse().map_err(|_| StoreError::Corrupt {
                    what: format!("count {name}"),
                    reason: format!("{digits} is not an integer"),
                })?;
                *sums.entry(name).or_default() += count;
            }
        }
    }
    let sums = sums.into_iter();
    Ok(sums.map(|(name, sum)| (name, u64::try_from(sum).unwrap_or(0))).collect())
}

fn item_key(shard: Shard) -> String {
    format!("#stats#{shard}")
}

/// The stored counts of one shard.
#[derive(Debug)]
pub(super) struct ShardCounters(Item);

impl ShardCounters {
    /// Returns a count, 0 if it is not stored.
    pub(super) fn count(&self, name: &str) -> i64 {
        let value = self.0.get(name).and_then(|value| value.as_n().ok());
        value.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }
}

/// Reads the counts of a shard with strong consistency.
pub(super) async fn read_shard(
    table: &Table,
    sort_key: &str,
    shard: Shard,
) -> Result<ShardCounters, StoreError> {
    table.get(&item_key(shard), sort_key).await.map(|item| ShardCounters(item.unwrap_or_default()))
}

/// Sets the counts of a shard, if they have not changed since they were read; returns whether they
/// were set.
pub(super) async fn set(
    table: &Table,
    sort_key: &str,
    shard: Shard,
    read: &ShardCounters,
    counts: &[(&str, i64)],
) -> Result<bool, StoreError> {
    let mut update = table
        .update(&item_key(shard), sort_key)
        .set_expression_attribute_names(names([CHANGES]))
        .set_expression_attribute_values(values([("one", number(1))]));
    update = match read.0.get(CHANGES) {
        None => update.condition_expression(format!("attribute_not_exists(#{CHANGES})")),
        Some(changes) => update
            .condition_expression(format!("#{CHANGES} = :read"))
            .expression_attribute_values(":read", changes.clone()),
    };
    let mut sets = Vec::with_capacity(counts.len());
    for (i, (name, count)) in counts.iter().enumerate() {
        sets.push(format!("#n{i} = :n{i}"));
        update = update
            .expression_attribute_names(format!("#n{i}"), *name)
            .expression_attribute_values(format!(":n{i}"), number(*count));
    }
    let expression = format!("SET {} ADD #{CHANGES} :one", sets.join(", "));
    let update = checked_build(update.update_expression(expression).build())?;
    is_applied(conditional::update(&table.client, update).await)
}
