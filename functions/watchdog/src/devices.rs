//! A device that is due.

use meter_domain::id::DeviceId;
use meter_domain::state::{Connection, DeviceState, Rules};
use meter_domain::time::Timestamp;
use meter_service::lock;
use meter_service::outbox::Outbox;
use meter_service::rule_cache::RuleCache;
use meter_store::with_causes;
use meter_store::{
    AlertStore, CommandPublisher, CommandStore, DeviceStore, Notifier, RuleStore, StateStore,
    StoreError,
};

/// What became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// It was declared silent.
    pub(crate) went_silent: bool,
    /// It was deleted, and what hung on it must be swept.
    pub(crate) must_be_swept: bool,
    /// It has hours that are to be rolled up.
    pub(crate) must_be_rolled_up: bool,
    /// Hours that were.
    pub(crate) rolled_up: usize,
}

/// When it is, and whether silence means anything now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) now: Timestamp,
    pub(crate) silence_counts: bool,
}

/// Does what a device is due for, and sets when it is due again.
pub(crate) async fn watch<S, A, C, D, P, R>(
    outbox: &Outbox<S, A, C, D, P>,
    alert_rules: &RuleCache<R>,
    id: &DeviceId,
    Clock { now, silence_counts }: Clock,
    rules: &Rules,
) -> Result<Outcome, StoreError>
where
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher + Notifier,
    R: RuleStore,
{
    let state = lock::read_state(&outbox.states, id).await?;
    if state.sweep.is_some() {
        return Ok(Outcome { must_be_swept: true, ..Outcome::default() });
    }
    let was_there = state.presence.connection == Connection::Online;
    // How long it may be silent is in its configuration, which is read only when it matters.
    let interval = if state.registered && state.seems_silent(now, rules) {
        let device = outbox.registry.get(id).await?;
        Some(device.and_then(|device| device.report_interval_s()))
    } else {
        None
    };
    // Without them the rest is watched all the same, and the device stays due.
    let set = alert_rules.get(state.evaluation.generation, now).await;
    let set = set.inspect_err(|error| {
        tracing::warn!(error = with_causes(error), "watched without alert rules");
    });
    let state = lock::change_state(&outbox.states, id, |state: &mut DeviceState| {
        if let Some(interval) = interval {
            state.report_interval_s = interval;
        }
        // Ingest may have used newer ones meanwhile; then it has also looked at the clock.
        if let Ok(set) = &set
            && state.evaluation.generation <= set.generation
        {
            state.watch_rules(now, silence_counts, set, rules);
        }
        state.watch(now, silence_counts, rules);
    })
    .await?;
    let went_silent = was_there && state.presence.connection == Connection::Offline;
    let must_be_rolled_up =
        rules.rollup_gap_s.is_some() && state.unrolled.due(now).next().is_some();
    outbox.settle(state, now, rules).await?;
    Ok(Outcome { went_silent, must_be_rolled_up, ..Outcome::default() })
}
