//! A device that is due.

use meter_domain::id::DeviceId;
use meter_domain::state::{Connection, DevicePolicy, DeviceState};
use meter_domain::time::Timestamp;
use meter_service::rule_cache::RuleCache;
use meter_service::{effects, optimistic_update};
use meter_store::error_chain;
use meter_store::{DeviceStore, StoreError, Stores};

/// What became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// It was declared silent.
    pub(crate) went_offline: bool,
    /// It was deleted, and what hung on it must be swept.
    pub(crate) needs_cleanup: bool,
    /// It has hours that are to be rolled up.
    pub(crate) needs_rollup: bool,
    /// Hours that were.
    pub(crate) rolled_up: usize,
}

/// When it is, and whether silence means anything now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckTime {
    pub(crate) now: Timestamp,
    pub(crate) detect_offline: bool,
}

/// Does what a device is due for, and sets when it is due again.
pub(crate) async fn check<S: Stores>(
    stores: &S,
    alert_rules: &RuleCache,
    id: &DeviceId,
    CheckTime { now, detect_offline }: CheckTime,
    policy: &DevicePolicy,
) -> Result<Outcome, StoreError> {
    let state = optimistic_update::read_state(stores.states(), id).await?;
    if state.cleanup.is_some() {
        return Ok(Outcome { needs_cleanup: true, ..Outcome::default() });
    }
    let was_online = state.presence.connection == Connection::Online;
    // How long it may be silent is in its configuration, which is read only when it matters.
    let interval = if state.registered && state.may_be_offline(now, policy) {
        let device = stores.devices().get(id).await?;
        Some(device.and_then(|device| device.report_interval_s()))
    } else {
        None
    };
    // Without them the rest is checked all the same, and the device stays due.
    let set = alert_rules.get(stores.rules(), state.evaluation.generation, now).await;
    let set = set.inspect_err(|error| {
        tracing::warn!(error = error_chain(error), "checked without alert rules");
    });
    let state = optimistic_update::update_state(stores.states(), id, |state: &mut DeviceState| {
        if let Some(interval) = interval {
            state.report_interval_s = interval;
        }
        // Ingest may have used newer ones meanwhile; then it has also looked at the clock.
        if let Ok(set) = &set
            && state.evaluation.generation <= set.generation
        {
            state.check_rules(now, detect_offline, set, policy);
        }
        state.check(now, detect_offline, policy);
    })
    .await?;
    let went_offline = was_online && state.presence.connection == Connection::Offline;
    let needs_rollup =
        policy.rollup_gap_s.is_some() && state.pending_rollups.due(now).next().is_some();
    effects::dispatch_due_effects(stores, state, now, policy).await?;
    Ok(Outcome { went_offline, needs_rollup, ..Outcome::default() })
}
