use futures::future::join_all;
use meter_domain::alert::AlertRevision;
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::state::{
    Connection, DeviceCleanup, DevicePolicy, DeviceState, Effect, PurgeStage,
};
use meter_store::{
    CreateDeviceError, DeviceFilter, DeviceStore, FleetCounts, StateStore, StateWrite, WriteError,
};
use uuid::Uuid;

use super::{Ports, contracts};
use crate::fixtures::{
    collect_pages, delete_device, device, edge_case_json, id, object, register_device, second,
    state, with_connection,
};

contracts! {
    registered_device_and_its_state_read_back
    registration_keeps_the_state_of_earlier_messages
    registration_with_outdated_state_conflicts
    update_of_outdated_revision_conflicts
    fleet_counters_follow_the_status
    device_type_is_copied_to_the_state
    deletion_leaves_a_tombstone_and_writes_the_state
    deletion_with_outdated_device_or_state_conflicts
    id_can_be_registered_again_after_cleanup
    remove_tombstone_keeps_a_registered_device
    devices_are_listed_newest_first
    devices_with_a_prefix_are_listed_by_id
    device_list_contains_only_matches_of_the_filter
    ; concurrent:
    concurrent_registrations_of_an_id_succeed_once
}

fn counts(status: &[(DeviceStatus, u64)], connection: &[(Connection, u64)]) -> FleetCounts {
    FleetCounts {
        by_status: status.iter().copied().collect(),
        by_connection: connection.iter().copied().collect(),
    }
}

async fn get(ports: &impl Ports, device_id: &str) -> Option<Device> {
    ports.devices().get(&id(device_id)).await.unwrap()
}

async fn fleet_counts(ports: &impl Ports) -> FleetCounts {
    ports.devices().counts().await.unwrap()
}

async fn registered_device_and_its_state_read_back(ports: &impl Ports) {
    assert_eq!(get(ports, "m").await, None);
    assert_eq!(fleet_counts(ports).await, FleetCounts::default());
    let device = device("m", second(0));
    let expected = DeviceState {
        registered: true,
        samples_rejected: 7,
        cleanup: Some(DeviceCleanup {
            since: second(1),
            purge: PurgeStage::RemovingMessages { purged_before: second(2) },
        }),
        next_check: Some(second(60)),
        ..DeviceState::new(id("m"))
    };
    ports.devices().create(&device, &expected).await.unwrap();
    assert_eq!(get(ports, "m").await, Some(device));
    assert_eq!(state(ports, "m").await, DeviceState { version: 1, ..expected });
    let expected = counts(&[(DeviceStatus::Active, 1)], &[(Connection::Unknown, 1)]);
    assert_eq!(fleet_counts(ports).await, expected);
}

async fn registration_keeps_the_state_of_earlier_messages(ports: &impl Ports) {
    let mut earlier = with_connection(DeviceState::new(id("m")), Connection::Online);
    earlier.samples_rejected = 7;
    let write = StateWrite { state: earlier, connection_before: Connection::Unknown };
    ports.states().save_many(&[write]).await.pop().unwrap().unwrap();
    register_device(ports, "m").await;
    let state = state(ports, "m").await;
    assert_eq!((state.samples_rejected, state.registered, state.version), (7, true, 2));
    assert_eq!(fleet_counts(ports).await.by_connection, [(Connection::Online, 1)].into());
}

async fn concurrent_registrations_of_an_id_succeed_once(ports: &impl Ports) {
    let new = DeviceState::new(id("m"));
    let tries = (0..6).map(|n| {
        let (ports, new) = (ports.clone(), new.clone());
        async move { ports.devices().create(&device("m", second(n)), &new).await }
    });
    let results = join_all(tries).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    let again = ports.devices().create(&device("m", second(9)), &state(ports, "m").await).await;
    assert!(matches!(again, Err(CreateDeviceError::AlreadyExists)), "{again:?}");
    let expected = counts(&[(DeviceStatus::Active, 1)], &[(Connection::Unknown, 1)]);
    assert_eq!(fleet_counts(ports).await, expected);
}

async fn registration_with_outdated_state_conflicts(ports: &impl Ports) {
    let new = DeviceState::new(id("m"));
    let write = StateWrite { state: new.clone(), connection_before: Connection::Unknown };
    ports.states().save_many(&[write]).await.pop().unwrap().unwrap();
    let result = ports.devices().create(&device("m", second(0)), &new).await;
    assert!(matches!(result, Err(CreateDeviceError::Conflict)), "{result:?}");
    assert_eq!(get(ports, "m").await, None);
    assert_eq!(fleet_counts(ports).await, FleetCounts::default());
}

async fn update_of_outdated_revision_conflicts(ports: &impl Ports) {
    let before = register_device(ports, "m").await;
    let after = Device {
        device_name: "other".to_owned(),
        device_type: None,
        location: Some("Lyon".to_owned()),
        command_key: None,
        claimable: false,
        claimed_by: Some("0f".repeat(32).try_into().unwrap()),
        config: object(edge_case_json()),
        updated_at: second(5),
        ..before.clone()
    };
    ports.devices().update(&before, &after).await.unwrap();
    let stored = get(ports, "m").await.unwrap();
    assert_eq!(stored, Device { revision: before.revision + 1, ..after.clone() });
    for status in [DeviceStatus::Active, DeviceStatus::Inactive] {
        let late = Device { status, ..after.clone() };
        let result = ports.devices().update(&before, &late).await;
        assert!(matches!(result, Err(WriteError::Conflict)), "{result:?}");
    }
    // The same device id and revision in another registration.
    let other_registration = Device { id: Uuid::nil(), ..stored.clone() };
    let result = ports.devices().update(&other_registration, &after).await;
    assert!(matches!(result, Err(WriteError::Conflict)), "{result:?}");
    let unregistered = device("unregistered", second(0));
    let result = ports.devices().update(&unregistered, &unregistered).await;
    assert!(matches!(result, Err(WriteError::Conflict)), "{result:?}");
    assert_eq!(get(ports, "m").await, Some(stored));
}

async fn fleet_counters_follow_the_status(ports: &impl Ports) {
    let before = register_device(ports, "m").await;
    register_device(ports, "n").await;
    let after = Device { status: DeviceStatus::Inactive, ..before.clone() };
    ports.devices().update(&before, &after).await.unwrap();
    let expected = [(DeviceStatus::Active, 1), (DeviceStatus::Inactive, 1)];
    assert_eq!(fleet_counts(ports).await.by_status, expected.into());
}

async fn deletion_leaves_a_tombstone_and_writes_the_state(ports: &impl Ports) {
    let device = register_device(ports, "m").await;
    let mut with_effect = state(ports, "m").await;
    let revision = AlertRevision { state_version: 1, resolved_at: Some(second(1)), message: None };
    with_effect.outbox.enqueue(Effect::ReviseAlert { alert_id: Uuid::nil(), revision });
    let write =
        StateWrite { connection_before: with_effect.presence.connection, state: with_effect };
    ports.states().save_many(&[write]).await.pop().unwrap().unwrap();
    assert!(!ports.devices().has_tombstone(&id("m")).await.unwrap());

    let mut expected = state(ports, "m").await;
    expected.mark_deleted(second(1), true, &DevicePolicy::default());
    ports.devices().create_tombstone(&device, &expected).await.unwrap();
    assert_eq!(get(ports, "m").await, None);
    assert!(ports.devices().has_tombstone(&id("m")).await.unwrap());
    assert_eq!(fleet_counts(ports).await, FleetCounts::default());
    for id_prefix in [None, Some("m".to_owned())] {
        let filter = DeviceFilter { id_prefix, ..DeviceFilter::default() };
        assert_eq!(collect_pages!(10, |request| ports.devices().list(&filter, &request)), []);
    }
    assert!(expected.outbox.is_empty());
    assert_eq!(state(ports, "m").await, DeviceState { version: 3, ..expected });
    let update = ports.devices().update(&device, &device).await;
    assert!(matches!(update, Err(WriteError::Conflict)), "{update:?}");
}

async fn deletion_with_outdated_device_or_state_conflicts(ports: &impl Ports) {
    let device = register_device(ports, "m").await;
    let old_state = DeviceState::new(id("m"));
    let result = ports.devices().create_tombstone(&device, &old_state).await;
    assert!(matches!(result, Err(WriteError::Conflict)), "{result:?}");
    ports.devices().update(&device, &device).await.unwrap();
    let result = ports.devices().create_tombstone(&device, &state(ports, "m").await).await;
    assert!(matches!(result, Err(WriteError::Conflict)), "{result:?}");
    assert!(get(ports, "m").await.is_some());
    let expected = counts(&[(DeviceStatus::Active, 1)], &[(Connection::Unknown, 1)]);
    assert_eq!(fleet_counts(ports).await, expected);
}

async fn id_can_be_registered_again_after_cleanup(ports: &impl Ports) {
    let first = register_device(ports, "m").await;
    delete_device(ports, &first).await;
    let mut new_state = state(ports, "m").await;
    new_state.register(second(9), &DevicePolicy::default());
    let registered_again = device("m", second(9));
    let result = ports.devices().create(&registered_again, &new_state).await;
    assert!(matches!(result, Err(CreateDeviceError::BeingDeleted)), "{result:?}");
    ports.devices().remove_tombstone(&id("m"), second(1)).await.unwrap();
    assert!(ports.devices().has_tombstone(&id("m")).await.unwrap(), "removed by another deletion");
    ports.devices().remove_tombstone(&id("m"), second(0)).await.unwrap();
    ports.devices().remove_tombstone(&id("m"), second(0)).await.unwrap();
    assert!(!ports.devices().has_tombstone(&id("m")).await.unwrap());
    ports.devices().create(&registered_again, &new_state).await.unwrap();
    assert_eq!(get(ports, "m").await, Some(registered_again));
    assert!(state(ports, "m").await.registered);
}

async fn remove_tombstone_keeps_a_registered_device(ports: &impl Ports) {
    let device = register_device(ports, "m").await;
    ports.devices().remove_tombstone(&id("m"), second(0)).await.unwrap();
    assert_eq!(get(ports, "m").await, Some(device));
}

/// Registers devices whose ids are not in the order of their creation.
async fn fleet(ports: &impl Ports) -> Vec<Device> {
    let mut fleet = Vec::new();
    for n in 0..25_i64 {
        let mut device =
            device(&format!("{}-{:02}", ["ac", "dc"][n as usize % 2], 7 * n % 25), second(n));
        if n % 3 == 0 {
            device.status = DeviceStatus::Inactive;
        }
        if n % 5 == 0 {
            device.device_type = None;
        }
        let new = DeviceState::new(device.device_id.clone());
        ports.devices().create(&device, &new).await.unwrap();
        fleet.push(device);
    }
    fleet
}

async fn devices_are_listed_newest_first(ports: &impl Ports) {
    let mut expected = fleet(ports).await;
    expected.reverse();
    let filter = DeviceFilter::default();
    for limit in [1, 4, 25, 1_000] {
        let listed = collect_pages!(limit, |request| ports.devices().list(&filter, &request));
        assert_eq!(listed, expected, "in pages of {limit}");
    }
}

async fn devices_with_a_prefix_are_listed_by_id(ports: &impl Ports) {
    let mut fleet = fleet(ports).await;
    fleet.sort_by_key(|device| device.device_id.clone());
    let prefixes = ["", "ac", "ac-0", "dc-11", "dc-111", "é", " ", &"x".repeat(2_000)];
    for prefix in prefixes {
        let filter = DeviceFilter { id_prefix: Some(prefix.to_owned()), ..DeviceFilter::default() };
        let listed = collect_pages!(4, |request| ports.devices().list(&filter, &request));
        let expected: Vec<_> =
            fleet.iter().filter(|d| d.device_id.as_str().starts_with(prefix)).cloned().collect();
        assert_eq!(listed, expected, "{prefix:?}");
    }
}

async fn device_list_contains_only_matches_of_the_filter(ports: &impl Ports) {
    let fleet = fleet(ports).await;
    let filter = DeviceFilter {
        status: Some(DeviceStatus::Inactive),
        device_type: Some("power_meter_dc".to_owned()),
        id_prefix: None,
    };
    let listed = collect_pages!(3, |request| ports.devices().list(&filter, &request));
    let expected: Vec<_> = fleet
        .into_iter()
        .rev()
        .filter(|d| d.status == DeviceStatus::Inactive && d.device_type.is_some())
        .collect();
    assert!(expected.len() > 3);
    assert_eq!(listed, expected);
}

async fn device_type_is_copied_to_the_state(ports: &impl Ports) {
    let mut before = register_device(ports, "m").await;
    for device_type in [Some("pump"), None, None, Some("meter")] {
        let read = state(ports, "m").await;
        let after = Device { device_type: device_type.map(str::to_owned), ..before.clone() };
        ports.devices().update(&before, &after).await.unwrap();
        let now = state(ports, "m").await;
        assert_eq!(now.device_type.as_deref(), device_type);
        assert!(now.version > read.version || before.device_type == after.device_type);
        before = Device { revision: before.revision + 1, ..after };
    }
}
