//! How often a device is to report, which its configuration says, brought into its state, which says when
//! it is silent.

use meter_domain::id::DeviceId;
use meter_domain::state::DevicePolicy;
use meter_domain::time::Timestamp;
use meter_store::retry;
use meter_store::{DeviceStore, StateStore, StateWrite, StoreError, WriteError};

use crate::optimistic_update;

/// To be called when the configuration of a device was changed; `now` is the clock. Whoever changes it at the same time
/// does the same: each reads the state first and the configuration after that, so who writes the state last has
/// read the last configuration.
pub async fn sync<S, D>(
    states: &S,
    registry: &D,
    id: &DeviceId,
    now: Timestamp,
    policy: &DevicePolicy,
) -> Result<(), StoreError>
where
    S: StateStore,
    D: DeviceStore,
{
    for attempt in 0..retry::MAX_ATTEMPTS {
        let mut state = optimistic_update::read_state(states, id).await?;
        let device = registry.get(id).await?;
        let interval = device.and_then(|device| device.report_interval_s());
        if !state.registered || state.report_interval_s == interval {
            return Ok(());
        }
        let connection_before = state.presence.connection;
        state.set_report_interval(interval, now, policy);
        match optimistic_update::save_state(states, StateWrite { state, connection_before }).await {
            Ok(_) => return Ok(()),
            Err(WriteError::Conflict) => retry::wait(attempt).await,
            Err(WriteError::Store(error)) => return Err(error),
        }
    }
    Err(optimistic_update::version_conflict_error())
}
