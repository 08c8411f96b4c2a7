use meter_store::{QuarantineEntry, QuarantineStore};

use super::{Ports, contracts};
use crate::fixtures::{collect_pages, message_id, quarantined, second};

contracts! {
    quarantine_entry_is_found_by_receipt_time_and_id
    quarantine_is_listed_newest_first_over_days_and_pages
    repeated_put_keeps_one_quarantine_entry
    redelivered_message_has_one_quarantine_entry
}

const DAY: i64 = 24 * 3600;

async fn quarantine_entry_is_found_by_receipt_time_and_id(ports: &impl Ports) {
    let entry = quarantined(second(1), 1);
    ports.quarantine().put_quarantined(std::slice::from_ref(&entry)).await.unwrap();
    let find = async |at, number| {
        ports.quarantine().get_quarantined(at, message_id(number)).await.unwrap()
    };
    assert_eq!(find(second(1), 1).await, Some(entry));
    assert_eq!(find(second(1), 2).await, None);
    assert_eq!(find(second(2), 1).await, None);
}

async fn quarantine_is_listed_newest_first_over_days_and_pages(ports: &impl Ports) {
    let mut entries: Vec<_> = (0..40).map(|n| quarantined(second(n as i64 % 3), n)).collect();
    entries.extend((40..45).map(|n| quarantined(second(-DAY), n)));
    entries.extend((45..50).map(|n| quarantined(second(30 * DAY + n as i64), n)));
    ports.quarantine().put_quarantined(&entries).await.unwrap();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.id()));
    for limit in [7, 45, 50, 1_000] {
        let listed = collect_pages!(limit, |request| ports.quarantine().list_quarantined(&request));
        assert_eq!(listed, entries, "in pages of {limit}");
    }
}

async fn repeated_put_keeps_one_quarantine_entry(ports: &impl Ports) {
    let entry = quarantined(second(1), 1);
    let twice = [entry.clone(), entry.clone()];
    ports.quarantine().put_quarantined(&twice).await.unwrap();
    ports.quarantine().put_quarantined(&twice).await.unwrap();
    let listed = collect_pages!(10, |request| ports.quarantine().list_quarantined(&request));
    assert_eq!(listed, [entry]);
}

async fn redelivered_message_has_one_quarantine_entry(ports: &impl Ports) {
    let first = quarantined(second(1), 1);
    let put = async |entry: &_| {
        ports.quarantine().put_quarantined(std::slice::from_ref(entry)).await.unwrap();
    };
    put(&first).await;
    // A redelivery is received later, even on another day, and is in another object.
    for at in [second(2), second(DAY), second(0)] {
        let mut again = quarantined(at, 1);
        again.location.object = format!("quarantine/{at}.ndjson.gz");
        put(&again).await;
        let listed = collect_pages!(10, |request| ports.quarantine().list_quarantined(&request));
        let stored = QuarantineEntry { received_at: first.received_at, ..again };
        assert_eq!(listed, std::slice::from_ref(&stored));
        let actual =
            ports.quarantine().get_quarantined(first.received_at, first.message_id).await.unwrap();
        assert_eq!(actual, Some(stored));
    }
}
