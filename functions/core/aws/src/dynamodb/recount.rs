//! Making counts right while everybody goes on writing.
//!
//! A shard's count is of the things of that shard, and every transaction that changes it counts itself in it
//! ([`counters`]). So what is counted while that number stands still is the truth of that moment, and is
//! written only if it stands still. An index is behind its table by some milliseconds: it is read twice, with
//! a pause, and has to say the same.

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

/// How often a shard is counted that changes meanwhile.
const MAX_ATTEMPTS: usize = 5;

/// Far more than an index is behind.
const INDEX_PROPAGATION_DELAY: Duration = Duration::from_secs(1);

/// The counts of one kind.
#[derive(Clone, Copy)]
pub(super) struct CounterGroup<'a> {
    pub(super) what: &'static str,
    pub(super) table: &'a Table,
    /// See [`counters::add`].
    pub(super) sort_key: &'a str,
    /// Every count that there is.
    pub(super) names: &'a [&'static str],
}

/// Recounts every shard; `count` counts the things of one.
pub(super) async fn recount<F>(
    kind: CounterGroup<'_>,
    count: impl Fn(Shard) -> F,
) -> Result<RecountReport, StoreError>
where
    F: Future<Output = Result<Counts, StoreError>>,
{
    // In another order each time: of a fleet that is too large for one run all shards have their turn.
    let mut shards: Vec<_> = Shard::all().collect();
    shards.shuffle(&mut rand::rng());
    let shards: Vec<_> =
        shards.into_iter().map(|shard| recount_shard(kind, shard, &count)).collect();
    let shards: Vec<(Counts, Option<Counts>)> =
        stream::iter(shards).buffer_unordered(CONCURRENCY).try_collect().await?;
    let mut recounted = RecountReport {
        what: kind.what,
        before: Counts::new(),
        after: Counts::new(),
        skipped_shards: shards.iter().filter(|(_, is)| is.is_none()).count(),
    };
    for (was, is) in shards {
        add(&mut recounted.after, is.as_ref().unwrap_or(&was));
        add(&mut recounted.before, &was);
    }
    Ok(recounted)
}

fn add(sum: &mut Counts, counts: &Counts) {
    for (name, count) in counts {
        *sum.entry(name).or_default() += count;
    }
}

/// What a shard's counts were, and what they are now; none: it changed all the time.
async fn recount_shard<F>(
    kind: CounterGroup<'_>,
    shard: Shard,
    count: impl Fn(Shard) -> F,
) -> Result<(Counts, Option<Counts>), StoreError>
where
    F: Future<Output = Result<Counts, StoreError>>,
{
    let mut was = Counts::new();
    for _ in 0..MAX_ATTEMPTS {
        let standing = counters::read_shard(kind.table, kind.sort_key, shard).await?;
        was = kind.names.iter().map(|name| (*name, standing.count(name))).collect();
        let first = count(shard).await?;
        tokio::time::sleep(INDEX_PROPAGATION_DELAY).await;
        let second = count(shard).await?;
        if first == second && set(kind, shard, &standing, &second).await? {
            let is = |name: &&'static str| (*name, second.get(name).copied().unwrap_or(0));
            return Ok((was, Some(kind.names.iter().map(is).collect())));
        }
    }
    Ok((was, None))
}

async fn set(
    kind: CounterGroup<'_>,
    shard: Shard,
    read: &ShardCounters,
    counts: &Counts,
) -> Result<bool, StoreError> {
    let all: Vec<_> =
        kind.names.iter().map(|name| (*name, counts.get(name).copied().unwrap_or(0))).collect();
    counters::set(kind.table, kind.sort_key, shard, read, &all).await
}

/// Every item of a partition of an index over the fleet, with the attributes named.
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

/// Counts items by one of a few names.
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

/// A text attribute.
pub(super) fn attribute<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name).and_then(|value: &AttributeValue| value.as_s().ok()).map(String::as_str)
}
