use meter_domain::segments::{MessageSegment, SegmentPosition};
use meter_domain::time::Timestamp;
use meter_store::{MessageStore, Order, SegmentQuery};

use super::{Ports, contracts};
use crate::fixtures::{
    at, continuation_segment, first_segment, id, location, message_id, sample, second,
};

contracts! {
    segment_reads_back_exactly
    repeated_put_replaces_a_segment
    segments_are_ordered_by_time_then_message_then_kind
    range_includes_its_start_and_excludes_its_end
    pages_cover_the_range_in_both_directions
    days_are_listed_once_in_ascending_order
    index_entry_is_found_by_time_and_message_id
    device_ids_with_a_common_prefix_are_separate
    put_accepts_any_number_of_segments
    remove_deletes_only_the_given_segments
}

fn query(device: &str, from: Timestamp, to: Timestamp, order: Order) -> SegmentQuery {
    let (device_id, day) = (id(device), from.day());
    SegmentQuery { device_id, day, from, to, order, after: None, limit: 1_000, consistent: true }
}

fn position(segment: &MessageSegment) -> SegmentPosition {
    SegmentPosition {
        ts: segment.ts,
        message_id: segment.message_id,
        is_continuation: segment.index_entry.is_none(),
    }
}

/// Repeats a query until nothing is left.
async fn read_all(ports: &impl Ports, mut query: SegmentQuery) -> Vec<MessageSegment> {
    let mut all = Vec::new();
    loop {
        let (segments, more) = ports.messages().read(&query).await.unwrap();
        assert!(segments.len() <= query.limit);
        query.after = segments.last().map(position).or(query.after);
        all.extend(segments);
        if !more {
            return all;
        }
    }
}

async fn day(ports: &impl Ports, device: &str, from: Timestamp) -> Vec<MessageSegment> {
    let to = from.plus_seconds(24 * 3600);
    read_all(ports, query(device, from, to, Order::Ascending)).await
}

async fn segment_reads_back_exactly(ports: &impl Ports) {
    let ts = at("1969-12-31T23:59:58.123456789Z");
    let mut first_segment = first_segment("m", ts, 1);
    first_segment.index_entry.as_mut().unwrap().location.member = None;
    first_segment.samples = vec![
        sample("pf", ts, 0, -0.0),
        sample("pf", ts, 1, f64::MIN_POSITIVE),
        sample("pf", at("1969-12-31T23:59:59.9Z"), 0, 0.1 + 0.2),
        sample("voltage_dc", at("1969-12-31T23:55:00Z"), 65_535, f64::MAX),
    ];
    first_segment.ttl = Some(4_000_000_000);
    let mut continuation_segment = continuation_segment("m", at("1969-12-31T23:50:00Z"), 1);
    continuation_segment.samples.clear();
    ports.messages().put(&[first_segment.clone(), continuation_segment.clone()]).await.unwrap();
    let stored = day(ports, "m", at("1969-12-31T00:00:00Z")).await;
    assert_eq!(stored, [continuation_segment, first_segment]);
    assert!(stored[1].samples[0].value.is_sign_negative());
}

async fn repeated_put_replaces_a_segment(ports: &impl Ports) {
    let first = first_segment("m", second(0), 1);
    let mut second_try = first.clone();
    second_try.index_entry.as_mut().unwrap().location = location("archive/elsewhere");
    second_try.samples.clear();
    ports.messages().put(&[first.clone(), first.clone()]).await.unwrap();
    ports.messages().put(&[first, second_try.clone()]).await.unwrap();
    assert_eq!(day(ports, "m", second(0)).await, [second_try]);
}

async fn segments_are_ordered_by_time_then_message_then_kind(ports: &impl Ports) {
    // Includes a first segment and a continuation of the same message and time, which `split` never
    // produces.
    let mut segments: Vec<_> = (0..9)
        .map(|number| first_segment("m", second(300 * (number as i64 % 3)), number))
        .chain(
            (0..9)
                .map(|number| continuation_segment("m", second(300 * (number as i64 % 2)), number)),
        )
        .collect();
    ports.messages().put(&segments).await.unwrap();
    segments.sort_by_key(position);
    assert_eq!(day(ports, "m", second(0)).await, segments);
    let to = second(24 * 3600);
    let descending = read_all(ports, query("m", second(0), to, Order::Descending)).await;
    segments.reverse();
    assert_eq!(descending, segments);
}

async fn range_includes_its_start_and_excludes_its_end(ports: &impl Ports) {
    let nanosecond_before = at("2026-01-01T00:09:59.999999999Z");
    let inside = [first_segment("m", second(300), 1), first_segment("m", nanosecond_before, 2)];
    let outside = [
        first_segment("m", at("2026-01-01T00:04:59.999999999Z"), 3),
        first_segment("m", second(600), 4),
    ];
    ports.messages().put(&[inside.as_slice(), &outside].concat()).await.unwrap();
    for order in [Order::Ascending, Order::Descending] {
        let mut found = read_all(ports, query("m", second(300), second(600), order)).await;
        found.sort_by_key(position);
        assert_eq!(found, inside);
        assert_eq!(read_all(ports, query("m", second(301), second(301), order)).await, []);
        assert_eq!(read_all(ports, query("m", second(600), second(300), order)).await, []);
    }
}

async fn pages_cover_the_range_in_both_directions(ports: &impl Ports) {
    let mut segments: Vec<_> =
        (0..50).map(|n| first_segment("m", second(n as i64 / 5), n)).collect();
    segments.extend((0..10).map(|n| continuation_segment("m", second(0), n)));
    ports.messages().put(&segments).await.unwrap();
    segments.sort_by_key(position);
    for order in [Order::Ascending, Order::Descending] {
        let limit = 7;
        let request = SegmentQuery { limit, ..query("m", second(0), second(8), order) };
        let mut found = read_all(ports, request).await;
        if order == Order::Descending {
            found.reverse();
        }
        let expected: Vec<_> =
            segments.iter().filter(|segment| segment.ts < second(8)).cloned().collect();
        assert_eq!(found, expected);
    }
    // Positions outside the range exclude all of it or nothing.
    let at_end = Some(position(&segments[59]));
    let past = SegmentQuery { after: at_end, ..query("m", second(0), second(8), Order::Ascending) };
    assert_eq!(read_all(ports, past.clone()).await, []);
    let before = SegmentQuery { order: Order::Descending, ..past };
    assert_eq!(
        read_all(ports, before).await.len(),
        segments.iter().filter(|p| p.ts < second(8)).count()
    );
}

async fn days_are_listed_once_in_ascending_order(ports: &impl Ports) {
    assert_eq!(ports.messages().days(&id("m")).await.unwrap(), []);
    let times = [
        "2026-02-28T23:59:59Z",
        "1970-01-01T00:00:00Z",
        "2026-02-28T00:00:00Z",
        "9998-12-31T00:00:00Z",
    ];
    for (number, time) in times.iter().enumerate() {
        let mut segment = first_segment("m", at(time), number);
        segment.ttl = Some(2_000_000_000 + number as i64 * 1_000_000);
        ports.messages().put(&[segment.clone()]).await.unwrap();
        ports.messages().put(&[MessageSegment { ttl: None, ..segment }]).await.unwrap();
    }
    let days = ports.messages().days(&id("m")).await.unwrap();
    let days: Vec<_> = days.iter().map(ToString::to_string).collect();
    assert_eq!(days, ["1970-01-01", "2026-02-28", "9998-12-31"]);
}

async fn index_entry_is_found_by_time_and_message_id(ports: &impl Ports) {
    let (first_segment, continuation_segment) =
        (first_segment("m", second(1), 1), continuation_segment("m", second(300), 1));
    ports.messages().put(&[first_segment.clone(), continuation_segment]).await.unwrap();
    let find = async |ts, number| {
        ports.messages().get_index_entry(&id("m"), ts, message_id(number)).await.unwrap()
    };
    assert_eq!(find(second(1), 1).await, first_segment.index_entry);
    assert_eq!(find(second(1), 2).await, None);
    assert_eq!(find(second(300), 1).await, None);
    let elsewhere =
        ports.messages().get_index_entry(&id("n"), second(1), message_id(1)).await.unwrap();
    assert_eq!(elsewhere, None);
}

async fn device_ids_with_a_common_prefix_are_separate(ports: &impl Ports) {
    for (number, device) in ["m", "m:1", "m-2026-01-01"].into_iter().enumerate() {
        ports.messages().put(&[first_segment(device, second(0), number)]).await.unwrap();
    }
    for device in ["m", "m:1", "m-2026-01-01"] {
        assert_eq!(day(ports, device, second(0)).await.len(), 1, "{device}");
        assert_eq!(ports.messages().days(&id(device)).await.unwrap().len(), 1, "{device}");
    }
}

async fn put_accepts_any_number_of_segments(ports: &impl Ports) {
    ports.messages().put(&[]).await.unwrap();
    let segments: Vec<_> = (0..130).map(|n| first_segment("m", second(n as i64), n)).collect();
    ports.messages().put(&[&segments[..], &segments[..40]].concat()).await.unwrap();
    assert_eq!(day(ports, "m", second(0)).await, segments);
}

async fn remove_deletes_only_the_given_segments(ports: &impl Ports) {
    let mut segments: Vec<_> = (0..40).map(|n| first_segment("m", second(n as i64), n)).collect();
    segments.extend((0..10).map(|n| continuation_segment("m", second(0), n)));
    segments.push(first_segment("m", at("2026-02-28T00:00:00Z"), 99));
    let of_other = first_segment("n", second(0), 0);
    ports.messages().put(&[&segments[..], std::slice::from_ref(&of_other)].concat()).await.unwrap();
    let (removed, left): (Vec<_>, Vec<_>) =
        segments.into_iter().enumerate().partition(|(n, _)| n % 5 != 3);
    let removed: Vec<_> = removed.iter().map(|(_, segment)| position(segment)).collect();
    ports.messages().remove(&id("m"), &removed).await.unwrap();
    ports.messages().remove(&id("m"), &removed).await.unwrap();
    ports.messages().remove(&id("unregistered"), &removed).await.unwrap();
    ports.messages().remove(&id("m"), &[]).await.unwrap();
    let mut left: Vec<_> = left.into_iter().map(|(_, segment)| segment).collect();
    left.sort_by_key(position);
    assert_eq!(day(ports, "m", second(0)).await, left);
    assert_eq!(day(ports, "m", at("2026-02-28T00:00:00Z")).await, []);
    assert_eq!(day(ports, "n", second(0)).await, [of_other]);
    let first_segment =
        ports.messages().get_index_entry(&id("m"), second(0), message_id(0)).await.unwrap();
    assert_eq!(first_segment, None);
}
