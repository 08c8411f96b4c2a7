//! Aggregated windows, computed by SQL or, for integrals, from points.

use std::ops::ControlFlow;

use futures::{StreamExt, TryStreamExt, stream};
use meter_domain::aggregate::{Assembler, Summary, Window, WindowKey, WindowSpec};
use meter_domain::metric::MetricName;
use meter_domain::time::Timestamp;
use meter_store::{MetricStore, PointQuery, StoreError, WindowPage, WindowQuery};

use super::rows::decode_window;
use super::sql::RecordFilter;
use super::{CONCURRENCY, Timestream};

/// Points after which a page of integrals ends, at the next complete window.
const POINT_BUDGET: usize = 50_000;

/// Points in one read for integrals.
const POINTS_PER_READ: usize = 10_000;

impl Timestream {
    /// Computes windows by SQL.
    pub(super) async fn windows_by_query(
        &self,
        query: &WindowQuery,
        begin: Timestamp,
    ) -> Result<WindowPage, StoreError> {
        let WindowQuery { device_id, stop, every, aggregate, .. } = query;
        let all = RecordFilter { table_ref: &self.table_ref, device_id, start: begin, stop: *stop };
        let metrics = match &query.metric {
            Some(metric) => vec![metric.clone()],
            None => self.metrics(all).await?,
        };
        // The windows of all metrics together fit into the page.
        let windows_per_metric = (query.limit / metrics.len().max(1)).max(1);
        let reads = metrics.iter().map(|metric| async move {
            let mut windows = Vec::new();
            self.run_query(all.windows(metric, *every, windows_per_metric), |row| {
                windows.push(decode_window(&row, metric, *aggregate)?);
                Ok(ControlFlow::Continue(()))
            })
            .await?;
            Ok::<_, StoreError>(windows)
        });
        let reads: Vec<_> = reads.collect();
        let read: Vec<Vec<Window>> =
            stream::iter(reads).buffer_unordered(CONCURRENCY).try_collect().await?;
        // A metric with a full read may have more windows, so the page ends at the earliest such
        // end.
        let ends = read.iter().filter(|windows| windows.len() == windows_per_metric);
        let end = ends.filter_map(|windows| Some(windows.last()?.key.start)).min();
        let mut windows: Vec<Window> = read.into_iter().flatten().collect();
        windows.retain(|window| {
            end.is_none_or(|end| window.key.start <= end)
                && query.after.as_ref().is_none_or(|after| window.key > *after)
        });
        windows.sort_by(|a, b| a.key.cmp(&b.key));
        let mut next = end.map(|start| WindowKey { start, metric: MetricName::greatest() });
        if windows.len() > query.limit {
            windows.truncate(query.limit);
            next = windows.last().map(|last| last.key.clone());
        }
        Ok(WindowPage { windows, next })
    }

    /// Computes windows from points: SQL cannot leave out the gaps of an integral.
    pub(super) async fn windows_from_points(
        &self,
        query: &WindowQuery,
        begin: Timestamp,
    ) -> Result<WindowPage, StoreError> {
        let WindowQuery { every, aggregate, stop, .. } = *query;
        let spec = WindowSpec { start: begin, stop, every, aggregate, max_gap_s: self.max_gap_s };
        let (from, to) = spec.read_range();
        let mut points = PointQuery {
            device_id: query.device_id.clone(),
            start: from,
            stop: to,
            metric: query.metric.clone(),
            after: None,
            limit: POINTS_PER_READ,
        };
        let mut assembler = Assembler::new(spec);
        let mut page = WindowPage { windows: Vec::new(), next: None };
        let mut read = 0;
        loop {
            let some = self.points(&points).await?;
            read += some.points.len();
            for point in some.points {
                let summary = Summary::of(point.key.time, point.value);
                assembler.add(&point.key.metric, &summary, point.unit.as_deref());
            }
            let position = some.next.as_ref().map_or(to, |next| next.time);
            for window in assembler.take_complete(position) {
                if query.after.as_ref().is_some_and(|after| window.key <= *after) {
                    continue;
                }
                if page.windows.len() == query.limit {
                    page.next = page.windows.last().map(|last| last.key.clone());
                    return Ok(page);
                }
                page.windows.push(window);
            }
            let Some(next) = some.next else { return Ok(page) };
            let settled = every.window_start(assembler.complete_until(position));
            if read >= POINT_BUDGET && settled > every.window_start(begin) {
                let start = settled.plus_seconds(-i64::from(every.as_seconds()));
                page.next = Some(WindowKey { start, metric: MetricName::greatest() });
                return Ok(page);
            }
            points.after = Some(next);
        }
    }
}
