//! How far ingest is, in an item of the table `device-state`.

use serde::{Deserialize, Serialize};

use super::item::{decode, encode};
use super::state::States;
use crate::aws::unavailable;
use crate::store::{IngestProgress, ProgressStore, StoreError};
use crate::time::Timestamp;

/// Its key. No device's id begins so.
const KEY: &str = "#ingest";

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    device_id: String,
    at: Timestamp,
    lag_s: u32,
}

impl ProgressStore for States {
    async fn note_progress(&self, progress: IngestProgress) -> Result<(), StoreError> {
        let IngestProgress { at, lag_s } = progress;
        let item = encode(&Row { device_id: KEY.to_owned(), at, lag_s })?;
        let put = self.table.client.put_item().table_name(&self.table.name);
        let sent = put.set_item(Some(item)).send().await;
        sent.map(drop).map_err(unavailable("dynamodb:PutItem"))
    }

    async fn progress(&self) -> Result<Option<IngestProgress>, StoreError> {
        let Some(item) = self.table.get(KEY, "").await? else {
            return Ok(None);
        };
        let Row { at, lag_s, .. } = decode(item)?;
        Ok(Some(IngestProgress { at, lag_s }))
    }
}
