use futures::future::join_all;
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::state::Connection;
use meter_store::{AlertStore, DeviceStore, FleetCounts, RecountReport, StateStore, StateWrite};

use super::{Ports, contracts};
use crate::fixtures::{alert, register_device, second, state, with_connection};

contracts! {
    recount_corrects_wrong_counters
    recount_of_correct_counters_changes_nothing
    ; concurrent:
    recount_during_registrations_ends_with_correct_counters
}

/// Stores devices of every status and connection, and alerts.
async fn fleet(ports: &impl Ports) {
    for n in 0..12 {
        let device = register_device(ports, &format!("m{n}")).await;
        if n % 3 == 0 {
            let after = Device { status: DeviceStatus::Inactive, ..device.clone() };
            ports.devices().update(&device, &after).await.unwrap();
        }
        if n % 2 == 0 {
            let before = state(ports, &format!("m{n}")).await;
            let connection_before = before.presence.connection;
            let state = with_connection(before, Connection::Online);
            let write = StateWrite { state, connection_before };
            ports.states().save_many(&[write]).await.pop().unwrap().unwrap();
        }
    }
    for n in 0..5 {
        let alert = alert("m1", second(n));
        ports.alerts().open(&alert, None).await.unwrap();
        if n < 2 {
            ports.alerts().acknowledge(alert.alert_id, None, second(9)).await.unwrap();
        }
    }
}

async fn fleet_counts(ports: &impl Ports) -> (FleetCounts, u64) {
    let unacknowledged = ports.alerts().count_unacknowledged().await.unwrap();
    (ports.devices().counts().await.unwrap(), unacknowledged)
}

fn all_shards_recounted(recounted: &[RecountReport]) -> bool {
    recounted.iter().all(|recounted| recounted.skipped_shards == 0)
}

async fn recount_corrects_wrong_counters(ports: &impl Ports) {
    fleet(ports).await;
    let correct = fleet_counts(ports).await;
    assert_eq!(correct.1, 3);
    ports.corrupt_counts().await;
    assert_ne!(fleet_counts(ports).await.0, correct.0);
    let recounted = ports.recount().await;
    assert_eq!(fleet_counts(ports).await, correct);
    assert!(all_shards_recounted(&recounted), "{recounted:?}");
    let by_status = recounted.iter().find(|r| r.what == "devices by status").unwrap();
    assert_eq!((by_status.before["active"], by_status.before["inactive"]), (8 + 3, 4));
    assert_eq!((by_status.after["active"], by_status.after["inactive"]), (8, 4));
    let by_connection = recounted.iter().find(|r| r.what == "devices by connection").unwrap();
    assert_eq!((by_connection.before["online"], by_connection.after["online"]), (6 + 2, 6));
    // Later changes are counted on top.
    let device = register_device(ports, "another").await;
    assert_eq!(fleet_counts(ports).await.0.by_status[&DeviceStatus::Active], 9);
    crate::fixtures::delete_device(ports, &device).await;
    assert_eq!(fleet_counts(ports).await, correct);
}

async fn recount_of_correct_counters_changes_nothing(ports: &impl Ports) {
    assert!(ports.recount().await.iter().all(|r| r.before == r.after && r.skipped_shards == 0));
    fleet(ports).await;
    let correct = fleet_counts(ports).await;
    let recounted = ports.recount().await;
    assert!(
        recounted.iter().all(|r| r.before == r.after && r.skipped_shards == 0),
        "{recounted:?}"
    );
    assert_eq!(fleet_counts(ports).await, correct);
}

async fn recount_during_registrations_ends_with_correct_counters(ports: &impl Ports) {
    ports.corrupt_counts().await;
    let registrations = async {
        let names = (0..60).map(|n| format!("m{n}"));
        for chunk in names.collect::<Vec<_>>().chunks(4) {
            join_all(chunk.iter().map(|name| register_device(ports, name))).await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    futures::join!(registrations, ports.recount(), ports.recount());
    let last = ports.recount().await;
    assert!(all_shards_recounted(&last), "{last:?}");
    let (counts, unacknowledged) = fleet_counts(ports).await;
    assert_eq!(counts.by_status, [(DeviceStatus::Active, 60)].into());
    assert_eq!(counts.by_connection, [(Connection::Unknown, 60)].into());
    assert_eq!(unacknowledged, 0);
}
