//! Reading windows from rollups and points, in constant memory for any range.

use futures::future::try_join_all;
use meter_domain::aggregate::{Aggregate, Asked, Assembler, Summary, WindowKey};
use meter_domain::metric::MetricName;
use meter_domain::state::DeviceState;
use meter_domain::time::Timestamp;
use meter_store::{
    CellQuery, Level, MessageStore, PointQuery, RollupStore, StateStore, StoreError, WindowPage,
    WindowQuery,
};

use super::InMessages;
use super::plan::{Stretch, coarsest, first_stretch};
use crate::lock;
use crate::points::{self, Effort};

/// About how many items one request reads: a page ends at the first window that is complete after that.
const ITEM_BUDGET: usize = 5_000;

/// Points a read.
const POINTS_A_READ: usize = 10_000;

/// Items of one metric a read: a month of hours, or a day of minutes.
const ITEMS_A_READ: usize = 32;

/// Reads a page of windows.
pub(super) async fn read<M, R, S>(
    store: &InMessages<M, R, S>,
    query: &WindowQuery,
) -> Result<WindowPage, StoreError>
where
    M: MessageStore,
    R: RollupStore,
    S: StateStore,
{
    let state = lock::read_state(&store.states, &query.device_id).await?;
    let start = match &query.after {
        None => query.start,
        Some(after) if after.metric == MetricName::greatest() => {
            query.start.max(query.every.end_of(after.start))
        }
        Some(after) => query.start.max(after.start),
    };
    let mut page = WindowPage { windows: Vec::new(), next: None };
    if start >= query.stop {
        return Ok(page);
    }
    let asked = Asked {
        start,
        stop: query.stop,
        every: query.every,
        aggregate: query.aggregate,
        max_gap_s: store.max_gap_s,
    };
    let mut reader = Reader::new(store, query, &state, asked);
    let mut assembler = Assembler::new(asked);
    loop {
        reader.read(&mut assembler).await?;
        let complete = assembler.complete(reader.position).into_iter();
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
        // All windows before this one are complete, those without points too.
        let settled = query.every.window_of(assembler.settled(reader.position));
        if reader.items >= ITEM_BUDGET && settled > query.every.window_of(start) {
            let last = settled.plus_seconds(-i64::from(query.every.as_seconds()));
            page.next = Some(WindowKey { start: last, metric: MetricName::greatest() });
            return Ok(page);
        }
    }
}

/// What is read so far, and what comes next.
struct Reader<'a, M, R, S> {
    store: &'a InMessages<M, R, S>,
    query: &'a WindowQuery,
    state: &'a DeviceState,
    asked: Asked,
    metrics: Vec<MetricName>,
    coarsest: Option<Level>,
    /// Everything before this was taken.
    position: Timestamp,
    end: Timestamp,
    /// The rest of a stretch of points.
    points: Option<PointQuery>,
    items: usize,
}

impl<'a, M, R, S> Reader<'a, M, R, S>
where
    M: MessageStore,
    R: RollupStore,
    S: StateStore,
{
    fn new(
        store: &'a InMessages<M, R, S>,
        query: &'a WindowQuery,
        state: &'a DeviceState,
        asked: Asked,
    ) -> Self {
        let wanted =
            |metric: &&MetricName| query.metric.as_ref().is_none_or(|only| only == *metric);
        let metrics = state.latest.keys().filter(wanted).cloned().collect();
        // An integral of rollups that were made with another gap would be another one.
        let is_other =
            query.aggregate == Aggregate::Integral && !state.unrolled.is_made_with(store.max_gap_s);
        let coarsest = coarsest(query.every.as_seconds()).filter(|_| !is_other);
        let (position, end) = asked.needed();
        Self {
            store,
            query,
            state,
            asked,
            metrics,
            coarsest,
            position,
            end,
            points: None,
            items: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.position >= self.end
    }

    /// Reads some more, and hands it over.
    async fn read(&mut self, assembler: &mut Assembler) -> Result<(), StoreError> {
        if let Some(query) = self.points.take() {
            return self.read_points(query, assembler).await;
        }
        // What is beside the range is not summed up together with what is in it.
        let Asked { start, stop, .. } = self.asked;
        let (to, coarsest) = match self.position {
            at if at < start => (start, self.coarsest.map(|_| Level::Minute)),
            at if at < stop => (stop, self.coarsest),
            _ => (self.end, self.coarsest.map(|_| Level::Minute)),
        };
        let stretch = first_stretch(self.position, to, coarsest, &self.state.unrolled);
        match stretch.level {
            Some(level) => self.read_cells(level, stretch, assembler).await,
            None => {
                let query = PointQuery {
                    device_id: self.query.device_id.clone(),
                    start: stretch.from,
                    stop: stretch.to,
                    metric: self.query.metric.clone(),
                    after: None,
                    limit: POINTS_A_READ,
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
        let mut effort = Effort::default();
        let page = points::read_with(&self.store.messages, &query, false, &mut effort).await?;
        for point in page.points {
            let summary = Summary::of(point.key.time, point.value);
            assembler.take(&point.key.metric, &summary, point.unit.as_deref());
        }
        self.items += effort.parts;
        match page.next {
            Some(next) => {
                self.position = self.position.max(next.time);
                self.points = Some(PointQuery { after: Some(next), ..query });
            }
            None => self.position = query.stop,
        }
        Ok(())
    }

    async fn read_cells(
        &mut self,
        level: Level,
        stretch: Stretch,
        assembler: &mut Assembler,
    ) -> Result<(), StoreError> {
        let query = |metric: &MetricName| CellQuery {
            device_id: self.query.device_id.clone(),
            metric: metric.clone(),
            level,
            from: stretch.from,
            to: stretch.to,
            limit: ITEMS_A_READ,
        };
        let queries: Vec<_> = self.metrics.iter().map(query).collect();
        let reads = queries.iter().map(|query| self.store.rollups.cells(query));
        let read = try_join_all(reads).await?;
        let complete = read.iter().map(|cells| cells.complete).min().unwrap_or(stretch.to);
        self.items += read.iter().map(|cells| cells.items).sum::<usize>();
        let mut cells: Vec<_> = queries
            .iter()
            .zip(read)
            .flat_map(|(query, cells)| cells.cells.into_iter().map(|cell| (cell, &query.metric)))
            .filter(|(cell, _)| cell.start < complete)
            .collect();
        cells.sort_by_key(|(cell, _)| cell.start);
        for (cell, metric) in cells {
            assembler.take(metric, &cell.summary, cell.unit.as_deref());
        }
        self.position = complete;
        Ok(())
    }
}
