//! Rollups: what the minutes and the hours of a metric come to.

use std::future::Future;

use meter_domain::aggregate::Summary;
use meter_domain::id::DeviceId;
use meter_domain::metric::MetricName;
use meter_domain::time::Timestamp;

use super::StoreError;

/// How coarse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RollupLevel {
    /// A summary a minute; an item holds those of an hour.
    Minute,
    /// A summary an hour; an item holds those of a day.
    Hour,
}

impl RollupLevel {
    /// How wide what is summed up is, in seconds.
    pub const fn bucket_seconds(self) -> u32 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }

    /// How much time an item covers, in seconds.
    pub const fn item_seconds(self) -> u32 {
        match self {
            Self::Minute => 3_600,
            Self::Hour => 24 * 3_600,
        }
    }
}

/// What a minute or an hour of one metric comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct RollupBucket {
    /// Where it starts.
    pub start: Timestamp,
    /// What its points come to.
    pub summary: Summary,
    /// Of its latest point.
    pub unit: Option<String>,
}

/// All of an hour of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct HourRollup {
    /// Whose.
    pub device_id: DeviceId,
    /// Of what.
    pub metric: MetricName,
    /// The hour's.
    pub hour: RollupBucket,
    /// Those of its minutes that have points, in order.
    pub minutes: Vec<RollupBucket>,
    /// The version of the device's state that was read before the points were.
    pub generation: u64,
    /// When the first of the points will be forgotten, in seconds since the epoch: from then on the hour
    /// cannot be rolled up again.
    pub points_expire_at: Option<i64>,
    /// When the store may forget the rollup, in seconds since the epoch.
    pub ttl: Option<i64>,
}

/// Which buckets.
#[derive(Debug, Clone)]
pub struct BucketQuery {
    /// Whose.
    pub device_id: DeviceId,
    /// Of what.
    pub metric: MetricName,
    /// How coarse.
    pub level: RollupLevel,
    /// From here on; where a bucket starts.
    pub from: Timestamp,
    /// Up to but without this; where a bucket starts.
    pub to: Timestamp,
    /// Items to read at most.
    pub limit: usize,
}

/// Some buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketPage {
    /// In order.
    pub buckets: Vec<RollupBucket>,
    /// Everything before this is among them.
    pub complete_until: Timestamp,
    /// Items that were read.
    pub items_read: usize,
}

/// The rollups of a fleet.
pub trait RollupStore: Send + Sync {
    /// Stores the rollup of an hour at `now`, unless it holds one of a later generation, or one whose points
    /// have begun to be forgotten, which nothing can be made of again.
    fn put_rollup(
        &self,
        rollup: &HourRollup,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Some buckets, read consistently.
    fn buckets(
        &self,
        query: &BucketQuery,
    ) -> impl Future<Output = Result<BucketPage, StoreError>> + Send;

    /// Removes some rollups of a device; whether there may be more.
    fn delete_rollups_for_device(
        &self,
        device_id: &DeviceId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}
