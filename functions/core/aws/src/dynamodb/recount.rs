//! Recounts of the fleet during concurrent writes.
//!
//! Every transaction that changes a count of a shard also increments the number of changes of that
//! shard ([`counters`]). A result that was counted while this number did not change is exact, and
//! is stored under the condition that it still has not changed. An index lags behind its table by
//! some milliseconds: it is read twice with a delay, and both reads must agree.

use std::future::Future;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use futures::{StreamExt, TryStreamExt, stream};
use meter_domain::id::Shard;
use meter_store::{Counts, RecountReport, StoreError};
use rand::seq::SliceRandom;

use super::batch::CONCURRENCY;
use super::counters::{self, ShardCounters};
use super::item::{Item, text};
use super::table::{Table, names, values};
use crate::error::classify;

/// Attempts for a shard that changes during its recount.
const MAX_ATTEMPTS: usize = 5;

/// Delay between the two reads of an index, much longer than it lags behind its table.
const INDEX_PROPAGATION_DELAY: Duration = Duration::from_secs(1);

/// Counts that are stored together.
#[derive(Clone, Copy)]
pub(super) struct CounterGroup<'a> {
    pub(super) what: &'static str,
    pub(super) table: &'a Table,
    /// See [`counters::add`].
    pub(super) sort_key: &'a str,
    /// The names of all counts.
    pub(super) names: &'a [&'static str],
}

/// Recounts every shard; `count` counts the items of one shard.
pub(super) async fn recount<F>(
    group: CounterGroup<'_>,
    count: impl Fn(Shard) -> F,
) -> Result<RecountReport, StoreError>
where
    F: Future<Output = Result<Counts, StoreError>>,
{
    // Random order, so that every shard is recounted at some time even if each run is interrupted.
    let mut shards: Vec<_> = Shard::all().collect();
    shards.shuffle(&mut rand::rng());
    let shards: Vec<_> =
        shards.into_iter().map(|shard| recount_shard(group, shard, &count)).collect();
    let shards: Vec<(Counts, Option<Counts>)> =
        stream::iter(shards).buffer_unordered(CONCURRENCY).try_collect().await?;
    let mut recounted = RecountReport {
        what: group.what,
        before: Counts::new(),
        after: Counts::new(),
        skipped_shards: shards.iter().filter(|(_, after)| after.is_none()).count(),
    };
    for (before, after) in shards {
        add(&mut recounted.after, after.as_ref().unwrap_or(&before));
        add(&mut recounted.before, &before);
    }
    Ok(recounted)
}

fn add(sum: &mut Counts, counts: &Counts) {
    for (name, count) in counts {
        *sum.entry(name).or_default() += count;
    }
}

/// Returns the counts of a shard before and after; `None` if it changed during every attempt.
async fn recount_shard<F>(
    group: CounterGroup<'_>,
    shard: Shard,
    count: impl Fn(Shard) -> F,
) -> Result<(Counts, Option<Counts>), StoreError>
where
    F: Future<Output = Result<Counts, StoreError>>,
{
    let mut before = Counts::new();
    for _ in 0..MAX_ATTEMPTS {
        let stored = counters::read_shard(group.table, group.sort_key, shard).await?;
        before = group.names.iter().map(|name| (*name, stored.count(name))).collect();
        let first = count(shard).await?;
        tokio::time::sleep(INDEX_PROPAGATION_DELAY).await;
        let second = count(shard).await?;
        if first == second && set(group, shard, &stored, &second).await? {
            let after = |name: &&'static str| (*name, second.get(name).copied().unwrap_or(0));
            return Ok((before, Some(group.names.iter().map(after).collect())));
        }
    }
    Ok((before, None))
}

async fn set(
    group: CounterGroup<'_>,
    shard: Shard,
    read: &ShardCounters,
    counts: &Counts,
) -> Result<bool, StoreError> {
    let all: Vec<_> =
        group.names.iter().map(|name| (*name, counts.get(name).copied().unwrap_or(0))).collect();
    counters::set(group.table, group.sort_key, shard, read, &all).await
}

/// Reads the named attributes of every item of a shard from an index.
pub(super) async fn query_index(
    table: &Table,
    index: &str,
    shard: Shard,
    attributes: &[&str],
) -> Result<Vec<Item>, StoreError> {
    let projection: Vec<_> = attributes.iter().map(|name| format!("#{name}")).collect();
    let mut query = table
        .client
        .query()
        .table_name(&table.name)
        .index_name(index)
        .key_condition_expression("#shard = :shard")
        .set_expression_attribute_names(names(["shard"]))
        .set_expression_attribute_values(values([("shard", text(shard.to_string()))]))
        .projection_expression(projection.join(", "));
    for name in attributes {
        query = query.expression_attribute_names(format!("#{name}"), *name);
    }
    let mut pages = query.into_paginator().items().send();
    let mut items = Vec::new();
    while let Some(item) = pages.next().await {
        items.push(item.map_err(classify("dynamodb:Query"))?);
    }
    Ok(items)
}

/// Counts the occurrences of each known name.
pub(super) fn count_by_name<'a>(
    found: impl Iterator<Item = Option<&'a str>>,
    known: &[&'static str],
) -> Counts {
    let mut counts = Counts::new();
    for name in found.flatten() {
        if let Some(name) = known.iter().find(|known| **known == name) {
            *counts.entry(name).or_default() += 1;
        }
    }
    counts
}

/// Returns a text attribute.
pub(super) fn attribute<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name).and_then(|value: &AttributeValue| value.as_s().ok()).map(String::as_str)
}
