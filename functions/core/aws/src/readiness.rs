//! Readiness of the stores, probed by one read of each that need not find anything.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::join_all;
use futures::join;
use meter_store::{Probe, StoreError};
use tokio::time::timeout;

use super::Clients;
use crate::error::classify;
use crate::settings::{ArchiveBucket, Tables};

/// Time after which a store without a response is not ready.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The key of the read; no item has it.
const PROBE_KEY: &str = "#probe";

/// Implements [`Probe`] for the bucket and the tables.
#[derive(Debug, Clone)]
pub struct StoreProbe {
    clients: Clients,
    bucket: String,
    tables: Tables,
}

impl StoreProbe {
    /// Creates a probe.
    pub fn new(clients: &Clients, bucket: &ArchiveBucket, tables: &Tables) -> Self {
        Self { clients: clients.clone(), bucket: bucket.name.clone(), tables: tables.clone() }
    }

    async fn probe_bucket(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "s3:HeadBucket";
        let head = self.clients.s3.head_bucket().bucket(&self.bucket).send();
        match timeout(PROBE_TIMEOUT, head).await {
            Ok(response) => response.map(drop).map_err(classify(OPERATION)),
            Err(elapsed) => Err(StoreError::unavailable(OPERATION, elapsed)),
        }
    }

    async fn probe_table(&self, table: &str, key: &[&str]) -> Result<(), StoreError> {
        const OPERATION: &str = "dynamodb:GetItem";
        let mut get = self.clients.dynamodb.get_item().table_name(table);
        for attribute in key {
            get = get.key(*attribute, AttributeValue::S(PROBE_KEY.to_owned()));
        }
        match timeout(PROBE_TIMEOUT, get.send()).await {
            Ok(response) => response.map(drop).map_err(classify(OPERATION)),
            Err(elapsed) => Err(StoreError::unavailable(OPERATION, elapsed)),
        }
    }
}

impl Probe for StoreProbe {
    async fn probe(&self) -> Vec<(&'static str, Result<(), StoreError>)> {
        let tables = [
            ("devices", &self.tables.devices, &["device_id"][..]),
            ("state", &self.tables.state, &["device_id"]),
            ("messages", &self.tables.messages, &["pk", "sk"]),
            ("alerts", &self.tables.alerts, &["device_id", "alert_id"]),
            ("commands", &self.tables.commands, &["device_id", "cmd_id"]),
            ("rules", &self.tables.rules, &["kind", "rule_id"]),
        ];
        let tables = tables
            .map(|(name, table, key)| async move { (name, self.probe_table(table, key).await) });
        let (bucket, mut results) = join!(self.probe_bucket(), join_all(tables));
        results.insert(0, ("archive", bucket));
        results
    }
}
