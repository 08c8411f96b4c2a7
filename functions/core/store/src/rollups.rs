//! The port of rollups: stored aggregates of a metric over minutes and hours.

use std::future::Future;

use meter_domain::aggregate::Summary;
use meter_domain::id::DeviceId;
use meter_domain::metric::MetricName;
use meter_domain::time::Timestamp;

use super::StoreError;

/// The resolution of a rollup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RollupLevel {
    /// One bucket a minute, one item an hour.
    Minute,
    /// One bucket an hour, one item a day.
    Hour,
}

impl RollupLevel {
    /// Returns the width of a bucket in seconds.
    pub const fn bucket_seconds(self) -> u32 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }

    /// Returns the time that one item covers in seconds.
    pub const fn item_seconds(self) -> u32 {
        match self {
            Self::Minute => 3_600,
            Self::Hour => 24 * 3_600,
        }
    }
}

/// The aggregates of one metric over one minute or hour.
#[derive(Debug, Clone, PartialEq)]
pub struct RollupBucket {
    /// The start of the bucket.
    pub start: Timestamp,
    /// The aggregates of its points.
    pub summary: Summary,
    /// The unit of the latest point.
    pub unit: Option<String>,
}

/// The rollup of one metric over one hour.
#[derive(Debug, Clone, PartialEq)]
pub struct HourRollup {
    /// The device.
    pub device_id: DeviceId,
    /// The metric.
    pub metric: MetricName,
    /// The bucket of the whole hour.
    pub hour: RollupBucket,
    /// The buckets of the minutes that have points, in order.
    pub minutes: Vec<RollupBucket>,
    /// The version of the device state that was read before the points.
    pub generation: u64,
    /// The earliest expiry of the points, in seconds since the epoch. Afterwards the hour cannot be
    /// computed again.
    pub points_expire_at: Option<i64>,
    /// The time from which the store may delete the rollup, in seconds since the epoch.
    pub ttl: Option<i64>,
}

/// A range of rollup buckets of one metric.
#[derive(Debug, Clone)]
pub struct BucketQuery {
    /// The device.
    pub device_id: DeviceId,
    /// The metric.
    pub metric: MetricName,
    /// The resolution.
    pub level: RollupLevel,
    /// The start of the range, inclusive and aligned to a bucket.
    pub from: Timestamp,
    /// The end of the range, exclusive and aligned to a bucket.
    pub to: Timestamp,
    /// The maximum number of items to read.
    pub limit: usize,
}

/// A page of rollup buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketPage {
    /// In ascending order.
    pub buckets: Vec<RollupBucket>,
    /// The time before which all buckets of the range are included.
    pub complete_until: Timestamp,
    /// The number of items that were read.
    pub items_read: usize,
}

/// Stores rollups.
pub trait RollupStore: Send + Sync {
    /// Stores the rollup of an hour.
    ///
    /// Each stored bucket of the same or a later generation is kept, and so is one whose points
    /// have begun to expire before `now`, because it cannot be computed again.
    fn put_rollup(
        &self,
        rollup: &HourRollup,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns a page of rollup buckets; the read is consistent.
    fn buckets(
        &self,
        query: &BucketQuery,
    ) -> impl Future<Output = Result<BucketPage, StoreError>> + Send;

    /// Deletes a batch of a device's rollups; returns whether more may be left.
    fn delete_rollups_for_device(
        &self,
        device_id: &DeviceId,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}
