//! How far ingest is, in items `#ingest#NN` of the table `device-state`. A process has one of them by its id, and may
//! share it with others.

use meter_domain::id::Shard;
use meter_domain::time::Timestamp;
use meter_store::{IngestProgress, PROGRESS_COUNTS_S, ProgressStore, StoreError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::conditional::{self, Failure};
use super::item::{decode, encode, number, text};
use super::state::States;
use super::table::{built, names, values};
use super::{batch, due};

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    device_id: String,
    by: Uuid,
    #[serde(serialize_with = "due::as_key")]
    at: Timestamp,
    lag_s: u32,
}

/// The key of a place. No device's id begins so.
fn key(place: Shard) -> String {
    format!("#ingest#{place}")
}

impl ProgressStore for States {
    async fn note_progress(&self, progress: IngestProgress) -> Result<(), StoreError> {
        let IngestProgress { by, at, lag_s } = progress;
        let device_id = key(Shard::of(by.as_bytes()));
        let free = self.table.is_free();
        let put = self
            .table
            .put(encode(&Row { device_id, by, at, lag_s })?)
            .condition_expression(format!(
                "{free} OR #by = :by OR #lag_s <= :lag_s OR #at < :counts"
            ))
            .set_expression_attribute_names(names(["by", "lag_s", "at"]))
            .set_expression_attribute_values(values([
                ("by", text(by.to_string())),
                ("lag_s", number(lag_s)),
                ("counts", text(at.plus_seconds(-PROGRESS_COUNTS_S).key())),
            ]));
        match conditional::put(&self.table.client, built(put.build())?).await {
            // Refused: another process is further behind.
            Ok(()) | Err(Failure::Refused(_)) => Ok(()),
            Err(Failure::Failed(error)) => Err(error),
        }
    }

    async fn progress(&self, now: Timestamp) -> Result<Option<IngestProgress>, StoreError> {
        let keys = Shard::all().map(|place| (key(place), String::new()));
        let mut worst: Option<IngestProgress> = None;
        for item in batch::get_all(&self.table, keys).await? {
            let Row { by, at, lag_s, .. } = decode(item)?;
            let counts = at.plus_seconds(PROGRESS_COUNTS_S) >= now;
            if counts && worst.is_none_or(|worst| worst.lag_s < lag_s) {
                worst = Some(IngestProgress { by, at, lag_s });
            }
        }
        Ok(worst)
    }
}
