//! The check of a device: offline detection, sequence gaps, alert rules and effects that are due.

use meter_domain::id::DeviceId;
use meter_domain::state::{Connection, DevicePolicy, DeviceState};
use meter_domain::time::Timestamp;
use meter_store::{DeviceStore, StoreError, Stores, error_chain};

use crate::rule_cache::RuleCache;
use crate::{effects, optimistic_update};

/// The result of the check of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DeviceCheck {
    /// The device became offline.
    pub(super) went_offline: bool,
    /// The device was deleted, and its data must be removed.
    pub(super) needs_cleanup: bool,
    /// Hours of the device are due to be rolled up.
    pub(super) needs_rollup: bool,
}

/// When devices are checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckTime {
    pub(super) now: Timestamp,
    /// False while ingest lags: messages of the device may be in the queue.
    pub(super) detect_offline: bool,
}

/// Checks a device that is due, and schedules its next check.
pub(super) async fn check<S: Stores>(
    stores: &S,
    alert_rules: &RuleCache,
    id: &DeviceId,
    CheckTime { now, detect_offline }: CheckTime,
    policy: &DevicePolicy,
) -> Result<DeviceCheck, StoreError> {
    let state = optimistic_update::read_state(stores.states(), id).await?;
    if state.cleanup.is_some() {
        return Ok(DeviceCheck { needs_cleanup: true, ..DeviceCheck::default() });
    }
    let was_online = state.presence.connection == Connection::Online;
    // The report interval is in the registry, which is read only if the device may be offline.
    let interval = if state.registered && state.may_be_offline(now, policy) {
        let device = stores.devices().get(id).await?;
        Some(device.and_then(|device| device.report_interval_s()))
    } else {
        None
    };
    // Without rules the other checks are executed, and the device stays due.
    let rules = alert_rules.get(stores.rules(), state.evaluation.generation, now).await;
    let rules = rules.inspect_err(|error| {
        tracing::warn!(error = error_chain(error), "a device was checked without alert rules");
    });
    let check = |state: &mut DeviceState| {
        if let Some(interval) = interval {
            state.report_interval_s = interval;
        }
        // A newer generation was evaluated by ingest, which checks the rules as well.
        if let Ok(rules) = &rules
            && state.evaluation.generation <= rules.generation
        {
            state.check_rules(now, detect_offline, rules, policy);
        }
        state.check(now, detect_offline, policy);
    };
    let state = optimistic_update::update_state(stores.states(), id, check).await?;
    let went_offline = was_online && state.presence.connection == Connection::Offline;
    let needs_rollup =
        policy.rollup_gap_s.is_some() && state.pending_rollups.due(now).next().is_some();
    effects::dispatch_due_effects(stores, state, now, policy).await?;
    Ok(DeviceCheck { went_offline, needs_rollup, needs_cleanup: false })
}
