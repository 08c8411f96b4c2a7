//! Storage of records: series, versions, columns.

use std::fmt::Write as _;

use rusqlite::{OptionalExtension, ToSql, params_from_iter, types::Value};

use super::{
    WriteTransaction,
    catalog::Table,
    ingestion_window::{IngestionWindow, Tier},
    schema::{Role, Schema},
};
use crate::{
    error::{ApiError, RejectedRecord},
    instant::NANOS_PER_DAY,
    limits::MAX_MEASURE_NAMES_PER_TABLE,
    value::Type,
};

/// A record with its parsed values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    /// Sorted by name.
    pub(crate) dimensions: Vec<(String, String)>,
    pub(crate) measure_name: String,
    /// Nanoseconds since the epoch.
    pub(crate) time: i64,
    pub(crate) version: i64,
    pub(crate) measures: Vec<Measure>,
}

/// A value with its column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measure {
    pub(crate) column: String,
    pub(crate) role: Role,
    pub(crate) of: Type,
    pub(crate) value: Value,
}

/// The result of a write.
#[derive(Debug, Default)]
pub(crate) struct WriteOutcome {
    pub(crate) memory: usize,
    pub(crate) magnetic: usize,
    pub(crate) rejected: Vec<RejectedRecord>,
}

/// The reason why a record is rejected.
#[derive(Debug, PartialEq, Eq)]
struct Rejection {
    reason: String,
    existing_version: Option<i64>,
}

impl From<String> for Rejection {
    fn from(reason: String) -> Self {
        Self { reason, existing_version: None }
    }
}

/// Stores the records that are valid. `points` are the records of a request by index; an `Err` is
/// the reason why one could not be parsed.
pub(crate) fn write(
    change: &WriteTransaction<'_>,
    table: i64,
    window: &IngestionWindow,
    points: Vec<Result<Point, String>>,
) -> Result<WriteOutcome, ApiError> {
    let known = change.schema(table)?;
    let mut schema = Schema::clone(&known);
    let mut outcome = WriteOutcome::default();
    for (record_index, point) in points.into_iter().enumerate() {
        let stored = match point {
            Ok(point) => store_record(change, table, window, &mut schema, &point)?,
            Err(reason) => Err(reason.into()),
        };
        match stored {
            Ok(Tier::Memory) => outcome.memory += 1,
            Ok(Tier::Magnetic) => outcome.magnetic += 1,
            Err(Rejection { reason, existing_version }) => {
                outcome.rejected.push(RejectedRecord { record_index, reason, existing_version });
            }
        }
    }
    if schema.columns().len() > known.columns().len() {
        change.cache_schema(table, Some(schema));
    }
    Ok(outcome)
}

fn store_record(
    change: &WriteTransaction<'_>,
    table: i64,
    window: &IngestionWindow,
    schema: &mut Schema,
    point: &Point,
) -> Result<Result<Tier, Rejection>, ApiError> {
    let tier = match window.tier(point.time) {
        Ok(tier) => tier,
        Err(reason) => return Ok(Err(reason.into())),
    };
    let columns = match map_columns(schema, point) {
        Ok(mapping) => mapping,
        Err(reason) => return Ok(Err(reason.into())),
    };
    let series = match series(change, table, point)? {
        Ok(series) => series,
        Err(reason) => return Ok(Err(reason.into())),
    };
    if let Some(extended_schema) = columns.extended_schema {
        extended_schema.persist(&change.transaction, table, schema.columns().len())?;
        *schema = extended_schema;
    }
    if insert(change, table, "INSERT OR IGNORE", series, point, &columns.positions)? {
        return Ok(Ok(tier));
    }
    // The key exists.
    let existing = ExistingRecord::read(change, table, schema, series, point.time)?;
    match existing.upsert_decision(point, &columns.positions) {
        UpsertDecision::Replace => {
            insert(change, table, "INSERT OR REPLACE", series, point, &columns.positions)?;
            Ok(Ok(tier))
        }
        UpsertDecision::Duplicate => Ok(Ok(tier)),
        UpsertDecision::Reject(reason) => {
            Ok(Err(Rejection { reason, existing_version: Some(existing.version) }))
        }
    }
}

/// The columns of the values of a record: first dimensions, then measures.
struct ColumnMapping {
    positions: Vec<usize>,
    /// The schema with new columns, if there are any.
    extended_schema: Option<Schema>,
}

fn map_columns(schema: &Schema, point: &Point) -> Result<ColumnMapping, String> {
    let dimensions =
        point.dimensions.iter().map(|(name, _)| (name, Role::Dimension, Type::Varchar));
    let measures = point.measures.iter().map(|measure| (&measure.column, measure.role, measure.of));
    let columns = dimensions.chain(measures);
    let known = |(name, role, of): (&String, Role, Type)| {
        let column = schema.find(name)?;
        (column.role == role && column.of == of).then_some(column.position)
    };
    if let Some(positions) = columns.clone().map(known).collect() {
        return Ok(ColumnMapping { positions, extended_schema: None });
    }
    let mut extended_schema = schema.clone();
    let positions = columns
        .map(|(name, role, of)| extended_schema.require(name, role, of))
        .collect::<Result<_, _>>()?;
    Ok(ColumnMapping { positions, extended_schema: Some(extended_schema) })
}

/// Returns the number of the series of a record. Dimensions are a set, so their order in the
/// request is not significant.
fn series(
    change: &WriteTransaction<'_>,
    table: i64,
    point: &Point,
) -> Result<Result<i64, String>, ApiError> {
    let mut key = Vec::from([point.measure_name.as_str()]);
    key.extend(point.dimensions.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
    let key = serde_json::to_string(&key).map_err(|error| ApiError::Internal(Box::new(error)))?;
    let transaction = &change.transaction;
    let known = transaction
        .prepare_cached("SELECT id FROM series WHERE table_id = ? AND key = ?")?
        .query_row((table, &key), |row| row.get(0))
        .optional()?;
    if let Some(series) = known {
        return Ok(Ok(series));
    }
    let new_name = transaction
        .prepare_cached("INSERT OR IGNORE INTO measure_names VALUES (?, ?)")?
        .execute((table, &point.measure_name))?;
    if new_name > 0 {
        let names: i64 = transaction.query_row(
            "SELECT count(*) FROM measure_names WHERE table_id = ?",
            [table],
            |row| row.get(0),
        )?;
        if names > MAX_MEASURE_NAMES_PER_TABLE {
            transaction.execute(
                "DELETE FROM measure_names WHERE table_id = ? AND name = ?",
                (table, &point.measure_name),
            )?;
            return Ok(Err(format!(
                "The measure name '{}' is one too many: a table has at most {MAX_MEASURE_NAMES_PER_TABLE}.",
                point.measure_name
            )));
        }
    }
    transaction
        .prepare_cached("INSERT INTO series (table_id, key) VALUES (?, ?)")?
        .execute((table, &key))?;
    Ok(Ok(transaction.last_insert_rowid()))
}

/// Inserts a record; returns whether a row was written.
fn insert(
    change: &WriteTransaction<'_>,
    table: i64,
    verb: &str,
    series: i64,
    point: &Point,
    positions: &[usize],
) -> Result<bool, ApiError> {
    let mut sql = format!("{verb} INTO records_{table} (series, time, version, measure_name");
    for position in positions {
        // Writing to a String cannot fail.
        let _ = write!(sql, ", c{position}");
    }
    sql.push_str(") VALUES (?, ?, ?, ?");
    sql.push_str(&", ?".repeat(positions.len()));
    sql.push(')');
    let identity: [&dyn ToSql; 4] = [&series, &point.time, &point.version, &point.measure_name];
    let dimensions = point.dimensions.iter().map(|(_, value)| value as &dyn ToSql);
    let measures = point.measures.iter().map(|measure| &measure.value as &dyn ToSql);
    let values = identity.into_iter().chain(dimensions).chain(measures);
    let written = change.transaction.prepare_cached(&sql)?.execute(params_from_iter(values))?;
    Ok(written > 0)
}

/// The stored record with the key of a new one.
struct ExistingRecord {
    version: i64,
    /// The values by position, except dimensions.
    measures: Vec<(usize, Value)>,
}

#[derive(Debug, PartialEq, Eq)]
enum UpsertDecision {
    Replace,
    Duplicate,
    Reject(String),
}

impl ExistingRecord {
    fn read(
        change: &WriteTransaction<'_>,
        table: i64,
        schema: &Schema,
        series: i64,
        time: i64,
    ) -> Result<Self, ApiError> {
        let positions: Vec<usize> = schema
            .columns()
            .iter()
            .filter(|column| column.role != Role::Dimension)
            .map(|column| column.position)
            .collect();
        let mut sql = "SELECT version".to_owned();
        for position in &positions {
            let _ = write!(sql, ", c{position}");
        }
        let _ = write!(sql, " FROM records_{table} WHERE series = ? AND time = ?");
        let mut statement = change.transaction.prepare_cached(&sql)?;
        let existing = statement.query_row((series, time), |row| {
            let measures = positions
                .iter()
                .enumerate()
                .map(|(index, position)| Ok((*position, row.get::<_, Value>(index + 1)?)))
                .collect::<Result<_, rusqlite::Error>>()?;
            Ok(Self { version: row.get(0)?, measures })
        })?;
        Ok(existing)
    }

    /// Decides how a record affects the stored one with the same key.
    ///
    /// As documented for WriteRecords under «Upserts», a higher version updates the measure values,
    /// and the same version with the same values changes nothing. All others are rejected with the
    /// stored version (RejectedRecord, «ExistingVersion»):
    /// <https://docs.aws.amazon.com/timestream/latest/developerguide/API_WriteRecords.html>,
    /// <https://docs.aws.amazon.com/timestream/latest/developerguide/API_RejectedRecord.html>.
    ///
    /// AWS does not document the effect on a measure that the update lacks. Here the update
    /// replaces the whole record, so that such a measure becomes NULL and code that relies on the
    /// opposite is noticed.
    fn upsert_decision(&self, point: &Point, positions: &[usize]) -> UpsertDecision {
        if point.version > self.version {
            UpsertDecision::Replace
        } else if point.version < self.version {
            UpsertDecision::Reject(format!(
                "The record version {} is lower than the existing version {}. A higher version is required to update the measure value.",
                point.version, self.version
            ))
        } else if self.has_same_values(point, positions) {
            UpsertDecision::Duplicate
        } else {
            UpsertDecision::Reject(
                "A record already exists with the same time, dimensions, measure name, and record version. A higher record version must be specified in order to update the measure value.".to_owned(),
            )
        }
    }

    fn has_same_values(&self, point: &Point, positions: &[usize]) -> bool {
        let new: Vec<(usize, &Value)> = positions
            .iter()
            .skip(point.dimensions.len())
            .copied()
            .zip(point.measures.iter().map(|measure| &measure.value))
            .collect();
        self.measures.iter().all(|(position, existing)| {
            let given = new.iter().find(|(of, _)| of == position).map(|(_, value)| *value);
            given.unwrap_or(&Value::Null) == existing
        })
    }
}

/// Deletes a bounded number of expired records; returns their number.
pub(crate) fn expire(
    change: &WriteTransaction<'_>,
    table: &Table,
    now: i64,
) -> Result<usize, ApiError> {
    const EXPIRY_BATCH_SIZE: i64 = 10_000;
    let id = table.id;
    let oldest = now.saturating_sub(table.magnetic_days.saturating_mul(NANOS_PER_DAY));
    let removed = change.transaction.execute(
        &format!(
            "DELETE FROM records_{id} WHERE (series, time) IN
             (SELECT series, time FROM records_{id} WHERE time < ? LIMIT {EXPIRY_BATCH_SIZE})"
        ),
        [oldest],
    )?;
    Ok(removed)
}
