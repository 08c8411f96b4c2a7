//! The ingest lag, in the items `#ingest#NN` of the table `device-state`. The id of a process
//! selects its item, which several processes may share.

use meter_domain::id::Shard;
use meter_domain::time::Timestamp;
use meter_store::{INGEST_LAG_TTL_S, IngestLag, IngestLagStore, StoreError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::conditional::{self, is_applied};
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

/// Returns the key of a shard. No device id starts with `#`.
fn shard_key(shard: Shard) -> String {
    format!("#ingest#{shard}")
}

impl IngestLagStore for States {
    async fn record_ingest_lag(&self, lag: IngestLag) -> Result<(), StoreError> {
        let IngestLag { process_id, reported_at, lag_s } = lag;
        let device_id = shard_key(Shard::of(process_id.as_bytes()));
        let not_exists = self.table.not_exists();
        let put = self
            .table
            .put(encode(&IngestLagItem { device_id, process_id, reported_at, lag_s })?)
            .condition_expression(format!(
                "{not_exists} OR #process_id = :process_id OR #lag_s <= :lag_s OR #reported_at < :stale_before"
            ))
            .set_expression_attribute_names(names(["process_id", "lag_s", "reported_at"]))
            .set_expression_attribute_values(values([
                ("process_id", text(process_id.to_string())),
                ("lag_s", number(lag_s)),
                ("stale_before", text(reported_at.plus_seconds(-INGEST_LAG_TTL_S).key())),
            ]));
        // The condition fails if another process has a greater lag.
        is_applied(conditional::put(&self.table.client, checked_build(put.build())?).await)
            .map(drop)
    }

    async fn ingest_lag(&self, now: Timestamp) -> Result<Option<IngestLag>, StoreError> {
        let keys = Shard::all().map(|shard| (shard_key(shard), String::new()));
        let mut worst: Option<IngestLag> = None;
        for item in batch::get_all(&self.table, keys).await? {
            let IngestLagItem { process_id, reported_at, lag_s, .. } = decode(item)?;
            let is_recent = reported_at.plus_seconds(INGEST_LAG_TTL_S) >= now;
            if is_recent && worst.is_none_or(|worst| worst.lag_s < lag_s) {
                worst = Some(IngestLag { process_id, reported_at, lag_s });
            }
        }
        Ok(worst)
    }
}
