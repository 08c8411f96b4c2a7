use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn missing(sequence: &Sequence) -> Vec<(u32, u32)> {
    sequence.missing_ranges().iter().map(|m| (m.start, m.end)).collect()
}

fn second(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1_000).unwrap()
}

/// Records pairs of a number and a device time in seconds, without a session name.
fn record_all(sequence: &mut Sequence, numbers: &[(u32, i64)]) -> Vec<SequenceOutcome> {
    numbers.iter().map(|(seq, s)| sequence.record(*seq, None, second(*s), second(*s))).collect()
}

#[test]
fn late_numbers_close_a_gap() {
    let mut sequence = Sequence::default();
    record_all(&mut sequence, &[(10, 10), (11, 11), (15, 15)]);
    assert_eq!(missing(&sequence), [(12, 14)]);
    let outcomes = record_all(&mut sequence, &[(13, 13), (13, 13)]);
    assert_eq!(outcomes, [SequenceOutcome::Late, SequenceOutcome::Duplicate]);
    assert_eq!(missing(&sequence), [(12, 12), (14, 14)]);
    record_all(&mut sequence, &[(14, 14), (12, 12)]);
    assert!(sequence.missing_ranges().is_empty());
    assert_eq!((sequence.late, sequence.repeats, sequence.restarts), (3, 1, 0));
}

#[test]
fn wrap_at_32_bits_is_not_a_gap() {
    let mut sequence = Sequence::default();
    record_all(&mut sequence, &[(u32::MAX - 1, 1), (1, 4)]);
    assert_eq!(missing(&sequence), [(u32::MAX, 0)]);
    record_all(&mut sequence, &[(u32::MAX, 2), (0, 3), (2, 5)]);
    assert!(sequence.missing_ranges().is_empty());
    assert_eq!(sequence.restarts, 0);
}

#[test]
fn new_boot_is_a_restart_and_late_messages_belong_to_their_boot() {
    let mut sequence = Sequence::default();
    for (seq, boot) in [(0, "a"), (2, "a"), (0, "b"), (1, "b")] {
        sequence.record(seq, Some(boot), second(0), second(0));
    }
    assert_eq!(sequence.record(1, Some("a"), second(0), second(0)), SequenceOutcome::Late);
    assert_eq!(sequence.record(0, Some("b"), second(0), second(0)), SequenceOutcome::Duplicate);
    assert!(sequence.missing_ranges().is_empty());
    assert_eq!(sequence.restarts, 1);
}

#[test]
fn without_boot_a_later_repeat_is_a_restart_and_a_redelivery_is_not() {
    let mut sequence = Sequence::default();
    record_all(&mut sequence, &[(0, 100), (1, 101), (2, 102)]);
    assert_eq!(sequence.record(1, None, second(101), second(0)), SequenceOutcome::Duplicate);
    assert_eq!(
        sequence.record(0, None, second(200), second(0)),
        SequenceOutcome::NewSession { restart: true }
    );
    assert_eq!(sequence.record(1, None, second(201), second(0)), SequenceOutcome::Advanced);
    assert_eq!(sequence.restarts, 1);
}

#[test]
fn without_boot_a_number_far_behind_is_a_restart_at_any_clock() {
    let mut sequence = Sequence::default();
    record_all(&mut sequence, &[(5_000, 1_700_000_000)]);
    assert_eq!(
        sequence.record(0, None, second(3), second(0)),
        SequenceOutcome::NewSession { restart: true }
    );
    assert_eq!(
        sequence.record(3_976, None, second(1_699_999_999), second(0)),
        SequenceOutcome::Late,
        "1,024 behind"
    );
}

#[test]
fn outlier_does_not_split_a_session() {
    let mut sequence = Sequence::default();
    record_all(&mut sequence, &[(5, 5), (4_000_000_000, 6), (6, 7), (7, 8)]);
    assert!(sequence.missing_ranges().is_empty(), "{:?}", sequence.missing_ranges());
    assert_eq!(sequence.restarts, 1);
}

#[test]
fn split_gap_is_overdue_at_the_age_of_the_whole_gap() {
    let mut sequence = Sequence::default();
    record_all(&mut sequence, &[(1, 0), (5, 100), (3, 130), (9, 140)]);
    let overdue = |now| {
        let ranges = sequence.overdue(second(now), 60);
        ranges.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(overdue(159), [""; 0]);
    assert_eq!(overdue(160), ["2", "4"]);
    assert_eq!(overdue(200), ["2", "4", "6 to 8"]);
    assert_eq!(sequence.next_overdue(second(0), 60), Some(second(160)));
    assert_eq!(sequence.next_overdue(second(160), 60), Some(second(200)));
    assert_eq!(sequence.next_overdue(second(200), 60), None);
}

#[test]
fn serialized_sequence_is_equal_and_validated() {
    let mut sequence = Sequence::default();
    record_all(&mut sequence, &[(1, 1), (9, 2)]);
    let text = serde_json::to_string(&sequence).unwrap();
    assert_eq!(serde_json::from_str::<Sequence>(&text).unwrap(), sequence);
    let damaged = text.replace("[9,9,2]", "[0,0,2]");
    assert!(serde_json::from_str::<Sequence>(&damaged).is_err());
}

proptest! {
    #[test]
    fn missing_ranges_are_the_numbers_that_never_arrived(
        start in any::<u32>(),
        offsets in prop::collection::vec(0_u32..100, 1..150),
    ) {
        let mut sequence = Sequence::default();
        for offset in &offsets {
            sequence.record(start.wrapping_add(*offset), Some("b"), second(i64::from(*offset)), second(0));
        }
        let seen: BTreeSet<u32> = offsets.iter().copied().collect();
        let (least, greatest) = (*seen.first().unwrap(), *seen.last().unwrap());
        let expected: Vec<u32> =
            (least..greatest).filter(|n| !seen.contains(n)).map(|n| start.wrapping_add(n)).collect();
        let mut actual = Vec::new();
        for (from, to) in missing(&sequence) {
            let length = to.wrapping_sub(from);
            actual.extend((0..=length).map(|n| from.wrapping_add(n)));
        }
        prop_assert_eq!(actual, expected);
        prop_assert_eq!(sequence.repeats, (offsets.len() - seen.len()) as u64);
        prop_assert_eq!(sequence.restarts, 0);
    }

    #[test]
    fn ordered_restarts_without_boot_are_counted_exactly(
        runs in prop::collection::vec(1_u32..50, 1..8),
    ) {
        let mut sequence = Sequence::default();
        let mut clock = 0;
        for run in &runs {
            for seq in 0..*run {
                clock += 1;
                sequence.record(seq, None, second(clock), second(0));
            }
        }
        prop_assert_eq!(sequence.restarts, runs.len() as u64 - 1);
        prop_assert_eq!((sequence.repeats, sequence.late), (0, 0));
    }

    #[test]
    fn sequence_is_bounded_and_counts_every_number(
        numbers in prop::collection::vec((any::<u32>(), prop::option::of("[ab]"), any::<i32>()), 0..300),
    ) {
        let mut sequence = Sequence::default();
        let mut duplicates = 0;
        for (seq, boot, s) in &numbers {
            let outcome = sequence.record(*seq, boot.as_deref(), second(i64::from(*s)), second(0));
            duplicates += u64::from(matches!(outcome, SequenceOutcome::Duplicate));
        }
        prop_assert!(sequence.sessions.len() <= MAX_SESSIONS);
        prop_assert!(sequence.missing_ranges().len() <= 4 * 63);
        prop_assert_eq!(sequence.repeats, duplicates);
        let text = serde_json::to_string(&sequence).unwrap();
        prop_assert_eq!(serde_json::from_str::<Sequence>(&text).unwrap(), sequence);
    }
}
