use futures::future::join_all;
use meter_domain::alert::AlertRevision;
use meter_domain::alert::{Alert, AlertState, Severity};
use meter_domain::id;
use meter_store::{
    AlertFilter, AlertStore, CreateOutcome, DeviceStore, IDEMPOTENCY_TTL_S, IdempotencyKey,
};

use super::{Ports, contracts};
use crate::fixtures::{self, alert, collect_pages, delete_device, register_device, second};

contracts! {
    repeated_open_returns_the_stored_alert
    alert_of_unregistered_device_is_not_stored
    idempotency_key_returns_the_first_alert_until_it_expires
    first_acknowledgement_of_an_alert_is_kept
    outdated_alert_revision_is_ignored
    alert_revision_keeps_the_acknowledgement
    alerts_are_listed_newest_first_by_filter
    alerts_are_listed_by_state
    cleanup_deletes_alerts_and_keys_of_one_device
    ; concurrent:
    concurrent_acknowledgements_decrement_the_counter_once
}

async fn open(ports: &impl Ports, alert: &Alert) {
    assert_eq!(ports.alerts().open(alert, None).await.unwrap(), CreateOutcome::Created);
}

async fn list(ports: &impl Ports, filter: AlertFilter) -> Vec<Alert> {
    collect_pages!(5, |request| ports.alerts().list(&filter, &request))
}

async fn of_device(ports: &impl Ports, device_id: &str) -> Vec<Alert> {
    let device_id = Some(fixtures::id(device_id));
    list(ports, AlertFilter { device_id, ..AlertFilter::default() }).await
}

async fn count_unacknowledged(ports: &impl Ports) -> u64 {
    ports.alerts().count_unacknowledged().await.unwrap()
}

async fn repeated_open_returns_the_stored_alert(ports: &impl Ports) {
    register_device(ports, "m").await;
    let first =
        Alert { message: "é\n".to_owned(), severity: Severity::Critical, ..alert("m", second(1)) };
    open(ports, &first).await;
    let again = Alert { message: "other".to_owned(), ..first.clone() };
    let result = ports.alerts().open(&again, None).await.unwrap();
    assert_eq!(result, CreateOutcome::AlreadyExists(first.clone()));
    assert_eq!(of_device(ports, "m").await, [first]);
    assert_eq!(count_unacknowledged(ports).await, 1);
}

async fn alert_of_unregistered_device_is_not_stored(ports: &impl Ports) {
    let device = register_device(ports, "m").await;
    delete_device(ports, &device).await;
    let key = IdempotencyKey("k".to_owned());
    for device in ["m", "unregistered"] {
        let result = ports.alerts().open(&alert(device, second(1)), Some(&key)).await.unwrap();
        assert_eq!(result, CreateOutcome::DeviceNotFound);
    }
    assert_eq!(list(ports, AlertFilter::default()).await, []);
    assert_eq!(count_unacknowledged(ports).await, 0);
}

async fn idempotency_key_returns_the_first_alert_until_it_expires(ports: &impl Ports) {
    register_device(ports, "m").await;
    register_device(ports, "n").await;
    let key = IdempotencyKey("é#\u{1} ".repeat(500));
    let create_with_key =
        async |alert: &Alert| ports.alerts().open(alert, Some(&key)).await.unwrap();
    let first = alert("m", second(0));
    assert_eq!(create_with_key(&first).await, CreateOutcome::Created);
    let within = alert("m", second(IDEMPOTENCY_TTL_S - 1));
    assert_eq!(create_with_key(&within).await, CreateOutcome::AlreadyExists(first.clone()));
    assert_eq!(create_with_key(&first).await, CreateOutcome::AlreadyExists(first.clone()));
    // Keys are separate for each device.
    assert_eq!(create_with_key(&alert("n", second(1))).await, CreateOutcome::Created);
    let after = alert("m", second(IDEMPOTENCY_TTL_S));
    assert_eq!(create_with_key(&after).await, CreateOutcome::Created);
    assert_eq!(of_device(ports, "m").await, [after, first]);
    assert_eq!(count_unacknowledged(ports).await, 3);
}

async fn first_acknowledgement_of_an_alert_is_kept(ports: &impl Ports) {
    register_device(ports, "m").await;
    let raised = alert("m", second(1));
    open(ports, &raised).await;
    let acknowledged = Alert {
        acknowledged: true,
        acknowledged_at: Some(second(2)),
        acknowledged_by: Some("é".to_owned()),
        ..raised.clone()
    };
    for (by, at) in [("é", 2), ("other", 3)] {
        let by = Some(by);
        let result = ports.alerts().acknowledge(raised.alert_id, by, second(at)).await.unwrap();
        assert_eq!(result, Some(acknowledged.clone()));
        assert_eq!(count_unacknowledged(ports).await, 0);
    }
    let unknown = id::new_id(second(1));
    assert_eq!(ports.alerts().acknowledge(unknown, None, second(2)).await.unwrap(), None);
    assert_eq!(of_device(ports, "m").await, [acknowledged]);
}

async fn concurrent_acknowledgements_decrement_the_counter_once(ports: &impl Ports) {
    register_device(ports, "m").await;
    let (one, other) = (alert("m", second(1)), alert("m", second(2)));
    open(ports, &one).await;
    open(ports, &other).await;
    let tries = (0..6).map(|n| {
        let (ports, id) = (ports.clone(), one.alert_id);
        async move { ports.alerts().acknowledge(id, None, second(n)).await.unwrap().unwrap() }
    });
    let results = join_all(tries).await;
    assert!(results.iter().all(|alert| alert == &results[0] && alert.acknowledged), "{results:?}");
    assert_eq!(count_unacknowledged(ports).await, 1);
}

async fn revise(
    ports: &impl Ports,
    device: &str,
    alert: &Alert,
    number: u64,
    resolved_at: Option<i64>,
    message: Option<&str>,
) {
    let revision = AlertRevision {
        state_version: number,
        resolved_at: resolved_at.map(second),
        message: message.map(str::to_owned),
    };
    let (device, id) = (fixtures::id(device), alert.alert_id);
    ports.alerts().revise(&device, id, &revision).await.unwrap();
}

async fn outdated_alert_revision_is_ignored(ports: &impl Ports) {
    register_device(ports, "m").await;
    let raised = alert("m", second(1));
    revise(ports, "m", &raised, 9, Some(1), None).await;
    assert_eq!(of_device(ports, "m").await, []);
    open(ports, &raised).await;
    revise(ports, "other", &raised, 9, Some(1), None).await;
    assert_eq!(of_device(ports, "m").await, std::slice::from_ref(&raised));

    let stored = async || of_device(ports, "m").await.remove(0).resolved_at;
    revise(ports, "m", &raised, 7, Some(2), None).await;
    assert_eq!(stored().await, Some(second(2)));
    revise(ports, "m", &raised, 9, Some(4), None).await;
    // An older revision and a repetition have no effect.
    revise(ports, "m", &raised, 8, None, Some("late")).await;
    revise(ports, "m", &raised, 9, Some(4), None).await;
    let expected = Alert { resolved_at: Some(second(4)), ..raised.clone() };
    assert_eq!(of_device(ports, "m").await, [expected]);
    revise(ports, "m", &raised, 10, None, None).await;
    assert_eq!(of_device(ports, "m").await, [raised]);
}

async fn alert_revision_keeps_the_acknowledgement(ports: &impl Ports) {
    register_device(ports, "m").await;
    let raised = Alert { message: "first".to_owned(), ..alert("m", second(1)) };
    open(ports, &raised).await;
    revise(ports, "m", &raised, 2, None, Some("é\u{1}")).await;
    assert_eq!(count_unacknowledged(ports).await, 1);
    ports.alerts().acknowledge(raised.alert_id, None, second(2)).await.unwrap();
    revise(ports, "m", &raised, 3, Some(3), None).await;
    let expected = Alert {
        message: "é\u{1}".to_owned(),
        acknowledged: true,
        acknowledged_at: Some(second(2)),
        resolved_at: Some(second(3)),
        ..raised.clone()
    };
    assert_eq!(of_device(ports, "m").await, std::slice::from_ref(&expected));
    assert_eq!(count_unacknowledged(ports).await, 0);
    // A repeated open returns the alert as it was changed since.
    let again = ports.alerts().open(&raised, None).await.unwrap();
    assert_eq!(again, CreateOutcome::AlreadyExists(expected));
}

async fn alerts_are_listed_newest_first_by_filter(ports: &impl Ports) {
    let mut all = Vec::new();
    for device in ["m", "n"] {
        register_device(ports, device).await;
    }
    for n in 0..24 {
        let mut raised = alert(if n % 3 == 0 { "n" } else { "m" }, second(n));
        if n % 2 == 0 {
            raised.severity = Severity::Critical;
        }
        open(ports, &raised).await;
        if n % 4 == 0 {
            raised = ports
                .alerts()
                .acknowledge(raised.alert_id, None, second(99))
                .await
                .unwrap()
                .unwrap();
        }
        all.insert(0, raised);
    }
    for device_id in [None, Some(fixtures::id("m"))] {
        for acknowledged in [None, Some(true), Some(false)] {
            for severity in [None, Some(Severity::Critical), Some(Severity::Warning)] {
                let expected: Vec<_> = all
                    .iter()
                    .filter(|a| device_id.as_ref().is_none_or(|id| a.device_id == *id))
                    .filter(|a| acknowledged.is_none_or(|value| a.acknowledged == value))
                    .filter(|a| severity.is_none_or(|value| a.severity == value))
                    .cloned()
                    .collect();
                let filter = AlertFilter {
                    device_id: device_id.clone(),
                    acknowledged,
                    severity,
                    state: None,
                };
                assert_eq!(list(ports, filter.clone()).await, expected, "{filter:?}");
            }
        }
    }
}

async fn alerts_are_listed_by_state(ports: &impl Ports) {
    register_device(ports, "m").await;
    let rule_id = Some(id::new_id(second(0)));
    let alerts = [1, 2, 3, 4].map(|n| Alert { rule_id, ..alert("m", second(n)) });
    for alert in &alerts {
        open(ports, alert).await;
    }
    for alert in &alerts[1..3] {
        ports.alerts().acknowledge(alert.alert_id, None, second(9)).await.unwrap();
    }
    for alert in &alerts[2..] {
        revise(ports, "m", alert, 1, Some(9), None).await;
    }
    let device = Some(fixtures::id("m"));
    for device_id in [None, device] {
        let listed = async |state| {
            let state = Some(state);
            let filter =
                AlertFilter { device_id: device_id.clone(), state, ..AlertFilter::default() };
            list(ports, filter).await.into_iter().map(|alert| alert.alert_id).collect::<Vec<_>>()
        };
        let ids = [3, 2, 1, 0].map(|n: usize| alerts[n].alert_id);
        assert_eq!(listed(AlertState::Open).await, ids[3..]);
        assert_eq!(listed(AlertState::Acknowledged).await, ids[2..3]);
        assert_eq!(listed(AlertState::Resolved).await, ids[..2]);
    }
    assert_eq!(of_device(ports, "m").await[3].rule_id, rule_id);
}

async fn cleanup_deletes_alerts_and_keys_of_one_device(ports: &impl Ports) {
    for device in ["m", "n"] {
        register_device(ports, device).await;
        for n in 0..60 {
            let key = IdempotencyKey(n.to_string());
            let raised = alert(device, second(n));
            assert_eq!(
                ports.alerts().open(&raised, Some(&key)).await.unwrap(),
                CreateOutcome::Created
            );
            if n % 10 == 0 {
                ports.alerts().acknowledge(raised.alert_id, None, second(99)).await.unwrap();
            }
        }
    }
    assert_eq!(count_unacknowledged(ports).await, 108);
    // Neither for a registered device nor for another deletion is anything deleted.
    assert!(!ports.alerts().delete_for_device(&fixtures::id("m"), second(0)).await.unwrap());
    let device = ports.devices().get(&fixtures::id("m")).await.unwrap().unwrap();
    delete_device(ports, &device).await;
    assert!(!ports.alerts().delete_for_device(&fixtures::id("m"), second(1)).await.unwrap());
    assert_eq!(of_device(ports, "m").await.len(), 60);
    let mut rounds = 0;
    while ports.alerts().delete_for_device(&fixtures::id("m"), second(0)).await.unwrap() {
        rounds += 1;
        assert!(rounds < 20, "the cleanup does not end");
    }
    assert_eq!(of_device(ports, "m").await, []);
    assert_eq!(of_device(ports, "n").await.len(), 60);
    assert_eq!(count_unacknowledged(ports).await, 54);
    ports.devices().remove_tombstone(&fixtures::id("m"), second(0)).await.unwrap();
    register_device(ports, "m").await;
    let key = IdempotencyKey("0".to_owned());
    let created = ports.alerts().open(&alert("m", second(99)), Some(&key)).await.unwrap();
    assert_eq!(created, CreateOutcome::Created);
}
