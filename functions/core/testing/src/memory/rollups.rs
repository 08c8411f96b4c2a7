use std::collections::BTreeMap;

use meter_domain::id::DeviceId;
use meter_domain::metric::MetricName;
use meter_domain::time::Timestamp;
use meter_store::{
    BucketPage, BucketQuery, HourRollup, RollupBucket, RollupLevel, RollupStore, StoreError,
};

use super::{MemoryStores, Operation};

/// Resolution, metric and start of the item.
type ItemKey = (RollupLevel, MetricName, Timestamp);

/// By start: the bucket, its generation, and the earliest expiry of its points.
type Item = BTreeMap<Timestamp, (RollupBucket, u64, Option<i64>)>;

pub(super) type Rollups = BTreeMap<DeviceId, BTreeMap<ItemKey, Item>>;

impl RollupStore for MemoryStores {
    async fn put_rollup(&self, rollup: &HourRollup, now: Timestamp) -> Result<(), StoreError> {
        self.call(Operation::PutRollup, |tables| {
            let of_device = tables.rollups.entry(rollup.device_id.clone()).or_default();
            let mut put = |level: RollupLevel, bucket: &RollupBucket| {
                let start = bucket.start.floor(level.item_seconds());
                let item = of_device.entry((level, rollup.metric.clone(), start)).or_default();
                let is_stale = |(_, generation, until): &(RollupBucket, u64, Option<i64>)| {
                    *generation >= rollup.generation
                        || until.is_some_and(|until| until <= now.as_seconds())
                };
                if !item.get(&bucket.start).is_some_and(is_stale) {
                    let stored = (bucket.clone(), rollup.generation, rollup.points_expire_at);
                    item.insert(bucket.start, stored);
                }
            };
            rollup.minutes.iter().for_each(|bucket| put(RollupLevel::Minute, bucket));
            put(RollupLevel::Hour, &rollup.hour);
        })
        .await
    }

    async fn buckets(&self, query: &BucketQuery) -> Result<BucketPage, StoreError> {
        self.call(Operation::ReadBuckets, |tables| {
            let items = tables.rollups.get(&query.device_id);
            let span = query.level.item_seconds();
            let from = (query.level, query.metric.clone(), query.from.floor(span));
            let to = (query.level, query.metric.clone(), query.to);
            let mut items =
                items.into_iter().flat_map(|items| items.range(from.clone()..to.clone()));
            let read: Vec<_> = items.by_ref().take(query.limit.max(1)).collect();
            let buckets =
                read.iter().flat_map(|(_, item)| item.values().map(|(bucket, ..)| bucket));
            let is_in_range =
                |bucket: &&RollupBucket| (query.from..query.to).contains(&bucket.start);
            BucketPage {
                buckets: buckets.filter(is_in_range).cloned().collect(),
                complete_until: items.next().map_or(query.to, |((_, _, start), _)| *start),
                items_read: read.len(),
            }
        })
        .await
    }

    async fn delete_rollups_for_device(&self, device_id: &DeviceId) -> Result<bool, StoreError> {
        self.call(Operation::DeleteRollups, |tables| {
            // One item a call, so that tests cover callers that delete on.
            let Some(items) = tables.rollups.get_mut(device_id) else { return false };
            items.pop_first();
            !items.is_empty()
        })
        .await
    }
}
