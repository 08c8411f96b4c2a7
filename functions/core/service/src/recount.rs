//! Repairs the counts of the fleet.

use meter_store::{Recount, RecountReport, StoreError, Stores};

/// Counts the devices and alerts, and corrects the stored counts. Returns the counts before and
/// after.
///
/// # Errors
///
/// A store failed. The recount can be repeated.
pub async fn recount<S: Stores>(stores: &S) -> Result<Vec<RecountReport>, StoreError> {
    let (devices, alerts) =
        futures::try_join!(stores.devices().recount(), stores.alerts().recount())?;
    let reports = [devices, alerts].concat();
    for RecountReport { what, before, after, skipped_shards } in
        reports.iter().filter(|report| report.before != report.after)
    {
        tracing::warn!(what, ?before, ?after, skipped_shards, "wrong counts were corrected");
    }
    Ok(reports)
}
