use meter_domain::alert::Alert;
use meter_domain::alert::Revision;
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::{
    AlertFilter, AlertStore, IDEMPOTENCY_SECONDS, IdempotencyKey, Made, Page, PageRequest,
    StoreError,
};
use uuid::Uuid;

use super::pages::page;
use super::{Keys, Memory, Operation};

/// Alerts that one sweep removes at most.
const SWEPT_AT_ONCE: usize = 25;

impl AlertStore for Memory {
    async fn open(
        &self,
        alert: &Alert,
        key: Option<&IdempotencyKey>,
    ) -> Result<Made<Alert>, StoreError> {
        self.call(Operation::OpenAlert, |tables| {
            if !tables.is_registered(&alert.device_id) {
                return Made::NoDevice;
            }
            let made = made_under(&tables.alert_keys, &alert.device_id, key, alert.created_at);
            let made = made.and_then(|id| tables.alerts.get(&id));
            if let Some(already) = made.or_else(|| tables.alerts.get(&alert.alert_id)) {
                return Made::Already(already.clone());
            }
            remember(
                &mut tables.alert_keys,
                &alert.device_id,
                key,
                alert.alert_id,
                alert.created_at,
            );
            tables.alerts.insert(alert.alert_id, alert.clone());
            Made::New
        })
        .await
    }

    async fn list(
        &self,
        filter: &AlertFilter,
        request: &PageRequest,
    ) -> Result<Page<Alert>, StoreError> {
        self.call(Operation::ListAlerts, |tables| {
            let after = request.after.as_deref();
            let device = filter.device_id.as_ref();
            let rows = tables.alerts.values().rev().filter(|alert| {
                device.is_none_or(|id| alert.device_id == *id)
                    && after.is_none_or(|after| alert.alert_id.to_string().as_str() < after)
            });
            page(
                rows,
                request,
                tables.read_budget,
                |alert| filter.passes(alert).then(|| alert.clone()),
                |alert| alert.alert_id.to_string(),
            )
        })
        .await
    }

    async fn acknowledge(
        &self,
        alert_id: Uuid,
        by: Option<&str>,
        at: Timestamp,
    ) -> Result<Option<Alert>, StoreError> {
        self.call(Operation::AcknowledgeAlert, |tables| {
            let alert = tables.alerts.get_mut(&alert_id)?;
            if !alert.acknowledged {
                alert.acknowledged = true;
                alert.acknowledged_at = Some(at);
                alert.acknowledged_by = by.map(str::to_owned);
            }
            Some(alert.clone())
        })
        .await
    }

    async fn revise(
        &self,
        device_id: &DeviceId,
        alert_id: Uuid,
        revision: &Revision,
    ) -> Result<(), StoreError> {
        self.call(Operation::ReviseAlert, |tables| {
            let alert = tables.alerts.get_mut(&alert_id);
            let Some(alert) = alert.filter(|alert| alert.device_id == *device_id) else {
                return;
            };
            let applied = tables.alert_revisions.entry(alert_id).or_default();
            if revision.number < *applied {
                return;
            }
            *applied = revision.number;
            alert.resolved_at = revision.resolved_at;
            if let Some(message) = &revision.message {
                alert.message.clone_from(message);
            }
        })
        .await
    }

    async fn sweep(&self, device_id: &DeviceId, deleted_at: Timestamp) -> Result<bool, StoreError> {
        self.call(Operation::SweepAlerts, |tables| {
            if !tables.is_deleted(device_id, deleted_at) {
                return false;
            }
            let of_device = tables.alerts.values().filter(|a| a.device_id == *device_id);
            let mut ids: Vec<Uuid> = of_device.map(|alert| alert.alert_id).collect();
            let more = ids.len() > SWEPT_AT_ONCE;
            ids.truncate(SWEPT_AT_ONCE);
            for id in ids {
                tables.alerts.remove(&id);
                tables.alert_revisions.remove(&id);
            }
            if !more {
                tables.alert_keys.retain(|(id, _), _| id != device_id);
            }
            more
        })
        .await
    }

    async fn unacknowledged(&self) -> Result<u64, StoreError> {
        self.call(Operation::CountAlerts, |tables| {
            let unseen = tables.alerts.values().filter(|alert| !alert.acknowledged);
            unseen.count() as u64
        })
        .await
    }
}

/// What was made under the key, if it is remembered still.
pub(super) fn made_under(
    keys: &Keys,
    device_id: &DeviceId,
    key: Option<&IdempotencyKey>,
    now: Timestamp,
) -> Option<Uuid> {
    let (id, until) = keys.get(&(device_id.clone(), key?.clone()))?;
    (now.as_seconds() < *until).then_some(*id)
}

/// Remembers what is made under the key.
pub(super) fn remember(
    keys: &mut Keys,
    device_id: &DeviceId,
    key: Option<&IdempotencyKey>,
    id: Uuid,
    now: Timestamp,
) {
    if let Some(key) = key {
        let until = now.as_seconds() + IDEMPOTENCY_SECONDS;
        keys.insert((device_id.clone(), key.clone()), (id, until));
    }
}
