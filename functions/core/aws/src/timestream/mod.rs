//! The time series in Timestream for LiveAnalytics.

mod record;
mod rows;
mod sql;

use std::collections::BTreeSet;
use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;

use aws_sdk_timestreamquery::operation::query::QueryError;
use aws_sdk_timestreamwrite::operation::write_records::WriteRecordsError;
use aws_sdk_timestreamwrite::types::RejectedRecord;
use futures::{StreamExt, TryStreamExt, stream};
use meter_domain::aggregate::{Aggregate, Assembler, Summary, Window, WindowKey, WindowSpec};
use meter_domain::id::MessageId;
use meter_domain::metric::DevicePoint;
use meter_domain::metric::MetricName;
use meter_domain::time::Timestamp;
use meter_store::{
    BatchWriteError, MetricStore, PointPage, PointQuery, StoreError, WindowPage, WindowQuery,
    WriteSummary,
};
use tokio::sync::OnceCell;

use self::record::WriteRow;
use self::rows::{PointsAtInstant, RowReader, decode_window};
use self::sql::{RecordFilter, TableRef};
use super::{Clients, unavailable};

/// Records that one WriteRecords takes.
const MAX_RECORDS_PER_WRITE: usize = 100;

/// Calls under way at once.
const CONCURRENCY: usize = 8;

/// Records that a page of points reads beyond its limit, so that the last instant is complete.
const EXTRA_RECORDS: usize = 1_000;

/// Points that a page of integrals reads, about.
const POINT_BUDGET: usize = 50_000;

/// Points a read of it.
const POINTS_PER_READ: usize = 10_000;

/// A table of Timestream: a [`MetricStore`].
#[derive(Debug, Clone)]
pub struct Timestream {
    write: aws_sdk_timestreamwrite::Client,
    query: aws_sdk_timestreamquery::Client,
    database: String,
    table: String,
    table_ref: TableRef,
    max_gap_s: u32,
    /// Whether the table is known to have every column.
    schema_written: Arc<OnceCell<()>>,
}

/// Records that Timestream takes neither now nor later.
#[derive(Debug, thiserror::Error)]
#[error("{count} records rejected, the first because: {reason}")]
struct RejectedRecords {
    count: usize,
    reason: String,
}

/// What became of the records of a call.
#[derive(Debug, Default)]
struct WriteOutcome {
    written: WriteSummary,
    failed: BTreeSet<MessageId>,
    error: Option<StoreError>,
}

impl Timestream {
    /// The table of this name. An integral bridges gaps of `max_gap_s` seconds.
    pub async fn new(
        clients: &Clients,
        database: &str,
        table: &str,
        max_gap_s: u32,
    ) -> Result<Self, StoreError> {
        let (write, query) = clients.timestream().await?;
        Ok(Self {
            write,
            query,
            database: database.to_owned(),
            table: table.to_owned(),
            table_ref: TableRef::new(database, table),
            max_gap_s,
            schema_written: Arc::default(),
        })
    }

    /// Sees to it that the table has every column, since a query that names another one is an error. Once a
    /// process: the record is the same to everybody who reads, since nobody does.
    async fn ensure_schema(&self) -> Result<(), StoreError> {
        let ensure = || async {
            let sent = self.send(vec![WriteRow::schema(Timestamp::now())]).await;
            sent.error.map_or(Ok(()), Err)
        };
        self.schema_written.get_or_try_init(ensure).await.map(drop)
    }

    async fn send(&self, rows: Vec<WriteRow>) -> WriteOutcome {
        let mut sent = WriteOutcome::default();
        let records: Result<Vec<_>, _> = rows.iter().map(WriteRow::record).collect();
        let records = match records {
            Ok(records) => records,
            Err(error) => {
                return WriteOutcome::all_failed(&rows, unavailable("encoding of a record")(error));
            }
        };
        let answer = self
            .write
            .write_records()
            .database_name(&self.database)
            .table_name(&self.table)
            .common_attributes(WriteRow::common())
            .set_records(Some(records))
            .send()
            .await;
        let Err(error) = answer else { return sent };
        let Some(WriteRecordsError::RejectedRecordsException(rejected)) = error.as_service_error()
        else {
            return WriteOutcome::all_failed(&rows, unavailable("timestream:WriteRecords")(error));
        };
        // The others are stored.
        for rejected in rejected.rejected_records() {
            let row = usize::try_from(rejected.record_index).ok().and_then(|index| rows.get(index));
            let Some(row) = row else { continue };
            match classify_rejection(rejected) {
                // Somebody with a greater precedence was here.
                Rejection::NewerVersion => sent.written.superseded += 1,
                Rejection::OutsideRetention => sent.written.outside_retention += 1,
                Rejection::Invalid(reason) => {
                    sent.failed.extend(&row.message_ids);
                    let rejected =
                        RejectedRecords { count: rejected_count(&sent.error) + 1, reason };
                    sent.error = Some(unavailable("timestream:WriteRecords")(rejected));
                }
            }
        }
        sent
    }

    /// Runs a query; `take` says of each row whether to go on.
    async fn run_query(
        &self,
        query: String,
        mut take: impl FnMut(RowReader<'_>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut next = None;
        loop {
            let asked = self.query.query().query_string(&query).set_next_token(next);
            let answer = match asked.send().await {
                Ok(answer) => answer,
                // A table in which nothing was ever written has no columns.
                Err(error) if is_missing_column(error.as_service_error()) => return Ok(()),
                Err(error) => return Err(unavailable("timestream:Query")(error)),
            };
            for row in answer.rows() {
                if take(RowReader::new(answer.column_info(), row))?.is_break() {
                    return Ok(());
                }
            }
            next = answer.next_token;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    /// The metrics that a device has in a range.
    async fn metrics(&self, scope: RecordFilter<'_>) -> Result<Vec<MetricName>, StoreError> {
        let mut metrics = BTreeSet::new();
        self.run_query(scope.metrics(), |row| {
            metrics.extend(row.metrics()?);
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(metrics.into_iter().collect())
    }

    /// Windows by SQL.
    async fn windows_by_query(
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
        // So few windows of each that those of all fit into the page, and so into memory.
        let most = (query.limit / metrics.len().max(1)).max(1);
        let reads = metrics.iter().map(|metric| async move {
            let mut windows = Vec::new();
            self.run_query(all.windows(metric, *every, most), |row| {
                windows.push(decode_window(&row, metric, *aggregate)?);
                Ok(ControlFlow::Continue(()))
            })
            .await?;
            Ok::<_, StoreError>(windows)
        });
        let reads: Vec<_> = reads.collect();
        let read: Vec<Vec<Window>> =
            stream::iter(reads).buffer_unordered(CONCURRENCY).try_collect().await?;
        // Of a metric that may have more, nothing is known after the last window.
        let ends = read.iter().filter(|windows| windows.len() == most);
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

    /// Windows of points: an integral, whose gaps SQL does not know.
    async fn windows_from_points(
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

impl MetricStore for Timestream {
    async fn put_points(&self, points: &[DevicePoint]) -> Result<WriteSummary, BatchWriteError> {
        let (rows, outside) = record::rows(points);
        let mut written = WriteSummary { outside_retention: outside, ..WriteSummary::default() };
        if rows.is_empty() {
            return Ok(written);
        }
        if let Err(source) = self.ensure_schema().await {
            let failed = rows.iter().flat_map(|row| &row.message_ids).copied().collect();
            return Err(BatchWriteError { failed, source });
        }
        let calls: Vec<_> =
            rows.chunks(MAX_RECORDS_PER_WRITE).map(|rows| self.send(rows.to_vec())).collect();
        let sent: Vec<WriteOutcome> =
            stream::iter(calls).buffer_unordered(CONCURRENCY).collect().await;
        let mut failed = BTreeSet::new();
        let mut source = None;
        for sent in sent {
            written.outside_retention += sent.written.outside_retention;
            written.superseded += sent.written.superseded;
            failed.extend(sent.failed);
            source = source.or(sent.error);
        }
        match source {
            None => Ok(written),
            Some(source) => Err(BatchWriteError { failed, source }),
        }
    }

    async fn points(&self, query: &PointQuery) -> Result<PointPage, StoreError> {
        let start = query.after.as_ref().map_or(query.start, |after| after.time.max(query.start));
        let mut records = query.limit + EXTRA_RECORDS;
        loop {
            let scope = RecordFilter {
                table_ref: &self.table_ref,
                device_id: &query.device_id,
                start,
                stop: query.stop,
            };
            let mut page = PointPage { points: Vec::new(), next: None };
            let mut instant = PointsAtInstant::default();
            let mut read = 0;
            // Everything before the instant that is being read is in the page.
            self.run_query(scope.records(query.metric.as_ref(), records), |row| {
                read += 1;
                if instant.is_later(&row)? {
                    std::mem::take(&mut instant).append_to(&mut page, query);
                }
                instant.add_record(&row, query.metric.as_ref())?;
                Ok(if page.next.is_some() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            })
            .await?;
            if page.next.is_some() {
                return Ok(page);
            }
            if read < records {
                instant.append_to(&mut page, query);
                return Ok(page);
            }
            // There are more, perhaps of the last instant, which then comes with the next page.
            if let Some(last) = page.points.last() {
                page.next = Some(last.key.clone());
                return Ok(page);
            }
            records *= 2;
        }
    }

    async fn windows(&self, query: &WindowQuery) -> Result<WindowPage, StoreError> {
        let begin = match &query.after {
            None => query.start,
            Some(after) if after.metric == MetricName::greatest() => {
                query.start.max(query.every.window_end(after.start))
            }
            Some(after) => query.start.max(after.start),
        };
        if begin >= query.stop {
            return Ok(WindowPage { windows: Vec::new(), next: None });
        }
        match query.aggregate {
            Aggregate::Integral => self.windows_from_points(query, begin).await,
            _ => self.windows_by_query(query, begin).await,
        }
    }
}

impl WriteOutcome {
    fn all_failed(rows: &[WriteRow], error: StoreError) -> Self {
        let failed = rows.iter().flat_map(|row| &row.message_ids).copied().collect();
        Self { failed, error: Some(error), ..Self::default() }
    }
}

enum Rejection {
    NewerVersion,
    OutsideRetention,
    Invalid(String),
}

/// Why a record was not taken. Timestream says so in words, but for a version that is there.
fn classify_rejection(rejected: &RejectedRecord) -> Rejection {
    let reason = rejected.reason().unwrap_or_default();
    if rejected.existing_version.is_some() {
        Rejection::NewerVersion
    } else if reason.contains("time range") || reason.contains("retention") {
        Rejection::OutsideRetention
    } else {
        Rejection::Invalid(reason.to_owned())
    }
}

fn rejected_count(error: &Option<StoreError>) -> usize {
    let source = error.as_ref().and_then(Error::source);
    source
        .and_then(|source| source.downcast_ref::<RejectedRecords>())
        .map_or(0, |rejected| rejected.count)
}

fn is_missing_column(error: Option<&QueryError>) -> bool {
    let Some(QueryError::ValidationException(invalid)) = error else { return false };
    let text = invalid.message().unwrap_or_default();
    text.contains("Column") && text.contains("does not exist")
}
