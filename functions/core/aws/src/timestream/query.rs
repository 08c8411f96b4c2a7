//! Execution of queries, page by page.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use aws_sdk_timestreamquery::error::SdkError;
use aws_sdk_timestreamquery::operation::query::{QueryError, QueryOutput};
use meter_domain::metric::MetricName;
use meter_store::StoreError;

use super::Timestream;
use super::rows::RowReader;
use super::sql::RecordFilter;
use crate::error::classify;

const OPERATION: &str = "timestream:Query";

impl Timestream {
    /// Runs a query and calls `take_row` with each row until it returns `Break`.
    pub(super) async fn run_query(
        &self,
        query: String,
        mut take_row: impl FnMut(RowReader<'_>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut next = None;
        loop {
            let page = match self.query_page(&query, next).await {
                Ok(page) => page,
                Err(error) if self.is_caused_by_empty_table(&error).await? => return Ok(()),
                Err(error) => return Err(classify(OPERATION)(error)),
            };
            for row in page.rows() {
                if take_row(RowReader::new(page.column_info(), row))?.is_break() {
                    return Ok(());
                }
            }
            next = page.next_token;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    async fn query_page(
        &self,
        query: &str,
        next_token: Option<String>,
    ) -> Result<QueryOutput, SdkError<QueryError>> {
        self.query.query().query_string(query).set_next_token(next_token).send().await
    }

    /// Returns whether a query failed because the table has no records yet: it then has no columns,
    /// and Timestream rejects every query that names one as invalid.
    async fn is_caused_by_empty_table(
        &self,
        error: &SdkError<QueryError>,
    ) -> Result<bool, StoreError> {
        if !error.as_service_error().is_some_and(QueryError::is_validation_exception) {
            return Ok(false);
        }
        let mut next = None;
        loop {
            let any = self.query_page(&self.table_ref.any_record(), next).await;
            let page = any.map_err(classify(OPERATION))?;
            next = page.next_token;
            if !page.rows.is_empty() || next.is_none() {
                return Ok(page.rows.is_empty());
            }
        }
    }

    /// Returns the metrics that a device has in a range.
    pub(super) async fn metrics(
        &self,
        filter: RecordFilter<'_>,
    ) -> Result<Vec<MetricName>, StoreError> {
        let mut metrics = BTreeSet::new();
        self.run_query(filter.metrics(), |row| {
            metrics.extend(row.metrics()?);
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(metrics.into_iter().collect())
    }
}
