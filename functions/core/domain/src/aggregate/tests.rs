use proptest::prelude::*;

use super::*;

fn t(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms).unwrap()
}

fn name(text: &str) -> MetricName {
    MetricName::parse(text).unwrap()
}

fn spec(aggregate: Aggregate, start_ms: i64, stop_ms: i64, every_s: u32) -> WindowSpec {
    let every = WindowSize::from_seconds(every_s).unwrap();
    WindowSpec { start: t(start_ms), stop: t(stop_ms), every, aggregate, max_gap_s: 300 }
}

/// All windows of one metric from points (milliseconds, value) that are added one by one.
fn windows(spec: WindowSpec, points: &[(i64, f64)]) -> Vec<(i64, f64)> {
    let mut assembler = Assembler::new(spec);
    for (at, value) in points {
        assembler.add(&name("p"), &Summary::of(t(*at), *value), Some("W"));
    }
    shown(assembler.take_complete(Timestamp::max()))
}

fn shown(windows: Vec<Window>) -> Vec<(i64, f64)> {
    windows.into_iter().map(|w| (w.key.start.as_millis(), w.value)).collect()
}

#[test]
fn windows_aggregate_their_points_and_empty_windows_are_omitted() {
    let points = [(500, 1.0), (61_000, 4.0), (62_000, 2.0), (63_000, 9.0), (240_000, 7.0)];
    for (aggregate, expected) in [
        (Aggregate::Mean, 5.0),
        (Aggregate::Min, 2.0),
        (Aggregate::Max, 9.0),
        (Aggregate::Sum, 15.0),
        (Aggregate::Count, 3.0),
        (Aggregate::First, 4.0),
        (Aggregate::Last, 9.0),
    ] {
        let answer = windows(spec(aggregate, 0, 240_001, 60), &points);
        assert_eq!(answer.len(), 3, "{aggregate:?}");
        assert_eq!(answer[1], (60_000, expected), "{aggregate:?}");
        assert_eq!(answer[2].0, 240_000);
    }
}

#[test]
fn points_outside_the_range_are_ignored_without_moving_the_window() {
    let points = [(10_000, 1.0), (30_000, 2.0), (59_999, 4.0), (60_000, 8.0)];
    let answer = windows(spec(Aggregate::Sum, 30_000, 60_000, 60), &points);
    assert_eq!(answer, [(0, 6.0)]);
}

#[test]
fn windows_before_1970_are_aligned_to_the_epoch() {
    let answer = windows(spec(Aggregate::Count, -90_000, 0, 60), &[(-1, 1.0), (-61_000, 1.0)]);
    assert_eq!(answer, [(-120_000, 1.0), (-60_000, 1.0)]);
}

#[test]
fn constant_power_integrates_to_its_energy_across_windows() {
    let points: Vec<_> = (0..=3_600).map(|s| (s * 1_000, 1_000.0)).collect();
    let hour = windows(spec(Aggregate::Integral, 0, 3_600_000, 3_600), &points);
    assert_eq!(hour, [(0, 1_000.0)]);
    let minutes = windows(spec(Aggregate::Integral, 0, 3_600_000, 7), &points);
    let total: f64 = minutes.iter().map(|(_, value)| value).sum();
    assert!((total - 1_000.0).abs() < 1e-9, "{total}");
}

#[test]
fn integral_of_a_ramp_equals_the_closed_form() {
    // P(t) = t W over 0 to 600 s: E(a, b) = (b² − a²) / 2 J. The trapezoidal rule is exact for a
    // line.
    let points: Vec<_> = (0..=600).step_by(30).map(|s| (s * 1_000, s as f64)).collect();
    for (start, stop, every) in [(0, 600, 60), (45, 555, 100), (7, 593, 1), (100, 101, 3_600)] {
        let answer =
            windows(spec(Aggregate::Integral, start * 1_000, stop * 1_000, every), &points);
        for (at, value) in answer {
            let (a, b) = ((at / 1_000).max(start), (at / 1_000 + i64::from(every)).min(stop));
            let exact = ((b * b - a * a) as f64) / 2.0 / 3_600.0;
            assert!(
                (value - exact).abs() < 1e-9,
                "{start} {stop} {every} at {at}: {value}, not {exact}"
            );
        }
    }
}

#[test]
fn integral_bridges_gaps_up_to_the_maximum_only() {
    let bridged = windows(spec(Aggregate::Integral, 0, 600_000, 60), &[(0, 60.0), (300_000, 60.0)]);
    assert_eq!(bridged.len(), 6, "the last one has a point and no area");
    assert_eq!(bridged.iter().map(|(_, v)| v).sum::<f64>(), 5.0);
    let apart = windows(spec(Aggregate::Integral, 0, 600_000, 60), &[(0, 60.0), (300_001, 60.0)]);
    assert_eq!(apart, [(0, 0.0), (300_000, 0.0)]);
}

#[test]
fn complete_window_is_returned_once() {
    let mut assembler = Assembler::new(spec(Aggregate::Mean, 0, 600_000, 60));
    assembler.add(&name("a"), &Summary::of(t(1_000), 1.0), None);
    assert_eq!(assembler.take_complete(t(59_999)).len(), 0);
    assert_eq!(assembler.take_complete(t(60_000)).len(), 1);
    assert_eq!(assembler.take_complete(t(600_000)).len(), 0);
    let mut assembler = Assembler::new(spec(Aggregate::Integral, 0, 600_000, 60));
    assembler.add(&name("a"), &Summary::of(t(1_000), 1.0), None);
    assert_eq!(assembler.take_complete(t(359_999)).len(), 0, "a line may still come into it");
    assert_eq!(assembler.take_complete(t(360_000)).len(), 1);
}

#[test]
fn result_unit_is_derived_from_the_point_unit() {
    assert_eq!(Aggregate::Integral.unit(Some("W")).as_deref(), Some("W.h"));
    assert_eq!(Aggregate::Integral.unit(None).as_deref(), Some("h"));
    assert_eq!(Aggregate::Count.unit(Some("W")), None);
    assert_eq!(Aggregate::Max.unit(Some("V")).as_deref(), Some("V"));
}

#[test]
fn window_size_is_a_whole_number_of_seconds_in_range() {
    for (text, seconds) in [
        ("1s", 1),
        ("5m", 300),
        ("1h", 3_600),
        ("2d", 172_800),
        ("1w", 604_800),
        ("366d", 31_622_400),
    ] {
        assert_eq!(WindowSize::parse(text).map(WindowSize::as_seconds), Ok(seconds), "{text}");
    }
    for bad in ["", "s", "5", "0s", "-5m", "+5m", "1.5h", "367d", "99999999999s", "5 m", "5µ", "é"]
    {
        assert_eq!(WindowSize::parse(bad), Err(InvalidWindowSize), "{bad}");
    }
}

#[test]
fn compensated_sum_is_exact_and_limited_to_f64() {
    let mut sum = CompensatedSum::default();
    for value in [1e16, 1.0, 1.0, -1e16] {
        sum.add(value);
    }
    assert_eq!(sum.value(), 2.0);
    let mut beyond = CompensatedSum::default();
    beyond.add(f64::MAX);
    beyond.add(f64::MAX);
    assert_eq!(beyond.value(), f64::MAX);
}

proptest! {
    /// Adds points one by one, and grouped by minute as rollups are.
    #[test]
    fn windows_from_points_equal_windows_from_rollups(
        steps in prop::collection::vec((1i64..700_000, -1e6f64..1e6), 1..200),
        every_minutes in 1u32..130,
        range in (0i64..3_000_000, 1i64..100_000_000),
    ) {
        let mut at = 0;
        let points: Vec<_> = steps.iter().map(|(step, value)| { at += step; (at, *value) }).collect();
        // Each group is inside or outside of the range as a whole.
        let start = range.0 / 60_000 * 60_000;
        let stop = start + (range.1 / 60_000 + 1) * 60_000;
        for aggregate in Aggregate::ALL {
            let spec = spec(aggregate, start, stop, every_minutes * 60);
            let single = windows(spec, &points);
            let mut groups: Vec<Summary> = Vec::new();
            for (at, value) in &points {
                let next = Summary::of(t(*at), *value);
                match groups.last_mut() {
                    Some(held) if held.first.time.floor(60) == next.first.time.floor(60) => held.join(&next, 300),
                    _ => groups.push(next),
                }
            }
            let mut assembler = Assembler::new(spec);
            for group in &groups {
                assembler.add(&name("p"), group, Some("W"));
            }
            let grouped = shown(assembler.take_complete(Timestamp::max()));
            prop_assert_eq!(single.len(), grouped.len());
            for (a, b) in single.iter().zip(&grouped) {
                prop_assert_eq!(a.0, b.0);
                prop_assert!((a.1 - b.1).abs() <= 1e-9 * a.1.abs().max(1.0), "{:?} {:?} {:?}", aggregate, a, b);
            }
        }
    }
}
