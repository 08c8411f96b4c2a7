//! Points in a table of Timestream for LiveAnalytics.

mod query;
mod record;
mod rows;
mod sql;
mod windows;
mod write;

use std::ops::ControlFlow;
use std::sync::Arc;

use meter_domain::aggregate::Aggregate;
use meter_domain::metric::{DevicePoint, MetricName};
use meter_store::{
    BatchWriteError, MetricStore, PointPage, PointQuery, StoreError, WindowPage, WindowQuery,
    WriteSummary,
};
use tokio::sync::OnceCell;

use self::rows::PointsAtInstant;
use self::sql::{RecordFilter, TableRef};
use super::Clients;

/// Concurrent calls for one batch or page.
const CONCURRENCY: usize = 8;

/// Records that a page of points reads beyond its limit, so that its last instant is complete.
const EXTRA_RECORDS: usize = 1_000;

/// Implements [`MetricStore`] with a table of Timestream.
#[derive(Debug, Clone)]
pub struct Timestream {
    write: aws_sdk_timestreamwrite::Client,
    query: aws_sdk_timestreamquery::Client,
    database: String,
    table: String,
    table_ref: TableRef,
    max_gap_s: u32,
    /// Set once this process has written a record with every column.
    schema_written: Arc<OnceCell<()>>,
}

impl Timestream {
    /// Connects to a table. An integral bridges gaps of up to `max_gap_s` seconds.
    ///
    /// # Errors
    /// If the discovery of the account's endpoints fails.
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
}

impl MetricStore for Timestream {
    async fn put_points(&self, points: &[DevicePoint]) -> Result<WriteSummary, BatchWriteError> {
        self.write_points(points).await
    }

    async fn points(&self, query: &PointQuery) -> Result<PointPage, StoreError> {
        let start = query.after.as_ref().map_or(query.start, |after| after.time.max(query.start));
        let mut records = query.limit + EXTRA_RECORDS;
        loop {
            let filter = RecordFilter {
                table_ref: &self.table_ref,
                device_id: &query.device_id,
                start,
                stop: query.stop,
            };
            let mut page = PointPage { points: Vec::new(), next: None };
            let mut instant = PointsAtInstant::default();
            let mut read = 0;
            // `instant` holds the points of the instant that is being read, `page` all before it.
            self.run_query(filter.records(query.metric.as_ref(), records), |row| {
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
            // More records follow, possibly of the last instant, which the next page then returns.
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
