use futures::future::join_all;
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::state::Connection;
use meter_store::{AlertStore, DeviceStore, FleetCounts, Recounted, StateStore, StateWrite};

use super::promises;
use crate::given::{alert, registered, second, state, with_connection};
use crate::ports::Ports;

promises! {
    counts_that_are_wrong_are_right_after_a_recount
    a_recount_of_what_is_right_changes_nothing
    counts_are_right_when_devices_are_registered_during_recounts
}

/// Devices in every status and connection, and alerts.
async fn fleet(ports: &impl Ports) {
    for n in 0..12 {
        let device = registered(ports, &format!("m{n}")).await;
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

async fn counted(ports: &impl Ports) -> (FleetCounts, u64) {
    let unacknowledged = ports.alerts().unacknowledged().await.unwrap();
    (ports.devices().counts().await.unwrap(), unacknowledged)
}

fn are_done(recounted: &[Recounted]) -> bool {
    recounted.iter().all(|recounted| recounted.busy == 0)
}

async fn counts_that_are_wrong_are_right_after_a_recount(ports: &impl Ports) {
    fleet(ports).await;
    let right = counted(ports).await;
    assert_eq!(right.1, 3);
    ports.miscount().await;
    assert_ne!(counted(ports).await.0, right.0);
    let recounted = ports.recount().await;
    assert_eq!(counted(ports).await, right);
    assert!(are_done(&recounted), "{recounted:?}");
    let by_status = recounted.iter().find(|r| r.what == "devices by status").unwrap();
    assert_eq!((by_status.was["active"], by_status.was["inactive"]), (8 + 3, 4));
    assert_eq!((by_status.is["active"], by_status.is["inactive"]), (8, 4));
    let by_connection = recounted.iter().find(|r| r.what == "devices by connection").unwrap();
    assert_eq!((by_connection.was["online"], by_connection.is["online"]), (6 + 2, 6));
    // And they go on being right.
    let device = registered(ports, "another").await;
    assert_eq!(counted(ports).await.0.by_status[&DeviceStatus::Active], 9);
    crate::given::buried(ports, &device).await;
    assert_eq!(counted(ports).await, right);
}

async fn a_recount_of_what_is_right_changes_nothing(ports: &impl Ports) {
    assert!(ports.recount().await.iter().all(|r| r.was == r.is && r.busy == 0));
    fleet(ports).await;
    let right = counted(ports).await;
    let recounted = ports.recount().await;
    assert!(recounted.iter().all(|r| r.was == r.is && r.busy == 0), "{recounted:?}");
    assert_eq!(counted(ports).await, right);
}

async fn counts_are_right_when_devices_are_registered_during_recounts(ports: &impl Ports) {
    ports.miscount().await;
    let registrations = async {
        let names = (0..60).map(|n| format!("m{n}"));
        for chunk in names.collect::<Vec<_>>().chunks(4) {
            join_all(chunk.iter().map(|name| registered(ports, name))).await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    futures::join!(registrations, ports.recount(), ports.recount());
    let last = ports.recount().await;
    assert!(are_done(&last), "{last:?}");
    let (counts, unacknowledged) = counted(ports).await;
    assert_eq!(counts.by_status, [(DeviceStatus::Active, 60)].into());
    assert_eq!(counts.by_connection, [(Connection::Unknown, 60)].into());
    assert_eq!(unacknowledged, 0);
}
