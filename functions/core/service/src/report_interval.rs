//! Copies the report interval of a device from its configuration into its state.

use meter_domain::id::DeviceId;
use meter_domain::state::DevicePolicy;
use meter_domain::time::Timestamp;
use meter_store::{DeviceStore, StateWrite, StoreError, Stores, WriteError, retry};

use crate::optimistic_update;

/// Updates the report interval in the state of a device after a change of its configuration; `now`
/// is the clock.
///
/// The state is read before the configuration. Of concurrent calls, the one that writes the state
/// last has therefore read the latest configuration.
///
/// # Errors
///
/// A store failed, or the state conflicted in every attempt.
pub async fn sync<S: Stores>(
    stores: &S,
    id: &DeviceId,
    now: Timestamp,
    policy: &DevicePolicy,
) -> Result<(), StoreError> {
    for attempt in 0..retry::MAX_ATTEMPTS {
        let mut state = optimistic_update::read_state(stores.states(), id).await?;
        let device = stores.devices().get(id).await?;
        let interval = device.and_then(|device| device.report_interval_s());
        if !state.registered || state.report_interval_s == interval {
            return Ok(());
        }
        let connection_before = state.presence.connection;
        state.set_report_interval(interval, now, policy);
        let write = StateWrite { state, connection_before };
        match optimistic_update::save_state(stores.states(), write).await {
            Ok(_) => return Ok(()),
            Err(WriteError::Conflict) => retry::wait(attempt).await,
            Err(WriteError::Store(error)) => return Err(error),
        }
    }
    Err(optimistic_update::version_conflict_error())
}
