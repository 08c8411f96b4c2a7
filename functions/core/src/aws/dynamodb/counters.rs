//! Counts over the fleet, spread over [`SHARDS`] items, `#stats#NN`, since every change of a device's
//! standing writes one of them and an item takes 1,000 writes a second. They change in the
//! transaction that changes what they count, so their sum is exact; one of them may be negative.

use std::collections::HashMap;
use std::fmt::Write as _;

use aws_sdk_dynamodb::types::{AttributeValue, Update};

use super::batch;
use super::item::number;
use super::table::{Table, built};
use crate::id::{SHARDS, Shard};
use crate::store::StoreError;

/// Adds to counts that stand together in the items with the sort key `sort` (where the table has one).
/// None when nothing changes.
pub(super) fn add(
    table: &Table,
    sort: &str,
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
    let shard = usize::from(rand::random::<u8>() % SHARDS);
    let shard = Shard::all().nth(shard).map(item).unwrap_or_default();
    let mut update = table.update(&shard, sort);
    let mut expression = String::from("ADD ");
    for (i, (name, change)) in sums.into_iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(expression, "{comma}#n{i} :n{i}");
        update = update
            .expression_attribute_names(format!("#n{i}"), name)
            .expression_attribute_values(format!(":n{i}"), number(change));
    }
    built(update.update_expression(expression).build()).map(Some)
}

/// The sum of each count by its name, read consistently.
pub(super) async fn sums(table: &Table, sort: &str) -> Result<HashMap<String, u64>, StoreError> {
    let keys = Shard::all().map(|shard| (item(shard), sort.to_owned()));
    let mut sums: HashMap<String, i64> = HashMap::new();
    for item in batch::get_all(table, keys).await? {
        for (name, value) in item {
            if let AttributeValue::N(digits) = value {
                let count: i64 = digits.parse().map_err(|_| StoreError::Corrupt {
                    what: format!("count {name}"),
                    reason: format!("{digits} is no integer"),
                })?;
                *sums.entry(name).or_default() += count;
            }
        }
    }
    let sums = sums.into_iter();
    Ok(sums.map(|(name, sum)| (name, u64::try_from(sum).unwrap_or(0))).collect())
}

fn item(shard: Shard) -> String {
    format!("#stats#{shard}")
}
