//! Fixtures of the tests of this crate.

use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{DeviceId, new_id};
use meter_domain::state::{DevicePolicy, DeviceState};
use meter_domain::time::Timestamp;
use meter_store::DeviceStore;
use meter_testing::memory::MemoryStores;
use serde_json::Map;

pub(crate) fn second(s: i64) -> Timestamp {
    Timestamp::EPOCH.plus_seconds(s)
}

pub(crate) fn device_id() -> DeviceId {
    DeviceId::parse("m").unwrap()
}

/// Registers the device `m`.
pub(crate) async fn register(memory: MemoryStores) -> MemoryStores {
    let device = Device {
        id: new_id(second(0)),
        device_id: device_id(),
        device_name: "m".to_owned(),
        device_type: None,
        location: None,
        status: DeviceStatus::Active,
        metadata: Map::new(),
        config: Map::new(),
        command_key: None,
        claimable: false,
        claimed_by: None,
        created_at: second(0),
        updated_at: second(0),
        revision: 0,
    };
    let mut state = DeviceState::new(device_id());
    state.register(second(0), &DevicePolicy::default());
    DeviceStore::create(&memory, &device, &state).await.unwrap();
    memory
}
