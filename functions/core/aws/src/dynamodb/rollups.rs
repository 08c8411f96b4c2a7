//! Rollups, in the table `messages`.
//!
//! | item | pk | sk |
//! |---|---|---|
//! | minutes of an hour of a metric | `{device_id}#minutes` | `{metric}#{YYYY-MM-DDTHH}` |
//! | hours of a day of a metric | `{device_id}#hours` | `{metric}#{YYYY-MM-DD}` |
//!
//! The buckets of an hour are one attribute (`m` in items of minutes, `h00` to `h23` in items of
//! hours) with a condition of its own, so that concurrent rollups of two hours of a day do not
//! conflict. The attribute is a map: `g` is the generation, `p` the time until which its points
//! exist, `u` the unit and `b` the buckets ([`buckets`]).

mod buckets;

use std::collections::BTreeMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::try_join;
use meter_domain::id::DeviceId;
use meter_domain::metric::MetricName;
use meter_domain::time::Timestamp;
use meter_store::{
    BucketPage, BucketQuery, HourRollup, RollupBucket, RollupLevel, RollupStore, StoreError,
};

use super::batch::{self, Key};
use super::conditional::{self, is_applied};
use super::item::{Item, SCHEMA_VERSION, SCHEMA_VERSION_ATTRIBUTE, number, text};
use super::messages::Messages;
use super::table::{checked_build, names, values};
use crate::error::classify;

/// Items that one call of a cleanup deletes.
const MAX_CLEANUP_ITEMS: i32 = 100;

/// The attribute with the minutes of an item of minutes.
const MINUTES_ATTRIBUTE: &str = "m";

fn partition(device_id: &DeviceId, level: RollupLevel) -> String {
    match level {
        RollupLevel::Minute => format!("{device_id}#minutes"),
        RollupLevel::Hour => format!("{device_id}#hours"),
    }
}

/// Returns the sort key of the item that starts at `start`.
fn sort_key(metric: &MetricName, level: RollupLevel, start: Timestamp) -> String {
    let width = match level {
        RollupLevel::Minute => "YYYY-MM-DDTHH".len(),
        RollupLevel::Hour => "YYYY-MM-DD".len(),
    };
    let mut key = start.key();
    key.truncate(width);
    format!("{metric}#{key}")
}

/// Parses the start of an item from its sort key.
fn start_of(sk: &str, level: RollupLevel) -> Option<Timestamp> {
    let (_, start) = sk.split_once('#')?;
    let rest = match level {
        RollupLevel::Minute => ":00:00Z",
        RollupLevel::Hour => "T00:00:00Z",
    };
    Timestamp::parse(&format!("{start}{rest}")).ok()
}

/// Returns the attribute of an hour in an item of hours.
fn hour_attribute(hour: Timestamp) -> String {
    format!("h{:02}", hour.hour())
}

impl Messages {
    /// Writes the buckets of an hour, unless the stored ones have the same or a newer generation,
    /// or are of points that are deleted.
    async fn put_buckets(
        &self,
        rollup: &HourRollup,
        level: RollupLevel,
        buckets: &[RollupBucket],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(last) = buckets.last() else { return Ok(()) };
        let start = rollup.hour.start.floor(level.item_seconds());
        let attribute = match level {
            RollupLevel::Minute => MINUTES_ATTRIBUTE.to_owned(),
            RollupLevel::Hour => hour_attribute(rollup.hour.start),
        };
        let mut value = Item::from([
            ("g".to_owned(), number(rollup.generation)),
            ("b".to_owned(), AttributeValue::B(Blob::new(buckets::encode(level, start, buckets)))),
        ]);
        value.extend(rollup.points_expire_at.map(|until| ("p".to_owned(), number(until))));
        value.extend(last.unit.as_ref().map(|unit| ("u".to_owned(), text(unit))));
        // The item expires with the last hour that it can contain, because the hours of a day may
        // be written in any order.
        let ttl = rollup.ttl.map(|ttl| {
            ttl - rollup.hour.start.as_seconds()
                + start.as_seconds()
                + i64::from(level.item_seconds())
        });
        let set_ttl = if ttl.is_some() { ", #ttl = :ttl" } else { "" };
        let mut update = self
            .table
            .update(&partition(&rollup.device_id, level), &sort_key(&rollup.metric, level, start))
            .update_expression(format!("SET #buckets = :buckets, #v = :v{set_ttl}"))
            .condition_expression(
                "attribute_not_exists(#buckets) OR (#buckets.#g < :generation AND \
                 (attribute_not_exists(#buckets.#p) OR #buckets.#p > :now))",
            )
            .set_expression_attribute_names(names(["v", "g", "p"]))
            .expression_attribute_names("#buckets", attribute)
            .set_expression_attribute_values(values([
                ("buckets", AttributeValue::M(value)),
                ("v", AttributeValue::N(SCHEMA_VERSION.to_owned())),
                ("generation", number(rollup.generation)),
                ("now", number(now.as_seconds())),
            ]));
        if let Some(ttl) = ttl {
            update = update
                .expression_attribute_names("#ttl", "ttl")
                .expression_attribute_values(":ttl", number(ttl));
        }
        let written = conditional::update(&self.table.client, checked_build(update.build())?).await;
        is_applied(written).map(drop)
    }

    /// Deletes the first items of a level; returns whether there may be more.
    async fn delete_level(
        &self,
        device_id: &DeviceId,
        level: RollupLevel,
    ) -> Result<bool, StoreError> {
        let (items, more) =
            self.table.query_first(&partition(device_id, level), MAX_CLEANUP_ITEMS).await?;
        let keys: Vec<Key> = items.iter().map(|item| self.table.key_text_of(item)).collect();
        batch::delete_all(&self.table, keys).await?;
        Ok(more)
    }
}

/// Returns the start and the buckets of an item, or the reason for which it is corrupt.
fn decode_item(
    item: &Item,
    sk: &str,
    level: RollupLevel,
) -> Result<(Timestamp, Vec<RollupBucket>), &'static str> {
    if item.get(SCHEMA_VERSION_ATTRIBUTE) != Some(&AttributeValue::N(SCHEMA_VERSION.to_owned())) {
        return Err("unknown schema version");
    }
    let start = start_of(sk, level).ok_or("invalid sort key")?;
    let mut buckets = Vec::new();
    for value in item.values().filter_map(|value| value.as_m().ok()) {
        let blob = value.get("b").and_then(|buckets| buckets.as_b().ok());
        let unit = value.get("u").and_then(|unit| unit.as_s().ok()).cloned();
        let blob = blob.ok_or("an hour without buckets")?;
        let hour = buckets::decode(level, start, unit, blob.as_ref());
        buckets.append(&mut hour.ok_or("invalid buckets")?);
    }
    Ok((start, buckets))
}

impl RollupStore for Messages {
    async fn put_rollup(&self, rollup: &HourRollup, now: Timestamp) -> Result<(), StoreError> {
        let minutes = self.put_buckets(rollup, RollupLevel::Minute, &rollup.minutes, now);
        let hour = std::slice::from_ref(&rollup.hour);
        try_join(minutes, self.put_buckets(rollup, RollupLevel::Hour, hour, now)).await.map(drop)
    }

    async fn buckets(&self, query: &BucketQuery) -> Result<BucketPage, StoreError> {
        let BucketQuery { device_id, metric, level, from, to, limit } = query;
        let first = from.floor(level.item_seconds());
        // BETWEEN includes both ends.
        let last = Timestamp::from_nanos(to.as_nanos() - 1).unwrap_or(*to);
        if last < *from {
            return Ok(BucketPage { buckets: Vec::new(), complete_until: *to, items_read: 0 });
        }
        let response = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .key_condition_expression("#pk = :pk AND #sk BETWEEN :low AND :high")
            .set_expression_attribute_names(names(["pk", "sk"]))
            .set_expression_attribute_values(values([
                ("pk", text(partition(device_id, *level))),
                ("low", text(sort_key(metric, *level, first))),
                ("high", text(sort_key(metric, *level, last.floor(level.item_seconds())))),
            ]))
            // The device state with the pending rollups is read with strong consistency, so that an
            // hour that it reports as complete must be read in the same way.
            .consistent_read(true)
            .limit(i32::try_from((*limit).max(1)).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(classify("dynamodb:Query"))?;
        let more = response.last_evaluated_key.is_some_and(|key| !key.is_empty());
        let items = response.items.unwrap_or_default();
        let mut complete_until = *to;
        let mut buckets = BTreeMap::new();
        for item in &items {
            let (_, sk) = self.table.key_text_of(item);
            let (start, item_buckets) = decode_item(item, &sk, *level).map_err(|reason| {
                let what = format!("rollup {sk} of {device_id}");
                StoreError::Corrupt { what, reason: reason.to_owned() }
            })?;
            buckets.extend(item_buckets.into_iter().map(|bucket| (bucket.start, bucket)));
            if more {
                complete_until = start.plus_seconds(i64::from(level.item_seconds())).min(*to);
            }
        }
        let buckets = buckets.into_values().filter(|bucket| (*from..*to).contains(&bucket.start));
        Ok(BucketPage { buckets: buckets.collect(), complete_until, items_read: items.len() })
    }

    async fn delete_rollups_for_device(&self, device_id: &DeviceId) -> Result<bool, StoreError> {
        let minutes = self.delete_level(device_id, RollupLevel::Minute);
        let (minutes, hours) =
            try_join(minutes, self.delete_level(device_id, RollupLevel::Hour)).await?;
        Ok(minutes || hours)
    }
}
