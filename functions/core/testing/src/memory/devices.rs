use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::DeviceId;
use meter_domain::state::DeviceState;
use meter_domain::time::Timestamp;
use meter_store::{
    CreateDeviceError, DeviceFilter, DeviceStore, FleetCounts, Page, PageRequest, StoreError,
    WriteError,
};

use super::pages::page;
use super::{MemoryStores, Operation, Row, Tables};

impl Tables {
    fn registered(&self, id: &DeviceId) -> Option<&Device> {
        match self.devices.get(id)? {
            Row::Registered(device) => Some(device),
            Row::Tombstone(_) => None,
        }
    }

    /// Returns whether the row is still the same registration at the same revision.
    fn is_unchanged(&self, read: &Device) -> bool {
        let stored = self.registered(&read.device_id);
        stored.is_some_and(|stored| (stored.id, stored.revision) == (read.id, read.revision))
    }

    pub(super) fn count_status(&mut self, status: DeviceStatus, by: i64) {
        let count = self.counts.by_status.entry(status).or_default();
        *count = count.saturating_add_signed(by);
    }

    /// Returns a registered device, so that an accepted `update_config` can change its
    /// configuration.
    pub(super) fn device_mut(&mut self, id: &DeviceId) -> Option<&mut Device> {
        match self.devices.get_mut(id)? {
            Row::Registered(device) => Some(device),
            Row::Tombstone(_) => None,
        }
    }
}

impl DeviceStore for MemoryStores {
    async fn create(&self, device: &Device, state: &DeviceState) -> Result<(), CreateDeviceError> {
        self.call(Operation::CreateDevice, |tables| {
            match tables.devices.get(&device.device_id) {
                Some(Row::Registered(_)) => return Err(CreateDeviceError::AlreadyExists),
                Some(Row::Tombstone(_)) => return Err(CreateDeviceError::BeingDeleted),
                None if !tables.is_current(state) => return Err(CreateDeviceError::Conflict),
                None => {}
            }
            tables.count_status(device.status, 1);
            tables.count_connection(state.presence.connection, 1);
            tables.save(state.clone());
            let row = Row::Registered(Box::new(device.clone()));
            tables.devices.insert(device.device_id.clone(), row);
            Ok(())
        })
        .await?
    }

    async fn get(&self, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        self.call(Operation::GetDevice, |tables| tables.registered(id).cloned()).await
    }

    async fn update(&self, before: &Device, after: &Device) -> Result<(), WriteError> {
        self.call(Operation::UpdateDevice, |tables| {
            if !tables.is_unchanged(before) {
                return Err(WriteError::Conflict);
            }
            tables.count_status(before.status, -1);
            tables.count_status(after.status, 1);
            if before.device_type != after.device_type {
                tables.set_device_type(&before.device_id, after.device_type.clone());
            }
            let row = Row::Registered(Box::new(Device {
                revision: before.revision + 1,
                ..after.clone()
            }));
            tables.devices.insert(before.device_id.clone(), row);
            Ok(())
        })
        .await?
    }

    async fn list(
        &self,
        filter: &DeviceFilter,
        request: &PageRequest,
    ) -> Result<Page<Device>, StoreError> {
        self.call(Operation::ListDevices, |tables| {
            let after = request.after.as_deref();
            let matches = |device: &&Device| {
                filter.status.is_none_or(|status| device.status == status)
                    && (filter.device_type.is_none() || device.device_type == filter.device_type)
            };
            let keep = |device: &&Device| matches(device).then(|| (*device).clone());
            let ids = tables.devices.keys();
            let mut rows: Vec<&Device> = ids.filter_map(|id| tables.registered(id)).collect();
            match &filter.id_prefix {
                Some(prefix) => {
                    let position = |device: &Device| device.device_id.to_string();
                    rows.retain(|device| {
                        device.device_id.as_str().starts_with(prefix)
                            && after.is_none_or(|after| device.device_id.as_str() > after)
                    });
                    page(rows.iter(), request, tables.read_budget, keep, |d| position(d))
                }
                None => {
                    let position = |device: &Device| device.id.to_string();
                    rows.retain(|device| {
                        after.is_none_or(|after| position(device).as_str() < after)
                    });
                    rows.sort_by_key(|device| std::cmp::Reverse(device.id));
                    page(rows.iter(), request, tables.read_budget, keep, |d| position(d))
                }
            }
        })
        .await
    }

    async fn create_tombstone(
        &self,
        device: &Device,
        state: &DeviceState,
    ) -> Result<(), WriteError> {
        self.call(Operation::CreateTombstone, |tables| {
            if !tables.is_unchanged(device) || !tables.is_current(state) {
                return Err(WriteError::Conflict);
            }
            tables.count_status(device.status, -1);
            tables.count_connection(state.presence.connection, -1);
            tables.save(state.clone());
            let id = device.device_id.clone();
            let deleted_at = state.cleanup.map_or(device.updated_at, |cleanup| cleanup.since);
            tables.devices.insert(id, Row::Tombstone(deleted_at));
            Ok(())
        })
        .await?
    }

    async fn has_tombstone(&self, id: &DeviceId) -> Result<bool, StoreError> {
        self.call(Operation::HasTombstone, |tables| {
            matches!(tables.devices.get(id), Some(Row::Tombstone(_)))
        })
        .await
    }

    async fn remove_tombstone(
        &self,
        id: &DeviceId,
        deleted_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.call(Operation::RemoveTombstone, |tables| {
            if tables.is_deleted(id, deleted_at) {
                tables.devices.remove(id);
            }
        })
        .await
    }

    async fn counts(&self) -> Result<FleetCounts, StoreError> {
        self.call(Operation::CountDevices, |tables| {
            let mut counts = tables.counts.clone();
            counts.by_status.retain(|_, count| *count > 0);
            counts.by_connection.retain(|_, count| *count > 0);
            counts
        })
        .await
    }
}
