//! Writing records, and the records that Timestream rejects.

use aws_sdk_timestreamwrite::operation::write_records::WriteRecordsError;
use aws_sdk_timestreamwrite::types::RejectedRecord;
use futures::{StreamExt, stream};
use meter_domain::metric::DevicePoint;
use meter_domain::time::Timestamp;
use meter_store::{BatchFailures, BatchWriteError, StoreError, WriteSummary};

use super::record::{self, WriteRow};
use super::{CONCURRENCY, Timestream};
use crate::error::classify;

/// Records in one WriteRecords call, a limit of the API.
const MAX_RECORDS_PER_WRITE: usize = 100;

const OPERATION: &str = "timestream:WriteRecords";

/// The results of one or more WriteRecords calls.
#[derive(Debug, Default)]
struct WriteOutcome {
    written: WriteSummary,
    failures: BatchFailures,
}

/// A reason for which Timestream rejects a record at every attempt.
#[derive(Debug, thiserror::Error)]
#[error("record rejected: {0}")]
struct InvalidRecord(String);

enum Rejection {
    NewerVersion,
    OutsideRetention,
    Invalid(InvalidRecord),
}

impl Timestream {
    pub(super) async fn write_points(
        &self,
        points: &[DevicePoint],
    ) -> Result<WriteSummary, BatchWriteError> {
        let (rows, outside_retention) = record::rows(points);
        let mut total = WriteOutcome::default();
        total.written.outside_retention = outside_retention;
        if rows.is_empty() {
            return Ok(total.written);
        }
        if let Err(error) = self.ensure_schema().await {
            total.failures.add(rows.iter().flat_map(|row| row.message_ids.clone()), error);
        } else {
            let calls: Vec<_> =
                rows.chunks(MAX_RECORDS_PER_WRITE).map(|rows| self.write_rows(rows)).collect();
            let outcomes: Vec<WriteOutcome> =
                stream::iter(calls).buffer_unordered(CONCURRENCY).collect().await;
            for WriteOutcome { written, failures } in outcomes {
                total.written.outside_retention += written.outside_retention;
                total.written.superseded += written.superseded;
                if let Err(error) = failures.into_result() {
                    total.failures.extend(error);
                }
            }
        }
        total.failures.into_result().map(|()| total.written)
    }

    /// Writes a record with every column, once in a process: a query that names a column without
    /// any value is an error. No query selects the device of that record.
    async fn ensure_schema(&self) -> Result<(), StoreError> {
        let ensure = || async {
            let outcome = self.write_rows(&[WriteRow::schema(Timestamp::now())]).await;
            outcome.failures.into_result().map_err(|error| match error.source {
                // The record has no message: a table that rejects it rejects the columns.
                StoreError::Invalid { operation, source } => {
                    StoreError::Misconfigured { operation, source }
                }
                error => error,
            })
        };
        self.schema_written.get_or_try_init(ensure).await.map(drop)
    }

    async fn write_rows(&self, rows: &[WriteRow]) -> WriteOutcome {
        let mut outcome = WriteOutcome::default();
        let mut sent = Vec::with_capacity(rows.len());
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            match row.record() {
                Ok(record) => {
                    sent.push(row);
                    records.push(record);
                }
                Err(error) => outcome.failures.add(
                    row.message_ids.iter().copied(),
                    StoreError::invalid("encoding of a record", error),
                ),
            }
        }
        let response = self
            .write
            .write_records()
            .database_name(&self.database)
            .table_name(&self.table)
            .common_attributes(WriteRow::common())
            .set_records(Some(records))
            .send()
            .await;
        let Err(error) = response else { return outcome };
        let Some(WriteRecordsError::RejectedRecordsException(rejected)) = error.as_service_error()
        else {
            let message_ids = sent.into_iter().flat_map(|row| row.message_ids.clone());
            outcome.failures.add(message_ids, classify(OPERATION)(error));
            return outcome;
        };
        // The other records of the call are stored.
        for rejected in rejected.rejected_records() {
            let index = usize::try_from(rejected.record_index).ok();
            let Some(row) = index.and_then(|index| sent.get(index)) else { continue };
            match classify_rejection(rejected) {
                Rejection::NewerVersion => outcome.written.superseded += 1,
                Rejection::OutsideRetention => outcome.written.outside_retention += 1,
                Rejection::Invalid(reason) => {
                    let error = StoreError::invalid(OPERATION, reason);
                    outcome.failures.add(row.message_ids.iter().copied(), error);
                }
            }
        }
        outcome
    }
}

/// Returns the cause of a rejection.
///
/// The API has a field for a newer version only and describes every other cause as text, so a
/// record outside of the retention period can be recognized by that text alone. If AWS changes its
/// words, the record counts as invalid: its message is then quarantined, not lost.
fn classify_rejection(rejected: &RejectedRecord) -> Rejection {
    let reason = rejected.reason().unwrap_or_default();
    if rejected.existing_version.is_some() {
        Rejection::NewerVersion
    } else if reason.contains("time range") || reason.contains("retention") {
        Rejection::OutsideRetention
    } else {
        Rejection::Invalid(InvalidRecord(reason.to_owned()))
    }
}
