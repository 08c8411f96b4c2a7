//! Reads windows from rollups and points, in constant memory for any range.

use futures::future::try_join_all;
use meter_domain::aggregate::{Aggregate, Assembler, Summary, WindowKey, WindowSpec};
use meter_domain::metric::MetricName;
use meter_domain::state::DeviceState;
use meter_domain::time::Timestamp;
use meter_store::{
    BucketQuery, MessageStore, PointQuery, RollupLevel, RollupStore, StateStore, StoreError,
    WindowPage, WindowQuery,
};

use super::MessageBackedMetricStore;
use super::plan::{ReadSpan, coarsest_level, next_span};
use crate::optimistic_update;
use crate::point_reader::{self, ReadStats};

/// Items that one page reads, about. It ends with the first complete window after that.
const ITEM_BUDGET: usize = 5_000;

/// Points of one read.
const POINTS_PER_READ: usize = 10_000;

/// Items of one metric in one read: a month of hours, or a day of minutes.
const ITEMS_PER_READ: usize = 32;

/// Reads a page of windows.
pub(super) async fn read<M: MessageStore + RollupStore, S: StateStore>(
    store: &MessageBackedMetricStore<M, S>,
    query: &WindowQuery,
) -> Result<WindowPage, StoreError> {
    let state = optimistic_update::read_state(&store.states, &query.device_id).await?;
    let start = match &query.after {
        None => query.start,
        Some(after) if after.metric == MetricName::greatest() => {
            query.start.max(query.every.window_end(after.start))
        }
        Some(after) => query.start.max(after.start),
    };
    let mut page = WindowPage { windows: Vec::new(), next: None };
    if start >= query.stop {
        return Ok(page);
    }
    let spec = WindowSpec {
        start,
        stop: query.stop,
        every: query.every,
        aggregate: query.aggregate,
        max_gap_s: store.max_gap_s,
    };
    let mut reader = WindowReader::new(store, query, &state, spec);
    let mut assembler = Assembler::new(spec);
    loop {
        reader.read(&mut assembler).await?;
        let complete = assembler.take_complete(reader.position).into_iter();
        for window in
            complete.filter(|window| query.after.as_ref().is_none_or(|after| window.key > *after))
        {
            if page.windows.len() == query.limit {
                page.next =
                    page.windows.last().map(|last| last.key.clone()).or(query.after.clone());
                return Ok(page);
            }
            page.windows.push(window);
        }
        if reader.is_done() {
            return Ok(page);
        }
        // All windows before this one are complete, including those without points.
        let settled = query.every.window_start(assembler.complete_until(reader.position));
        if reader.items >= ITEM_BUDGET && settled > query.every.window_start(start) {
            let last = settled.plus_seconds(-i64::from(query.every.as_seconds()));
            page.next = Some(WindowKey { start: last, metric: MetricName::greatest() });
            return Ok(page);
        }
    }
}

/// The position in the range, and the next read.
struct WindowReader<'a, M, S> {
    store: &'a MessageBackedMetricStore<M, S>,
    query: &'a WindowQuery,
    state: &'a DeviceState,
    spec: WindowSpec,
    metrics: Vec<MetricName>,
    coarsest_level: Option<RollupLevel>,
    /// Everything before this time was read.
    position: Timestamp,
    end: Timestamp,
    /// The next page of a span of points.
    points: Option<PointQuery>,
    items: usize,
}

impl<'a, M: MessageStore + RollupStore, S: StateStore> WindowReader<'a, M, S> {
    fn new(
        store: &'a MessageBackedMetricStore<M, S>,
        query: &'a WindowQuery,
        state: &'a DeviceState,
        spec: WindowSpec,
    ) -> Self {
        let wanted =
            |metric: &&MetricName| query.metric.as_ref().is_none_or(|only| only == *metric);
        let metrics = state.latest.keys().filter(wanted).cloned().collect();
        // Rollups with another maximum gap have other integrals.
        let has_other_gap = query.aggregate == Aggregate::Integral
            && !state.pending_rollups.uses_max_gap(store.max_gap_s);
        let coarsest_level = coarsest_level(query.every.as_seconds()).filter(|_| !has_other_gap);
        let (position, end) = spec.read_range();
        Self {
            store,
            query,
            state,
            spec,
            metrics,
            coarsest_level,
            position,
            end,
            points: None,
            items: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.position >= self.end
    }

    /// Reads the next part of the range and adds it to the assembler.
    async fn read(&mut self, assembler: &mut Assembler) -> Result<(), StoreError> {
        if let Some(query) = self.points.take() {
            return self.read_points(query, assembler).await;
        }
        // A bucket must not contain points inside and outside the range.
        let WindowSpec { start, stop, .. } = self.spec;
        let (to, coarsest_level) = match self.position {
            at if at < start => (start, self.coarsest_level.map(|_| RollupLevel::Minute)),
            at if at < stop => (stop, self.coarsest_level),
            _ => (self.end, self.coarsest_level.map(|_| RollupLevel::Minute)),
        };
        let span = next_span(self.position, to, coarsest_level, &self.state.pending_rollups);
        match span.level {
            Some(level) => self.read_buckets(level, span, assembler).await,
            None => {
                let query = PointQuery {
                    device_id: self.query.device_id.clone(),
                    start: span.from,
                    stop: span.to,
                    metric: self.query.metric.clone(),
                    after: None,
                    limit: POINTS_PER_READ,
                };
                self.read_points(query, assembler).await
            }
        }
    }

    async fn read_points(
        &mut self,
        query: PointQuery,
        assembler: &mut Assembler,
    ) -> Result<(), StoreError> {
        let mut read_stats = ReadStats::default();
        let page =
            point_reader::read_with_stats(&self.store.messages, &query, false, &mut read_stats)
                .await?;
        for point in page.points {
            let summary = Summary::of(point.key.time, point.value);
            assembler.add(&point.key.metric, &summary, point.unit.as_deref());
        }
        self.items += read_stats.segments;
        match page.next {
            Some(next) => {
                self.position = self.position.max(next.time);
                self.points = Some(PointQuery { after: Some(next), ..query });
            }
            None => self.position = query.stop,
        }
        Ok(())
    }

    async fn read_buckets(
        &mut self,
        level: RollupLevel,
        span: ReadSpan,
        assembler: &mut Assembler,
    ) -> Result<(), StoreError> {
        let query = |metric: &MetricName| BucketQuery {
            device_id: self.query.device_id.clone(),
            metric: metric.clone(),
            level,
            from: span.from,
            to: span.to,
            limit: ITEMS_PER_READ,
        };
        let queries: Vec<_> = self.metrics.iter().map(query).collect();
        let reads = queries.iter().map(|query| self.store.messages.buckets(query));
        let read = try_join_all(reads).await?;
        let complete = read.iter().map(|buckets| buckets.complete_until).min().unwrap_or(span.to);
        self.items += read.iter().map(|buckets| buckets.items_read).sum::<usize>();
        let mut buckets: Vec<_> = queries
            .iter()
            .zip(read)
            .flat_map(|(query, buckets)| {
                buckets.buckets.into_iter().map(|bucket| (bucket, &query.metric))
            })
            .filter(|(bucket, _)| bucket.start < complete)
            .collect();
        buckets.sort_by_key(|(bucket, _)| bucket.start);
        for (bucket, metric) in buckets {
            assembler.add(metric, &bucket.summary, bucket.unit.as_deref());
        }
        self.position = complete;
        Ok(())
    }
}
