use meter_domain::alert::Alert;
use meter_domain::alert::AlertRevision;
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::{
    AlertFilter, AlertStore, CreateOutcome, IDEMPOTENCY_TTL_S, IdempotencyKey, Page, PageRequest,
    StoreError,
};
use uuid::Uuid;

use super::pages::page;
use super::{IdempotencyKeys, MemoryStores, Operation};

/// The maximum number of alerts that one deletion removes.
const DELETE_BATCH_SIZE: usize = 25;

impl AlertStore for MemoryStores {
    async fn open(
        &self,
        alert: &Alert,
        key: Option<&IdempotencyKey>,
    ) -> Result<CreateOutcome<Alert>, StoreError> {
        self.call(Operation::OpenAlert, |tables| {
            if !tables.is_registered(&alert.device_id) {
                return CreateOutcome::DeviceNotFound;
            }
            let created = find_by_idempotency_key(
                &tables.alert_keys,
                &alert.device_id,
                key,
                alert.created_at,
            );
            let created = created.and_then(|id| tables.alerts.get(&id));
            if let Some(existing) = created.or_else(|| tables.alerts.get(&alert.alert_id)) {
                return CreateOutcome::AlreadyExists(existing.clone());
            }
            record_idempotency_key(
                &mut tables.alert_keys,
                &alert.device_id,
                key,
                alert.alert_id,
                alert.created_at,
            );
            tables.alerts.insert(alert.alert_id, alert.clone());
            CreateOutcome::Created
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
                |alert| filter.matches(alert).then(|| alert.clone()),
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
        revision: &AlertRevision,
    ) -> Result<(), StoreError> {
        self.call(Operation::ReviseAlert, |tables| {
            let alert = tables.alerts.get_mut(&alert_id);
            let Some(alert) = alert.filter(|alert| alert.device_id == *device_id) else {
                return;
            };
            let applied = tables.alert_revisions.entry(alert_id).or_default();
            if revision.state_version < *applied {
                return;
            }
            *applied = revision.state_version;
            alert.resolved_at = revision.resolved_at;
            if let Some(message) = &revision.message {
                alert.message.clone_from(message);
            }
        })
        .await
    }

    async fn delete_for_device(
        &self,
        device_id: &DeviceId,
        deleted_at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.call(Operation::DeleteAlerts, |tables| {
            if !tables.is_deleted(device_id, deleted_at) {
                return false;
            }
            let of_device = tables.alerts.values().filter(|a| a.device_id == *device_id);
            let mut ids: Vec<Uuid> = of_device.map(|alert| alert.alert_id).collect();
            let more = ids.len() > DELETE_BATCH_SIZE;
            ids.truncate(DELETE_BATCH_SIZE);
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

    async fn count_unacknowledged(&self) -> Result<u64, StoreError> {
        self.call(Operation::CountAlerts, |tables| {
            let unacknowledged = tables.alerts.values().filter(|alert| !alert.acknowledged);
            unacknowledged.count() as u64
        })
        .await
    }
}

/// Returns the id that was created under the key, if the key is still valid.
pub(super) fn find_by_idempotency_key(
    keys: &IdempotencyKeys,
    device_id: &DeviceId,
    key: Option<&IdempotencyKey>,
    now: Timestamp,
) -> Option<Uuid> {
    let (id, until) = keys.get(&(device_id.clone(), key?.clone()))?;
    (now.as_seconds() < *until).then_some(*id)
}

/// Stores the id that is created under the key.
pub(super) fn record_idempotency_key(
    keys: &mut IdempotencyKeys,
    device_id: &DeviceId,
    key: Option<&IdempotencyKey>,
    id: Uuid,
    now: Timestamp,
) {
    if let Some(key) = key {
        let until = now.as_seconds() + IDEMPOTENCY_TTL_S;
        keys.insert((device_id.clone(), key.clone()), (id, until));
    }
}
