//! Divides a range into spans that are read from rollups and spans that are read from points.

use meter_domain::state::{PendingRollups, hour_of, start_of_hour};
use meter_domain::time::Timestamp;
use meter_store::RollupLevel;

/// A part of a range that is read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadSpan {
    /// The level of the rollups; none: points.
    pub(super) level: Option<RollupLevel>,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// The coarsest rollups from which windows of `every_s` seconds can be assembled; none: points
/// only.
pub(super) fn coarsest_level(every_s: u32) -> Option<RollupLevel> {
    let fits = |level: &RollupLevel| every_s.is_multiple_of(level.bucket_seconds());
    [RollupLevel::Hour, RollupLevel::Minute].into_iter().find(fits)
}

/// Returns the first span of a range, which must not be empty.
pub(super) fn next_span(
    from: Timestamp,
    to: Timestamp,
    coarsest_level: Option<RollupLevel>,
    pending_rollups: &PendingRollups,
) -> ReadSpan {
    let Some(coarsest_level) = coarsest_level else { return ReadSpan { level: None, from, to } };
    let pending = pending_rollups.next_pending_from(hour_of(from));
    // The start can be in the middle of a pending hour.
    if let Some(pending) = pending.as_ref().filter(|pending| start_of_hour(pending.start) <= from) {
        return ReadSpan { level: None, from, to: to.min(start_of_hour(pending.end)) };
    }
    let exact_to = pending.map_or(to, |pending| to.min(start_of_hour(pending.start)));
    for level in [RollupLevel::Hour, RollupLevel::Minute]
        .into_iter()
        .filter(|level| *level <= coarsest_level)
    {
        let last = exact_to.floor(level.bucket_seconds());
        if from.floor(level.bucket_seconds()) == from && last > from {
            // Minutes end where hours can be read.
            let boundary = ceil(from, RollupLevel::Hour);
            let to = match level {
                RollupLevel::Minute if coarsest_level == RollupLevel::Hour && boundary > from => {
                    last.min(boundary)
                }
                _ => last,
            };
            return ReadSpan { level: Some(level), from, to };
        }
    }
    let next_minute = from.floor(60).plus_seconds(60);
    ReadSpan { level: None, from, to: exact_to.min(next_minute) }
}

/// The first start of a bucket that is not before `t`.
fn ceil(t: Timestamp, level: RollupLevel) -> Timestamp {
    let floor = t.floor(level.bucket_seconds());
    if floor == t { t } else { floor.plus_seconds(i64::from(level.bucket_seconds())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(text: &str) -> Timestamp {
        Timestamp::parse(&format!("2026-01-0{text}Z")).unwrap()
    }

    fn plan(
        from: &str,
        to: &str,
        every_s: u32,
        pending_rollups: &PendingRollups,
    ) -> Vec<(Option<RollupLevel>, Timestamp)> {
        let (mut from, to) = (t(from), t(to));
        let mut spans = Vec::new();
        while from < to {
            let span = next_span(from, to, coarsest_level(every_s), pending_rollups);
            assert_eq!(span.from, from);
            assert!(span.to > from && span.to <= to, "{span:?}");
            spans.push((span.level, span.to));
            from = span.to;
        }
        spans
    }

    const HOUR: Option<RollupLevel> = Some(RollupLevel::Hour);
    const MINUTE: Option<RollupLevel> = Some(RollupLevel::Minute);

    #[test]
    fn range_is_read_at_the_coarsest_level_that_fits() {
        let exact = PendingRollups::none_pending(300);
        assert_eq!(plan("1T10:00:00", "5T10:00:00", 3_600, &exact), [(HOUR, t("5T10:00:00"))]);
        assert_eq!(
            plan("1T10:58:30", "1T13:02:15", 3_600, &exact),
            [
                (None, t("1T10:59:00")),
                (MINUTE, t("1T11:00:00")),
                (HOUR, t("1T13:00:00")),
                (MINUTE, t("1T13:02:00")),
                (None, t("1T13:02:15")),
            ]
        );
        assert_eq!(plan("1T10:58:00", "1T13:02:00", 300, &exact), [(MINUTE, t("1T13:02:00"))]);
        assert_eq!(plan("1T10:00:00", "5T10:00:00", 90, &exact), [(None, t("5T10:00:00"))]);
        assert_eq!(plan("1T10:00:10", "1T10:00:20", 60, &exact), [(None, t("1T10:00:20"))]);
    }

    #[test]
    fn pending_hours_are_read_from_points() {
        let mut pending_rollups = PendingRollups::none_pending(300);
        for at in ["1T12:30:00", "1T13:00:00", "1T15:59:59"] {
            pending_rollups.mark([t(at)], t(at), 1, (300, 0));
        }
        assert_eq!(
            plan("1T10:00:00", "1T17:00:00", 3_600, &pending_rollups),
            [
                (HOUR, t("1T12:00:00")),
                (None, t("1T14:00:00")),
                (HOUR, t("1T15:00:00")),
                (None, t("1T16:00:00")),
                (HOUR, t("1T17:00:00")),
            ]
        );
        assert_eq!(plan("1T10:00:00", "1T17:00:00", 3_600, &PendingRollups::default()).len(), 1);
    }
}
