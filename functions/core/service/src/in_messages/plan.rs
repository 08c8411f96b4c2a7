//! What to read for a range: rollups where they are exact and fit, points elsewhere.

use meter_domain::state::{Unrolled, hour_of, start_of_hour};
use meter_domain::time::Timestamp;
use meter_store::Level;

/// What to read from `from` to `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// None: points.
    pub(super) level: Option<Level>,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// The coarsest rollups that windows of so many seconds can be made of; none: of points only.
pub(super) fn coarsest(every_s: u32) -> Option<Level> {
    let fits = |level: &Level| every_s.is_multiple_of(level.cell_seconds());
    [Level::Hour, Level::Minute].into_iter().find(fits)
}

/// The first stretch of a range that is not empty.
pub(super) fn first_stretch(
    from: Timestamp,
    to: Timestamp,
    coarsest: Option<Level>,
    unrolled: &Unrolled,
) -> Stretch {
    let Some(coarsest) = coarsest else { return Stretch { level: None, from, to } };
    let noted = unrolled.next_from(hour_of(from));
    // A start that lies in a noted hour may lie behind the start of that hour.
    if let Some(noted) = noted.as_ref().filter(|noted| start_of_hour(noted.start) <= from) {
        return Stretch { level: None, from, to: to.min(start_of_hour(noted.end)) };
    }
    let exact_to = noted.map_or(to, |noted| to.min(start_of_hour(noted.start)));
    for level in [Level::Hour, Level::Minute].into_iter().filter(|level| *level <= coarsest) {
        let last = exact_to.floor(level.cell_seconds());
        if from.floor(level.cell_seconds()) == from && last > from {
            // Up to where something coarser fits.
            let border = ceil(from, Level::Hour);
            let to = match level {
                Level::Minute if coarsest == Level::Hour && border > from => last.min(border),
                _ => last,
            };
            return Stretch { level: Some(level), from, to };
        }
    }
    let next_minute = from.floor(60).plus_seconds(60);
    Stretch { level: None, from, to: exact_to.min(next_minute) }
}

/// The first border of cells that is not before `t`.
fn ceil(t: Timestamp, level: Level) -> Timestamp {
    let floor = t.floor(level.cell_seconds());
    if floor == t { t } else { floor.plus_seconds(i64::from(level.cell_seconds())) }
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
        unrolled: &Unrolled,
    ) -> Vec<(Option<Level>, Timestamp)> {
        let (mut from, to) = (t(from), t(to));
        let mut stretches = Vec::new();
        while from < to {
            let stretch = first_stretch(from, to, coarsest(every_s), unrolled);
            assert_eq!(stretch.from, from);
            assert!(stretch.to > from && stretch.to <= to, "{stretch:?}");
            stretches.push((stretch.level, stretch.to));
            from = stretch.to;
        }
        stretches
    }

    const HOUR: Option<Level> = Some(Level::Hour);
    const MINUTE: Option<Level> = Some(Level::Minute);

    #[test]
    fn a_range_is_read_as_coarsely_as_its_ends_allow() {
        let exact = Unrolled::nothing(300);
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
    fn where_rollups_are_not_exact_points_are_read() {
        let mut unrolled = Unrolled::nothing(300);
        for at in ["1T12:30:00", "1T13:00:00", "1T15:59:59"] {
            unrolled.note([t(at)], t(at), 1, (300, 0));
        }
        assert_eq!(
            plan("1T10:00:00", "1T17:00:00", 3_600, &unrolled),
            [
                (HOUR, t("1T12:00:00")),
                (None, t("1T14:00:00")),
                (HOUR, t("1T15:00:00")),
                (None, t("1T16:00:00")),
                (HOUR, t("1T17:00:00")),
            ]
        );
        assert_eq!(plan("1T10:00:00", "1T17:00:00", 3_600, &Unrolled::default()).len(), 1);
    }
}
