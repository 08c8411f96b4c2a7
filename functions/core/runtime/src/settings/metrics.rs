//! The metric store.

use super::{Environment, Settings};

/// Settings of the metric store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// `METRIC_STORE`: `dynamodb` (default) or `timestream`.
    pub store: MetricStore,
    /// `INTEGRAL_MAX_GAP_S`: the longest gap between two points that an integral bridges, in
    /// seconds, 1 to 3,600, default 300. A change invalidates all rollups.
    pub max_gap_s: u32,
    /// `ROLLUP_TTL_DAYS`: days after which rollups are deleted, 1 to 36,500; 0 (default) keeps
    /// them. Rollups remain available after `MESSAGE_TTL_DAYS` has deleted the points.
    pub rollup_ttl_days: u32,
}

/// The service that stores the points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricStore {
    /// The table `messages` of DynamoDB, with rollups.
    DynamoDb,
    /// Timestream for LiveAnalytics.
    Timestream {
        /// `TIMESTREAM_DATABASE`: the name of the database, required.
        database: String,
        /// `TIMESTREAM_TABLE`: the name of the table, required.
        table: String,
    },
}

impl Settings for Metrics {
    fn read(environment: &mut Environment<'_>) -> Self {
        let words = [("dynamodb", false), ("timestream", true)];
        let store = if environment.one_of("METRIC_STORE", false, &words) {
            MetricStore::Timestream {
                database: environment.required("TIMESTREAM_DATABASE"),
                table: environment.required("TIMESTREAM_TABLE"),
            }
        } else {
            MetricStore::DynamoDb
        };
        Self {
            store,
            max_gap_s: environment.integer("INTEGRAL_MAX_GAP_S", 300, 1..=3_600),
            rollup_ttl_days: environment.integer("ROLLUP_TTL_DAYS", 0, 0..=36_500),
        }
    }
}

impl Metrics {
    /// The gap that rollups bridge, in seconds; `None` for a store without rollups.
    pub fn rollup_gap_s(&self) -> Option<u32> {
        (self.store == MetricStore::DynamoDb).then_some(self.max_gap_s)
    }

    /// Days after which rollups are deleted; `None` keeps them.
    pub fn rollup_ttl_days(&self) -> Option<u32> {
        (self.rollup_ttl_days > 0).then_some(self.rollup_ttl_days)
    }
}
