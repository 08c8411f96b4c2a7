//! Assembly of windows from summaries in the order of time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::summary::{finite, interpolate, is_bridged, trapezoid};
use super::{Aggregate, CompensatedSum, Summary, Window, WindowKey, WindowSize};
use crate::metric::{MetricName, TimedValue};
use crate::time::Timestamp;

const SECONDS_PER_HOUR: f64 = 3_600.0;

/// Range, window size and aggregate of a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowSpec {
    /// Start of the range, inclusive.
    pub start: Timestamp,
    /// End of the range, exclusive.
    pub stop: Timestamp,
    /// Window size.
    pub every: WindowSize,
    /// Aggregate.
    pub aggregate: Aggregate,
    /// Longest gap that an integral bridges, in seconds.
    pub max_gap_s: u32,
}

impl WindowSpec {
    /// The range of points that the query requires. An integral also requires the points around the
    /// range, because lines to them reach into it.
    pub fn read_range(&self) -> (Timestamp, Timestamp) {
        let beside =
            if self.aggregate == Aggregate::Integral { i64::from(self.max_gap_s) } else { 0 };
        // A gap may be exactly as long as the limit, and the point at its end is required.
        let after = if beside > 0 { self.stop.plus_seconds(beside).next() } else { self.stop };
        (self.start.plus_seconds(-beside), after)
    }
}

/// Collects the windows that are not complete and returns those that are.
#[derive(Debug)]
pub struct Assembler {
    spec: WindowSpec,
    open: BTreeMap<WindowKey, PartialWindow>,
    /// Latest point of each metric and its unit, for an integral.
    previous: BTreeMap<MetricName, (TimedValue, Option<String>)>,
}

#[derive(Debug, Default)]
struct PartialWindow {
    summary: Option<Summary>,
    area: CompensatedSum,
    unit: Option<String>,
}

impl Assembler {
    /// An assembler without windows.
    pub fn new(spec: WindowSpec) -> Self {
        Self { spec, open: BTreeMap::new(), previous: BTreeMap::new() }
    }

    /// Adds a summary of points that are in one window, and all inside or all outside of the range.
    /// Summaries of a metric are added in the order of time.
    pub fn add(&mut self, metric: &MetricName, summary: &Summary, unit: Option<&str>) {
        let is_integral = self.spec.aggregate == Aggregate::Integral;
        if is_integral {
            let last = (summary.last, unit.map(str::to_owned));
            if let Some((before, of)) = self.previous.insert(metric.clone(), last)
                && is_bridged(&before, &summary.first, self.spec.max_gap_s)
            {
                self.add_area_between(metric, &before, &summary.first, of.as_deref());
            }
        }
        if !(self.spec.start..self.spec.stop).contains(&summary.first.time) {
            return;
        }
        let window = self.partial_window(metric, summary.first.time);
        window.unit = unit.map(str::to_owned);
        if is_integral {
            window.area.add_sum(summary.area);
        }
        match &mut window.summary {
            // `add_area_between` has already added the area of the gap.
            Some(held) => held.join(summary, 0),
            None => window.summary = Some(summary.clone()),
        }
    }

    /// Adds the area below the line between two points to each window that it crosses.
    fn add_area_between(
        &mut self,
        metric: &MetricName,
        from: &TimedValue,
        to: &TimedValue,
        unit: Option<&str>,
    ) {
        let WindowSpec { start, stop, every, .. } = self.spec;
        let at = |t: Timestamp| match t {
            t if t == from.time => *from,
            t if t == to.time => *to,
            t => interpolate(from, to, t),
        };
        let end = to.time.min(stop);
        let mut left = at(from.time.max(start));
        while left.time < end {
            let right = at(every.window_end(every.window_start(left.time)).min(end));
            let window = self.partial_window(metric, left.time);
            window.area.add(trapezoid(&left, &right));
            if window.unit.is_none() {
                window.unit = unit.map(str::to_owned);
            }
            left = right;
        }
    }

    fn partial_window(&mut self, metric: &MetricName, within: Timestamp) -> &mut PartialWindow {
        let start = self.spec.every.window_start(within);
        match self.open.entry(WindowKey { start, metric: metric.clone() }) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(PartialWindow::default()),
        }
    }

    /// Removes and returns the windows that no point after `read` can change, in order. All points
    /// up to `read` have been added.
    pub fn take_complete(&mut self, read: Timestamp) -> Vec<Window> {
        let settled = self.complete_until(read);
        let rest =
            match self.open.keys().find(|key| self.spec.every.window_end(key.start) > settled) {
                None => BTreeMap::new(),
                Some(first) => {
                    let first = first.clone();
                    self.open.split_off(&first)
                }
            };
        let done = std::mem::replace(&mut self.open, rest);
        done.into_iter().map(|(key, window)| self.finish(key, window)).collect()
    }

    /// The time before which windows are complete when all points up to `read` have been added.
    pub fn complete_until(&self, read: Timestamp) -> Timestamp {
        let (_, needed) = self.spec.read_range();
        if read >= needed {
            return Timestamp::max();
        }
        match self.spec.aggregate {
            // A later point can be joined to one that is up to the maximum gap earlier.
            Aggregate::Integral => read.plus_seconds(-i64::from(self.spec.max_gap_s)),
            _ => read,
        }
    }

    fn finish(&self, key: WindowKey, window: PartialWindow) -> Window {
        let PartialWindow { summary, area, unit } = window;
        let in_hours = |area: CompensatedSum| area.value() / SECONDS_PER_HOUR;
        match (summary, self.spec.aggregate) {
            (Some(summary), aggregate) if aggregate != Aggregate::Integral => {
                Window::of(key, &summary, unit.as_deref(), aggregate)
            }
            // Only an integral has windows without points.
            _ => Window::with_value(key, in_hours(area), unit.as_deref(), Aggregate::Integral),
        }
    }
}

impl Window {
    /// The result for the points of a window. An integral does not include gaps to points of other
    /// windows.
    #[allow(clippy::cast_precision_loss, reason = "a count beyond 2^53 is not to be had")]
    pub fn of(key: WindowKey, summary: &Summary, unit: Option<&str>, aggregate: Aggregate) -> Self {
        let value = match aggregate {
            Aggregate::Mean => summary.sum.value() / summary.count as f64,
            Aggregate::Min => summary.min,
            Aggregate::Max => summary.max,
            Aggregate::Sum => summary.sum.value(),
            Aggregate::Count => summary.count as f64,
            Aggregate::First => summary.first.value,
            Aggregate::Last => summary.last.value,
            Aggregate::Integral => summary.area.value() / SECONDS_PER_HOUR,
        };
        Self::with_value(key, value, unit, aggregate)
    }

    fn with_value(key: WindowKey, value: f64, unit: Option<&str>, aggregate: Aggregate) -> Self {
        let known = key.metric.known().map(|known| known.unit).filter(|unit| !unit.is_empty());
        let unit = aggregate.unit(unit.or(known));
        Self { key, value: finite(value), unit }
    }
}
