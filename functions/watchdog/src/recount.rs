//! What a person may ask of this function: to count the fleet again.

use meter_store::{Recount, RecountReport, StoreError, Stores};
use serde::Deserialize;
use serde_json::{Value, json};

/// The payload of an invocation: that of a schedule has other fields, which do not matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Request {
    /// Makes the counts of the statistics right, instead of a run.
    #[serde(default)]
    pub recount: bool,
}

/// Counts devices and alerts again; the answer says what the counts were and what they are.
pub async fn recount<S: Stores>(stores: &S) -> Result<Value, StoreError> {
    let (devices, alerts) =
        futures::try_join!(stores.devices().recount(), stores.alerts().recount())?;
    let recounted: Vec<RecountReport> = [devices, alerts].concat();
    for RecountReport { what, before, after, skipped_shards } in
        recounted.iter().filter(|r| r.before != r.after)
    {
        tracing::warn!(what, ?before, ?after, skipped_shards, "the counts were wrong");
    }
    let next = match recounted.iter().any(|recounted| recounted.skipped_shards > 0) {
        true => "some of it changed all the time and was left as it was: count again",
        false => "everything is counted",
    };
    Ok(json!({"recounted": recounted, "message": next}))
}
