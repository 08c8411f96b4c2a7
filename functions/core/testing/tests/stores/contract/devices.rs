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

use super::contract_tests;
use crate::fixtures::{
    collect_pages, delete_device, device, edge_case_json, id, object, register_device, second,
    state, with_connection,
};
use crate::ports::Ports;

contract_tests! {
    a_registered_device_reads_back_and_its_state_is_written_as_given
    what_was_heard_before_the_registration_is_kept
    an_id_is_registered_once_however_many_try
    a_registration_under_an_old_state_conflicts
    an_update_replaces_the_revision_that_was_read_and_no_other
    the_counts_follow_the_status
    a_buried_device_is_gone_but_for_its_tombstone_and_its_state_is_written_as_given
    a_burial_under_an_old_row_or_an_old_state_conflicts
    a_forgotten_id_can_be_registered_again
    forgetting_spares_a_registered_device
    devices_are_listed_newest_first
    devices_with_a_prefix_are_listed_by_id
    a_list_has_what_its_filter_lets_through
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

async fn a_registered_device_reads_back_and_its_state_is_written_as_given(ports: &impl Ports) {
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

async fn what_was_heard_before_the_registration_is_kept(ports: &impl Ports) {
    let mut heard = with_connection(DeviceState::new(id("m")), Connection::Online);
    heard.samples_rejected = 7;
    let write = StateWrite { state: heard, connection_before: Connection::Unknown };
    ports.states().save_many(&[write]).await.pop().unwrap().unwrap();
    register_device(ports, "m").await;
    let state = state(ports, "m").await;
    assert_eq!((state.samples_rejected, state.registered, state.version), (7, true, 2));
    assert_eq!(fleet_counts(ports).await.by_connection, [(Connection::Online, 1)].into());
}

async fn an_id_is_registered_once_however_many_try(ports: &impl Ports) {
    let new = DeviceState::new(id("m"));
    let tries = (0..6).map(|n| {
        let (ports, new) = (ports.clone(), new.clone());
        async move { ports.devices().create(&device("m", second(n)), &new).await }
    });
    let answers = join_all(tries).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    let again = ports.devices().create(&device("m", second(9)), &state(ports, "m").await).await;
    assert!(matches!(again, Err(CreateDeviceError::AlreadyExists)), "{again:?}");
    let expected = counts(&[(DeviceStatus::Active, 1)], &[(Connection::Unknown, 1)]);
    assert_eq!(fleet_counts(ports).await, expected);
}

async fn a_registration_under_an_old_state_conflicts(ports: &impl Ports) {
    let new = DeviceState::new(id("m"));
    let write = StateWrite { state: new.clone(), connection_before: Connection::Unknown };
    ports.states().save_many(&[write]).await.pop().unwrap().unwrap();
    let answer = ports.devices().create(&device("m", second(0)), &new).await;
    assert!(matches!(answer, Err(CreateDeviceError::Conflict)), "{answer:?}");
    assert_eq!(get(ports, "m").await, None);
    assert_eq!(fleet_counts(ports).await, FleetCounts::default());
}

async fn an_update_replaces_the_revision_that_was_read_and_no_other(ports: &impl Ports) {
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
        let answer = ports.devices().update(&before, &late).await;
        assert!(matches!(answer, Err(WriteError::Conflict)), "{answer:?}");
    }
    // The same id and revision, but another registration.
    let namesake = Device { id: Uuid::nil(), ..stored.clone() };
    let answer = ports.devices().update(&namesake, &after).await;
    assert!(matches!(answer, Err(WriteError::Conflict)), "{answer:?}");
    let nobody = device("nobody", second(0));
    let answer = ports.devices().update(&nobody, &nobody).await;
    assert!(matches!(answer, Err(WriteError::Conflict)), "{answer:?}");
    assert_eq!(get(ports, "m").await, Some(stored));
}

async fn the_counts_follow_the_status(ports: &impl Ports) {
    let before = register_device(ports, "m").await;
    register_device(ports, "n").await;
    let after = Device { status: DeviceStatus::Inactive, ..before.clone() };
    ports.devices().update(&before, &after).await.unwrap();
    let expected = [(DeviceStatus::Active, 1), (DeviceStatus::Inactive, 1)];
    assert_eq!(fleet_counts(ports).await.by_status, expected.into());
}

async fn a_buried_device_is_gone_but_for_its_tombstone_and_its_state_is_written_as_given(
    ports: &impl Ports,
) {
    let device = register_device(ports, "m").await;
    let mut busy = state(ports, "m").await;
    let revision = AlertRevision { state_version: 1, resolved_at: Some(second(1)), message: None };
    busy.outbox.enqueue(Effect::ReviseAlert { alert_id: Uuid::nil(), revision });
    let write = StateWrite { connection_before: busy.presence.connection, state: busy };
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

async fn a_burial_under_an_old_row_or_an_old_state_conflicts(ports: &impl Ports) {
    let device = register_device(ports, "m").await;
    let old_state = DeviceState::new(id("m"));
    let answer = ports.devices().create_tombstone(&device, &old_state).await;
    assert!(matches!(answer, Err(WriteError::Conflict)), "{answer:?}");
    ports.devices().update(&device, &device).await.unwrap();
    let answer = ports.devices().create_tombstone(&device, &state(ports, "m").await).await;
    assert!(matches!(answer, Err(WriteError::Conflict)), "{answer:?}");
    assert!(get(ports, "m").await.is_some());
    let expected = counts(&[(DeviceStatus::Active, 1)], &[(Connection::Unknown, 1)]);
    assert_eq!(fleet_counts(ports).await, expected);
}

async fn a_forgotten_id_can_be_registered_again(ports: &impl Ports) {
    let first = register_device(ports, "m").await;
    delete_device(ports, &first).await;
    let mut state_then = state(ports, "m").await;
    state_then.register(second(9), &DevicePolicy::default());
    let second_one = device("m", second(9));
    let answer = ports.devices().create(&second_one, &state_then).await;
    assert!(matches!(answer, Err(CreateDeviceError::BeingDeleted)), "{answer:?}");
    ports.devices().remove_tombstone(&id("m"), second(1)).await.unwrap();
    assert!(ports.devices().has_tombstone(&id("m")).await.unwrap(), "that was another delete");
    ports.devices().remove_tombstone(&id("m"), second(0)).await.unwrap();
    ports.devices().remove_tombstone(&id("m"), second(0)).await.unwrap();
    assert!(!ports.devices().has_tombstone(&id("m")).await.unwrap());
    ports.devices().create(&second_one, &state_then).await.unwrap();
    assert_eq!(get(ports, "m").await, Some(second_one));
    assert!(state(ports, "m").await.registered);
}

async fn forgetting_spares_a_registered_device(ports: &impl Ports) {
    let device = register_device(ports, "m").await;
    ports.devices().remove_tombstone(&id("m"), second(0)).await.unwrap();
    assert_eq!(get(ports, "m").await, Some(device));
}

/// Devices in another order than that of their creation.
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

async fn a_list_has_what_its_filter_lets_through(ports: &impl Ports) {
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
