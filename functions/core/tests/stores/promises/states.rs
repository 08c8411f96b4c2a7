use meter_core::id::DeviceId;
use meter_core::state::{Connection, DeviceState};
use meter_core::store::{DeviceStore, StateStore, StateWrite, WriteError};

use super::promises;
use crate::given::{id, registered, second, state, with_connection};
use crate::ports::Ports;

promises! {
    a_state_reads_back_as_it_was_saved_with_the_next_version
    a_save_under_an_old_version_conflicts_and_changes_nothing
    states_of_one_call_are_saved_or_conflict_alone
    of_two_writes_of_one_device_in_one_call_the_second_conflicts
    any_number_of_states_is_read_in_one_call
    the_counts_follow_the_connections_of_registered_devices
    a_fleet_that_comes_online_at_once_is_counted_exactly
}

fn write(state: DeviceState) -> StateWrite {
    StateWrite { connection_before: state.presence.connection, state }
}

/// The same state, with something else in it.
fn changed(mut state: DeviceState, metrics_refused: u64) -> DeviceState {
    state.metrics_refused = metrics_refused;
    state
}

async fn save(ports: &impl Ports, write: StateWrite) -> Result<(), WriteError> {
    ports.states().save_many(&[write]).await.pop().unwrap()
}

async fn a_state_reads_back_as_it_was_saved_with_the_next_version(ports: &impl Ports) {
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

async fn a_save_under_an_old_version_conflicts_and_changes_nothing(ports: &impl Ports) {
    let new = DeviceState::new(id("m"));
    save(ports, write(new.clone())).await.unwrap();
    let first = state(ports, "m").await;
    save(ports, write(changed(first.clone(), 1))).await.unwrap();
    let stored = state(ports, "m").await;
    let ahead = DeviceState { version: 7, ..first.clone() };
    for old in [new, first, ahead] {
        let answer = save(ports, write(changed(old, 2))).await;
        assert!(matches!(answer, Err(WriteError::Conflict)), "{answer:?}");
        assert_eq!(state(ports, "m").await, stored);
    }
}

async fn states_of_one_call_are_saved_or_conflict_alone(ports: &impl Ports) {
    let ids: Vec<DeviceId> = (0..60).map(|n| id(&format!("m{n}"))).collect();
    let writes: Vec<_> = ids.iter().map(|id| write(DeviceState::new(id.clone()))).collect();
    assert!(ports.states().save_many(&writes).await.iter().all(Result::is_ok));
    let again = writes.iter().enumerate().map(|(n, of_new)| {
        let read = DeviceState { version: u64::from(n % 3 != 0), ..of_new.state.clone() };
        write(changed(read, 1))
    });
    let answers = ports.states().save_many(&again.collect::<Vec<_>>()).await;
    let stored = ports.states().get_many(&ids).await.unwrap();
    assert_eq!(answers.len(), ids.len());
    for (n, (id, answer)) in ids.iter().zip(answers).enumerate() {
        let is_conflict = matches!(answer, Err(WriteError::Conflict));
        assert_eq!((is_conflict, answer.is_ok()), (n % 3 == 0, n % 3 != 0), "{id}: {answer:?}");
        assert_eq!(stored[id].version, if n % 3 == 0 { 1 } else { 2 }, "{id}");
    }
}

async fn of_two_writes_of_one_device_in_one_call_the_second_conflicts(ports: &impl Ports) {
    let new = DeviceState::new(id("m"));
    let writes = [1, 2].map(|n| write(changed(new.clone(), n)));
    let answers = ports.states().save_many(&writes).await;
    assert!(matches!(answers[..], [Ok(()), Err(WriteError::Conflict)]), "{answers:?}");
    assert_eq!(state(ports, "m").await.metrics_refused, 1);
}

async fn any_number_of_states_is_read_in_one_call(ports: &impl Ports) {
    let ids: Vec<DeviceId> = (0..130).map(|n| id(&format!("m{n}"))).collect();
    for id in &ids[..110] {
        save(ports, write(DeviceState::new(id.clone()))).await.unwrap();
    }
    let asked: Vec<_> = ids.iter().chain(&ids[..10]).cloned().collect();
    let found = ports.states().get_many(&asked).await.unwrap();
    assert_eq!(found.len(), 110);
    assert!(found.iter().all(|(id, state)| state.device_id == *id));
    assert!(ports.states().get_many(&[]).await.unwrap().is_empty());
}

async fn counts(ports: &impl Ports) -> [u64; 3] {
    let counts = ports.devices().counts().await.unwrap().by_connection;
    Connection::ALL.map(|connection| counts.get(&connection).copied().unwrap_or(0))
}

/// Reads the state and writes it with another connection.
async fn connect(ports: &impl Ports, device: &str, connection: Connection) {
    let before = state(ports, device).await;
    let write = StateWrite {
        connection_before: before.presence.connection,
        state: with_connection(before, connection),
    };
    save(ports, write).await.unwrap();
}

async fn the_counts_follow_the_connections_of_registered_devices(ports: &impl Ports) {
    connect(ports, "stranger", Connection::Online).await;
    assert_eq!(counts(ports).await, [0, 0, 0]);
    registered(ports, "m").await;
    assert_eq!(counts(ports).await, [0, 0, 1]);
    connect(ports, "m", Connection::Online).await;
    connect(ports, "m", Connection::Online).await;
    assert_eq!(counts(ports).await, [1, 0, 0]);
    connect(ports, "m", Connection::Offline).await;
    assert_eq!(counts(ports).await, [0, 1, 0]);
    registered(ports, "stranger").await;
    assert_eq!(counts(ports).await, [1, 1, 0]);
}

async fn a_fleet_that_comes_online_at_once_is_counted_exactly(ports: &impl Ports) {
    let names: Vec<String> = (0..30).map(|n| format!("m{n}")).collect();
    let mut writes = Vec::new();
    for (n, name) in names.iter().enumerate() {
        registered(ports, name).await;
        let before = state(ports, name).await;
        let mut now = with_connection(before.clone(), Connection::Online);
        // Some have read a state that is no longer the stored one.
        now.version -= u64::from(n % 10 == 3);
        writes.push(StateWrite { state: now, connection_before: before.presence.connection });
    }
    let answers = ports.states().save_many(&writes).await;
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Err(WriteError::Conflict) => assert_eq!(n % 10, 3),
            answer => assert!(answer.is_ok() && n % 10 != 3, "{n}: {answer:?}"),
        }
    }
    assert_eq!(counts(ports).await, [27, 0, 3]);
}
