use futures::future::join_all;
use meter_domain::alert::AlertRevision;
use meter_domain::alert::{Alert, AlertState, Severity};
use meter_domain::id;
use meter_store::{
    AlertFilter, AlertStore, CreateOutcome, DeviceStore, IDEMPOTENCY_TTL_S, IdempotencyKey,
};

use super::contract_tests;
use crate::fixtures::{self, alert, collect_pages, delete_device, register_device, second};
use crate::ports::Ports;

contract_tests! {
    an_alert_of_a_registered_device_is_raised_once
    an_alert_of_another_device_is_not_raised
    a_key_gives_the_first_alert_again_for_a_day
    an_alert_is_acknowledged_once_and_twice_is_no_error
    many_who_acknowledge_an_alert_are_counted_as_one
    of_two_revisions_the_greater_one_stands
    a_revision_leaves_the_rest_of_an_alert_alone
    alerts_are_listed_newest_first_of_a_device_and_of_the_fleet
    alerts_are_listed_by_where_they_are_in_their_life
    a_sweep_removes_all_alerts_of_one_device_and_their_keys
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

async fn an_alert_of_a_registered_device_is_raised_once(ports: &impl Ports) {
    register_device(ports, "m").await;
    let first =
        Alert { message: "é\n".to_owned(), severity: Severity::Critical, ..alert("m", second(1)) };
    open(ports, &first).await;
    let again = Alert { message: "other".to_owned(), ..first.clone() };
    let answer = ports.alerts().open(&again, None).await.unwrap();
    assert_eq!(answer, CreateOutcome::AlreadyExists(first.clone()));
    assert_eq!(of_device(ports, "m").await, [first]);
    assert_eq!(count_unacknowledged(ports).await, 1);
}

async fn an_alert_of_another_device_is_not_raised(ports: &impl Ports) {
    let device = register_device(ports, "m").await;
    delete_device(ports, &device).await;
    let key = IdempotencyKey("k".to_owned());
    for device in ["m", "nobody"] {
        let answer = ports.alerts().open(&alert(device, second(1)), Some(&key)).await.unwrap();
        assert_eq!(answer, CreateOutcome::DeviceNotFound);
    }
    assert_eq!(list(ports, AlertFilter::default()).await, []);
    assert_eq!(count_unacknowledged(ports).await, 0);
}

async fn a_key_gives_the_first_alert_again_for_a_day(ports: &impl Ports) {
    register_device(ports, "m").await;
    register_device(ports, "n").await;
    let key = IdempotencyKey("é#\u{1} ".repeat(500));
    let make = async |alert: &Alert| ports.alerts().open(alert, Some(&key)).await.unwrap();
    let first = alert("m", second(0));
    assert_eq!(make(&first).await, CreateOutcome::Created);
    let within = alert("m", second(IDEMPOTENCY_TTL_S - 1));
    assert_eq!(make(&within).await, CreateOutcome::AlreadyExists(first.clone()));
    assert_eq!(make(&first).await, CreateOutcome::AlreadyExists(first.clone()));
    // The key of another device is another key.
    assert_eq!(make(&alert("n", second(1))).await, CreateOutcome::Created);
    let after = alert("m", second(IDEMPOTENCY_TTL_S));
    assert_eq!(make(&after).await, CreateOutcome::Created);
    assert_eq!(of_device(ports, "m").await, [after, first]);
    assert_eq!(count_unacknowledged(ports).await, 3);
}

async fn an_alert_is_acknowledged_once_and_twice_is_no_error(ports: &impl Ports) {
    register_device(ports, "m").await;
    let raised = alert("m", second(1));
    open(ports, &raised).await;
    let seen = Alert {
        acknowledged: true,
        acknowledged_at: Some(second(2)),
        acknowledged_by: Some("é".to_owned()),
        ..raised.clone()
    };
    for (by, at) in [("é", 2), ("other", 3)] {
        let by = Some(by);
        let answer = ports.alerts().acknowledge(raised.alert_id, by, second(at)).await.unwrap();
        assert_eq!(answer, Some(seen.clone()));
        assert_eq!(count_unacknowledged(ports).await, 0);
    }
    let unknown = id::new_id(second(1));
    assert_eq!(ports.alerts().acknowledge(unknown, None, second(2)).await.unwrap(), None);
    assert_eq!(of_device(ports, "m").await, [seen]);
}

async fn many_who_acknowledge_an_alert_are_counted_as_one(ports: &impl Ports) {
    register_device(ports, "m").await;
    let (one, other) = (alert("m", second(1)), alert("m", second(2)));
    open(ports, &one).await;
    open(ports, &other).await;
    let tries = (0..6).map(|n| {
        let (ports, id) = (ports.clone(), one.alert_id);
        async move { ports.alerts().acknowledge(id, None, second(n)).await.unwrap().unwrap() }
    });
    let answers = join_all(tries).await;
    assert!(answers.iter().all(|alert| alert == &answers[0] && alert.acknowledged), "{answers:?}");
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

async fn of_two_revisions_the_greater_one_stands(ports: &impl Ports) {
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
    // What comes late, or again, changes nothing.
    revise(ports, "m", &raised, 8, None, Some("late")).await;
    revise(ports, "m", &raised, 9, Some(4), None).await;
    let expected = Alert { resolved_at: Some(second(4)), ..raised.clone() };
    assert_eq!(of_device(ports, "m").await, [expected]);
    revise(ports, "m", &raised, 10, None, None).await;
    assert_eq!(of_device(ports, "m").await, [raised]);
}

async fn a_revision_leaves_the_rest_of_an_alert_alone(ports: &impl Ports) {
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
    // Raised again, it is what became of it.
    let again = ports.alerts().open(&raised, None).await.unwrap();
    assert_eq!(again, CreateOutcome::AlreadyExists(expected));
}

async fn alerts_are_listed_newest_first_of_a_device_and_of_the_fleet(ports: &impl Ports) {
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
                    .filter(|a| acknowledged.is_none_or(|wanted| a.acknowledged == wanted))
                    .filter(|a| severity.is_none_or(|wanted| a.severity == wanted))
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

async fn alerts_are_listed_by_where_they_are_in_their_life(ports: &impl Ports) {
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

async fn a_sweep_removes_all_alerts_of_one_device_and_their_keys(ports: &impl Ports) {
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
    // Nothing of a device that is registered, nor of one that was deleted at another time.
    assert!(!ports.alerts().delete_for_device(&fixtures::id("m"), second(0)).await.unwrap());
    let device = ports.devices().get(&fixtures::id("m")).await.unwrap().unwrap();
    delete_device(ports, &device).await;
    assert!(!ports.alerts().delete_for_device(&fixtures::id("m"), second(1)).await.unwrap());
    assert_eq!(of_device(ports, "m").await.len(), 60);
    let mut sweeps = 0;
    while ports.alerts().delete_for_device(&fixtures::id("m"), second(0)).await.unwrap() {
        sweeps += 1;
        assert!(sweeps < 20, "a sweep has no end");
    }
    assert_eq!(of_device(ports, "m").await, []);
    assert_eq!(of_device(ports, "n").await.len(), 60);
    assert_eq!(count_unacknowledged(ports).await, 54);
    ports.devices().remove_tombstone(&fixtures::id("m"), second(0)).await.unwrap();
    register_device(ports, "m").await;
    let key = IdempotencyKey("0".to_owned());
    let anew = ports.alerts().open(&alert("m", second(99)), Some(&key)).await.unwrap();
    assert_eq!(anew, CreateOutcome::Created);
}
