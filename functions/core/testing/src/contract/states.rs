use meter_domain::id::DeviceId;
use meter_domain::state::{Connection, DeviceState};
use meter_domain::time::Timestamp;
use meter_store::{
    DeviceStore, IngestLag, IngestLagStore, QueueDepth, StateStore, StateWrite, WriteError,
};
use uuid::Uuid;

use super::{Ports, contracts};
use crate::fixtures::{at, device, id, register_device, second, state, with_connection};

contracts! {
    state_reads_back_with_the_next_version
    save_with_outdated_version_conflicts
    conflict_does_not_affect_other_states_in_the_call
    second_write_of_a_device_in_one_call_conflicts
    get_many_accepts_any_number_of_devices
    fleet_counters_follow_the_connection
    device_is_due_at_its_next_check
    devices_saved_in_one_call_are_due_at_their_next_checks
    registration_and_deletion_update_the_next_check
    due_devices_are_listed_by_next_check_up_to_the_limit
    last_ingest_lag_of_a_process_is_returned
    greatest_valid_ingest_lag_is_returned
    queue_depth_includes_messages_in_flight
    ; concurrent:
    connection_changes_of_one_call_are_counted_exactly
}

fn write(state: DeviceState) -> StateWrite {
    StateWrite { connection_before: state.presence.connection, state }
}

/// The state with another content.
fn changed(mut state: DeviceState, samples_rejected: u64) -> DeviceState {
    state.samples_rejected = samples_rejected;
    state
}

async fn save(ports: &impl Ports, write: StateWrite) -> Result<(), WriteError> {
    ports.states().save_many(&[write]).await.pop().unwrap()
}

async fn state_reads_back_with_the_next_version(ports: &impl Ports) {
    assert!(ports.states().get_many(&[id("m")]).await.unwrap().is_empty());
    let mut new = DeviceState::new(id("m"));
    new.presence.since = Some(second(1));
    new.fw_version = Some("1.2.3".to_owned());
    save(ports, write(new.clone())).await.unwrap();
    let stored = state(ports, "m").await;
    assert_eq!(stored, DeviceState { version: 1, ..new });
    save(ports, write(stored.clone())).await.unwrap();
    assert_eq!(state(ports, "m").await.version, 2);
}

async fn save_with_outdated_version_conflicts(ports: &impl Ports) {
    let new = DeviceState::new(id("m"));
    save(ports, write(new.clone())).await.unwrap();
    let first = state(ports, "m").await;
    save(ports, write(changed(first.clone(), 1))).await.unwrap();
    let stored = state(ports, "m").await;
    let ahead = DeviceState { version: 7, ..first.clone() };
    for old in [new, first, ahead] {
        let result = save(ports, write(changed(old, 2))).await;
        assert!(matches!(result, Err(WriteError::Conflict)), "{result:?}");
        assert_eq!(state(ports, "m").await, stored);
    }
}

async fn conflict_does_not_affect_other_states_in_the_call(ports: &impl Ports) {
    let ids: Vec<DeviceId> = (0..60).map(|n| id(&format!("m{n}"))).collect();
    let writes: Vec<_> = ids.iter().map(|id| write(DeviceState::new(id.clone()))).collect();
    assert!(ports.states().save_many(&writes).await.iter().all(Result::is_ok));
    let again = writes.iter().enumerate().map(|(n, of_new)| {
        let read = DeviceState { version: u64::from(n % 3 != 0), ..of_new.state.clone() };
        write(changed(read, 1))
    });
    let results = ports.states().save_many(&again.collect::<Vec<_>>()).await;
    let stored = ports.states().get_many(&ids).await.unwrap();
    assert_eq!(results.len(), ids.len());
    for (n, (id, result)) in ids.iter().zip(results).enumerate() {
        let is_conflict = matches!(result, Err(WriteError::Conflict));
        assert_eq!((is_conflict, result.is_ok()), (n % 3 == 0, n % 3 != 0), "{id}: {result:?}");
        assert_eq!(stored[id].version, if n % 3 == 0 { 1 } else { 2 }, "{id}");
    }
}

async fn second_write_of_a_device_in_one_call_conflicts(ports: &impl Ports) {
    let new = DeviceState::new(id("m"));
    let writes = [1, 2].map(|n| write(changed(new.clone(), n)));
    let results = ports.states().save_many(&writes).await;
    assert!(matches!(results[..], [Ok(()), Err(WriteError::Conflict)]), "{results:?}");
    assert_eq!(state(ports, "m").await.samples_rejected, 1);
}

async fn get_many_accepts_any_number_of_devices(ports: &impl Ports) {
    let ids: Vec<DeviceId> = (0..130).map(|n| id(&format!("m{n}"))).collect();
    for id in &ids[..110] {
        save(ports, write(DeviceState::new(id.clone()))).await.unwrap();
    }
    let requested: Vec<_> = ids.iter().chain(&ids[..10]).cloned().collect();
    let found = ports.states().get_many(&requested).await.unwrap();
    assert_eq!(found.len(), 110);
    assert!(found.iter().all(|(id, state)| state.device_id == *id));
    assert!(ports.states().get_many(&[]).await.unwrap().is_empty());
}

async fn counts(ports: &impl Ports) -> [u64; 3] {
    let counts = ports.devices().counts().await.unwrap().by_connection;
    Connection::ALL.map(|connection| counts.get(&connection).copied().unwrap_or(0))
}

/// Reads the state and writes it with another connection.
async fn set_connection(ports: &impl Ports, device: &str, connection: Connection) {
    let before = state(ports, device).await;
    let write = StateWrite {
        connection_before: before.presence.connection,
        state: with_connection(before, connection),
    };
    save(ports, write).await.unwrap();
}

async fn fleet_counters_follow_the_connection(ports: &impl Ports) {
    set_connection(ports, "unregistered", Connection::Online).await;
    assert_eq!(counts(ports).await, [0, 0, 0]);
    register_device(ports, "m").await;
    assert_eq!(counts(ports).await, [0, 0, 1]);
    set_connection(ports, "m", Connection::Online).await;
    set_connection(ports, "m", Connection::Online).await;
    assert_eq!(counts(ports).await, [1, 0, 0]);
    set_connection(ports, "m", Connection::Offline).await;
    assert_eq!(counts(ports).await, [0, 1, 0]);
    register_device(ports, "unregistered").await;
    assert_eq!(counts(ports).await, [1, 1, 0]);
}

async fn connection_changes_of_one_call_are_counted_exactly(ports: &impl Ports) {
    let names: Vec<String> = (0..30).map(|n| format!("m{n}")).collect();
    let mut writes = Vec::new();
    for (n, name) in names.iter().enumerate() {
        register_device(ports, name).await;
        let before = state(ports, name).await;
        let mut now = with_connection(before.clone(), Connection::Online);
        // Some writes have an outdated version.
        now.version -= u64::from(n % 10 == 3);
        writes.push(StateWrite { state: now, connection_before: before.presence.connection });
    }
    let results = ports.states().save_many(&writes).await;
    for (n, result) in results.iter().enumerate() {
        match result {
            Err(WriteError::Conflict) => assert_eq!(n % 10, 3),
            result => assert!(result.is_ok() && n % 10 != 3, "{n}: {result:?}"),
        }
    }
    assert_eq!(counts(ports).await, [27, 0, 3]);
}

/// Returns the devices that are due at a time, in order.
async fn list_due(ports: &impl Ports, at: Timestamp) -> Vec<DeviceId> {
    ports.states().list_due(at, 1_000).await.unwrap()
}

async fn set_due(ports: &impl Ports, device: &str, due: Option<Timestamp>) {
    let state = DeviceState { next_check: due, ..state(ports, device).await };
    save(ports, write(state)).await.unwrap();
}

async fn device_is_due_at_its_next_check(ports: &impl Ports) {
    set_due(ports, "never", None).await;
    let exactly = at("2026-01-01T00:01:00.000000001Z");
    set_due(ports, "m", Some(exactly)).await;
    assert_eq!(state(ports, "m").await.next_check, Some(exactly));
    assert_eq!(list_due(ports, second(60)).await, []);
    assert_eq!(list_due(ports, exactly).await, [id("m")]);
    set_due(ports, "m", Some(second(120))).await;
    assert_eq!(list_due(ports, second(119)).await, []);
    assert_eq!(list_due(ports, second(120)).await, [id("m")]);
    set_due(ports, "m", None).await;
    assert_eq!(list_due(ports, second(1_000)).await, []);
    set_due(ports, "m", Some(second(1))).await;
    assert_eq!(list_due(ports, second(1)).await, [id("m")]);
}

async fn devices_saved_in_one_call_are_due_at_their_next_checks(ports: &impl Ports) {
    let ids: Vec<DeviceId> = (0..60).map(|n| id(&format!("m{n:02}"))).collect();
    for round in 0..4 {
        // Each round changes which devices are due; some stay due and some stay not due.
        let is_due = |n: usize| (n >> (round % 3)).is_multiple_of(2);
        let stored = ports.states().get_many(&ids).await.unwrap();
        let writes = ids.iter().enumerate().map(|(n, id)| {
            let new = || DeviceState::new(id.clone());
            let read = stored.get(id).cloned().unwrap_or_else(new);
            let due = is_due(n).then(|| second(60 * round + n as i64 % 7));
            write(DeviceState { next_check: due, ..read })
        });
        let results = ports.states().save_many(&writes.collect::<Vec<_>>()).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        let mut found = list_due(ports, second(60 * round + 6)).await;
        found.sort();
        let expected = ids.iter().enumerate().filter(|(n, _)| is_due(*n)).map(|(_, id)| id);
        assert_eq!(found, expected.cloned().collect::<Vec<_>>(), "in round {round}");
        assert_eq!(list_due(ports, second(60 * round - 1)).await, []);
    }
}

async fn registration_and_deletion_update_the_next_check(ports: &impl Ports) {
    let device = device("m", second(0));
    let new =
        DeviceState { registered: true, next_check: Some(second(1)), ..state(ports, "m").await };
    ports.devices().create(&device, &new).await.unwrap();
    assert_eq!(list_due(ports, second(1)).await, [id("m")]);

    let before = state(ports, "m").await;
    let online = with_connection(DeviceState { next_check: None, ..before }, Connection::Online);
    let write = StateWrite { connection_before: Connection::Unknown, state: online };
    save(ports, write).await.unwrap();
    assert_eq!(list_due(ports, second(1_000)).await, []);

    let before = state(ports, "m").await;
    let again = DeviceState { next_check: Some(second(2)), ..before };
    let write = StateWrite {
        connection_before: Connection::Online,
        state: with_connection(again, Connection::Offline),
    };
    save(ports, write).await.unwrap();
    assert_eq!(list_due(ports, second(2)).await, [id("m")]);

    let before = state(ports, "m").await;
    let deleted = DeviceState { registered: false, next_check: None, ..before };
    ports.devices().create_tombstone(&device, &deleted).await.unwrap();
    assert_eq!(list_due(ports, second(1_000)).await, []);
}

async fn due_devices_are_listed_by_next_check_up_to_the_limit(ports: &impl Ports) {
    let mut all = Vec::new();
    for n in 0..30 {
        let (name, at) = (format!("m{n}"), second(7 * n % 30));
        set_due(ports, &name, Some(at)).await;
        all.push((at, id(&name)));
    }
    all.sort();
    let expected: Vec<_> = all.into_iter().map(|(_, id)| id).take(25).collect();
    for limit in [1, 4, 25, 1_000] {
        let found = ports.states().list_due(second(24), limit).await.unwrap();
        assert_eq!(found, expected[..limit.min(25)], "at most {limit}");
    }
}

fn ingest_lag_of(process: u128, at: Timestamp, lag_s: u32) -> IngestLag {
    IngestLag { process_id: Uuid::from_u128(process), reported_at: at, lag_s }
}

async fn last_ingest_lag_of_a_process_is_returned(ports: &impl Ports) {
    assert_eq!(ports.ingest_lag().ingest_lag(second(1)).await.unwrap(), None);
    for (at, lag_s) in
        [(second(1), 0), (at("2026-01-01T00:00:02.000000001Z"), u32::MAX), (second(3), 7)]
    {
        let progress = ingest_lag_of(1, at, lag_s);
        ports.ingest_lag().record_ingest_lag(progress).await.unwrap();
        assert_eq!(ports.ingest_lag().ingest_lag(second(3)).await.unwrap(), Some(progress));
    }
    assert_eq!(list_due(ports, second(1_000)).await, []);
}

async fn greatest_valid_ingest_lag_is_returned(ports: &impl Ports) {
    let record = async |progress| ports.ingest_lag().record_ingest_lag(progress).await.unwrap();
    let worst = ingest_lag_of(0, second(10), 90);
    record(worst).await;
    // More processes than there are slots.
    for process in 1..40 {
        record(ingest_lag_of(process, second(11), 1)).await;
    }
    let lag_at = async |at| ports.ingest_lag().ingest_lag(second(at)).await.unwrap();
    assert_eq!(lag_at(40).await, Some(worst));
    assert_eq!(lag_at(41).await.map(|record| record.lag_s), Some(1), "the report has expired");
    for process in 1..40 {
        record(ingest_lag_of(process, second(41), 2)).await;
    }
    assert_eq!(lag_at(71).await.map(|record| record.lag_s), Some(2));
    assert_eq!(lag_at(72).await, None);
}

async fn queue_depth_includes_messages_in_flight(ports: &impl Ports) {
    let depth = async || ports.queue().depth().await.unwrap();
    assert_eq!(depth().await, 0);
    ports.send(3).await;
    assert_eq!(depth().await, 3);
    ports.receive().await;
    assert_eq!(depth().await, 3);
}
