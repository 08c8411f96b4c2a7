//! How far ingest is, in items `#ingest#NN` of the table `device-state`. A process has one of them by its id, and may
//! share it with others.

use meter_domain::id::Shard;
use meter_domain::time::Timestamp;
use meter_store::{INGEST_LAG_TTL_S, IngestLag, IngestLagStore, StoreError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::conditional::{self, ConditionalWriteError};
use super::item::{decode, encode, number, text};
use super::state::States;
use super::table::{checked_build, names, values};
use super::{batch, due};

#[derive(Debug, Serialize, Deserialize)]
struct IngestLagItem {
    device_id: String,
    process_id: Uuid,
    #[serde(serialize_with = "due::serialize_as_key")]
    reported_at: Timestamp,
    lag_s: u32,
}

/// The key of a shard. No device's id begins so.
fn shard_key(shard: Shard) -> String {
    format!("#ingest#{shard}")
}

impl IngestLagStore for States {
    async fn record_ingest_lag(&self, progress: IngestLag) -> Result<(), StoreError> {
        let IngestLag { process_id: by, reported_at: at, lag_s } = progress;
        let device_id = shard_key(Shard::of(by.as_bytes()));
        let free = self.table.not_exists();
        let put = self
            .table
            .put(encode(&IngestLagItem { device_id, process_id: by, reported_at: at, lag_s })?)
            .condition_expression(format!(
                "{free} OR #process_id = :process_id OR #lag_s <= :lag_s OR #reported_at < :stale_before"
            ))
            .set_expression_attribute_names(names(["process_id", "lag_s", "reported_at"]))
            .set_expression_attribute_values(values([
                ("process_id", text(by.to_string())),
                ("lag_s", number(lag_s)),
                ("stale_before", text(at.plus_seconds(-INGEST_LAG_TTL_S).key())),
            ]));
        match conditional::put(&self.table.client, checked_build(put.build())?).await {
            // Refused: another process is further behind.
            Ok(()) | Err(ConditionalWriteError::ConditionFailed(_)) => Ok(()),
            Err(ConditionalWriteError::Store(error)) => Err(error),
        }
    }

    async fn ingest_lag(&self, now: Timestamp) -> Result<Option<IngestLag>, StoreError> {
        let keys = Shard::all().map(|shard| (shard_key(shard), String::new()));
        let mut worst: Option<IngestLag> = None;
        for item in batch::get_all(&self.table, keys).await? {
            let IngestLagItem { process_id: by, reported_at: at, lag_s, .. } = decode(item)?;
            let counts = at.plus_seconds(INGEST_LAG_TTL_S) >= now;
            if counts && worst.is_none_or(|worst| worst.lag_s < lag_s) {
                worst = Some(IngestLag { process_id: by, reported_at: at, lag_s });
            }
        }
        Ok(worst)
    }
}
