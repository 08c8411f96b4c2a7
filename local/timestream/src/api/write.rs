//! WriteRecords: parsing of common attributes and records into points.

use std::collections::HashSet;

use rusqlite::types::Value;
use serde::Deserialize;
use serde_json::json;

use super::{ApiResult, Service};
use crate::{
    error::ApiError,
    instant, limits,
    store::{
        catalog::Table,
        ingestion_window::IngestionWindow,
        records::{self, Measure, Point},
        schema::Role,
    },
    value::Type,
};

/// A `WriteRecords` request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WriteRecords {
    database_name: String,
    table_name: String,
    #[serde(default)]
    common_attributes: Option<Record>,
    records: Vec<Record>,
}

/// A record, or the common attributes of the records of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Record {
    dimensions: Option<Vec<Dimension>>,
    measure_name: Option<String>,
    measure_value: Option<String>,
    measure_value_type: Option<String>,
    measure_values: Option<Vec<MeasureValue>>,
    time: Option<String>,
    time_unit: Option<String>,
    version: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Dimension {
    name: String,
    value: String,
    #[serde(default)]
    dimension_value_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MeasureValue {
    name: String,
    value: String,
    #[serde(rename = "Type")]
    of: String,
}

/// The reason why a record is not accepted.
#[derive(Debug, PartialEq, Eq)]
enum RecordError {
    /// The whole request is invalid by the form of the API.
    InvalidRequest(String),
    /// The record is rejected; the others are stored.
    RejectedRecord(String),
}

impl From<String> for RecordError {
    fn from(reason: String) -> Self {
        Self::RejectedRecord(reason)
    }
}

pub(super) fn write_records(service: &Service, request: WriteRecords) -> ApiResult {
    let count = request.records.len();
    if count == 0 || count > limits::MAX_RECORDS {
        return Err(ApiError::Validation(format!(
            "Records has {count} members: 1 to {} are allowed.",
            limits::MAX_RECORDS
        )));
    }
    let common = request.common_attributes.unwrap_or_default();
    let mut points = Vec::with_capacity(count);
    for (index, record) in request.records.iter().enumerate() {
        points.push(match parse_record(&common, record) {
            Ok(point) => Ok(point),
            Err(RecordError::RejectedRecord(reason)) => Err(reason),
            Err(RecordError::InvalidRequest(reason)) => {
                return Err(ApiError::Validation(format!("Record {index}: {reason}")));
            }
        });
    }
    let outcome = service.store.write(|change| {
        let table = Table::find(&change.transaction, &request.database_name, &request.table_name)?;
        let window = IngestionWindow::new(
            &table,
            super::table::magnetic_writes_enabled(&table),
            instant::now(),
        );
        records::write(change, table.id, &window, points)
    })?;
    if !outcome.rejected.is_empty() {
        return Err(ApiError::RejectedRecords(outcome.rejected));
    }
    Ok(json!({ "RecordsIngested": {
        "Total": outcome.memory + outcome.magnetic,
        "MemoryStore": outcome.memory,
        "MagneticStore": outcome.magnetic,
    } }))
}

/// Parses a record; its attributes take precedence over the common ones.
fn parse_record(common: &Record, record: &Record) -> Result<Point, RecordError> {
    let version = record.version.or(common.version).unwrap_or(1);
    if version < 1 {
        return Err(RecordError::InvalidRequest("Version must be 1 or greater.".to_owned()));
    }
    let unit = nanos_per_unit(record.time_unit.as_ref().or(common.time_unit.as_ref()))?;
    let time = record.time.as_ref().or(common.time.as_ref());
    let time = time.ok_or_else(|| RecordError::InvalidRequest("Time is missing.".to_owned()))?;
    let time = parse_time(time, unit).filter(|time| *time >= 0).ok_or_else(|| {
        RecordError::InvalidRequest(format!("Time '{time}' is not a time since the epoch."))
    })?;
    let measure_name = record.measure_name.as_ref().or(common.measure_name.as_ref());
    let measure_name = measure_name
        .ok_or_else(|| RecordError::InvalidRequest("MeasureName is missing.".to_owned()))?
        .clone();
    let dimensions = dimensions(common, record)?;
    let measures = measures(common, record, unit)?;
    limits::check_measure_name(&measure_name)?;
    if measures.iter().any(|measure| dimensions.iter().any(|(name, _)| *name == measure.column)) {
        return Err(RecordError::RejectedRecord(
            "A measure has the name of a dimension.".to_owned(),
        ));
    }
    Ok(Point { dimensions, measure_name, time, version, measures })
}

fn nanos_per_unit(unit: Option<&String>) -> Result<i64, RecordError> {
    match unit.map_or("MILLISECONDS", String::as_str) {
        "SECONDS" => Ok(1_000_000_000),
        "MILLISECONDS" => Ok(1_000_000),
        "MICROSECONDS" => Ok(1_000),
        "NANOSECONDS" => Ok(1),
        other => Err(RecordError::InvalidRequest(format!(
            "TimeUnit '{other}' is none of SECONDS, MILLISECONDS, MICROSECONDS, NANOSECONDS."
        ))),
    }
}

fn parse_time(text: &str, unit: i64) -> Option<i64> {
    text.parse::<i64>().ok()?.checked_mul(unit)
}

/// Returns the dimensions of both; a name in both is an error.
fn dimensions(common: &Record, record: &Record) -> Result<Vec<(String, String)>, RecordError> {
    let all = common.dimensions.iter().chain(record.dimensions.iter()).flatten();
    let mut dimensions = Vec::new();
    let mut bytes = 0;
    for Dimension { name, value, dimension_value_type } in all {
        if dimension_value_type.as_ref().is_some_and(|of| of != "VARCHAR") {
            return Err(RecordError::InvalidRequest(
                "DimensionValueType can only be VARCHAR.".to_owned(),
            ));
        }
        limits::check_dimension_name(name)?;
        if value.is_empty() {
            return Err(RecordError::RejectedRecord(format!(
                "The dimension '{name}' has an empty value."
            )));
        }
        bytes += name.len() + value.len();
        dimensions.push((name.clone(), value.clone()));
    }
    dimensions.sort_unstable();
    if dimensions.is_empty() {
        return Err(RecordError::InvalidRequest("A record has at least one dimension.".to_owned()));
    }
    if dimensions.len() > limits::MAX_DIMENSIONS {
        return Err(RecordError::InvalidRequest(format!(
            "A record has at most {} dimensions.",
            limits::MAX_DIMENSIONS
        )));
    }
    if let Some([(name, _), _]) = dimensions.array_windows().find(|[(one, _), (two, _)]| one == two)
    {
        return Err(RecordError::InvalidRequest(format!("The dimension '{name}' occurs twice.")));
    }
    if bytes > limits::MAX_DIMENSION_BYTES {
        return Err(RecordError::RejectedRecord(format!(
            "The dimensions have {bytes} bytes; a record's have at most {}.",
            limits::MAX_DIMENSION_BYTES
        )));
    }
    Ok(dimensions)
}

fn measures(common: &Record, record: &Record, unit: i64) -> Result<Vec<Measure>, RecordError> {
    let of = record.measure_value_type.as_ref().or(common.measure_value_type.as_ref());
    let measures = match of.map_or("DOUBLE", String::as_str) {
        "MULTI" => multi(common, record, unit)?,
        // Documented, and confirmed in https://github.com/boto/boto3/issues/3138
        "TIMESTAMP" => {
            return Err(RecordError::InvalidRequest(
                "TIMESTAMP is an invalid measure value type outside of MULTI.".to_owned(),
            ));
        }
        of => {
            if record.measure_values.is_some() || common.measure_values.is_some() {
                return Err(RecordError::InvalidRequest(
                    "MeasureValues is only for the type MULTI.".to_owned(),
                ));
            }
            let value = record.measure_value.as_ref().or(common.measure_value.as_ref());
            let value = value.ok_or_else(|| {
                RecordError::InvalidRequest("MeasureValue is missing.".to_owned())
            })?;
            let of = measure_type(of)?;
            let value = parse_value(value, of, unit)?;
            let column = format!("measure_value::{of}");
            Vec::from([Measure { column, role: Role::SingleMeasure, of, value }])
        }
    };
    let bytes: usize = measures.iter().map(|measure| size(&measure.value)).sum();
    if bytes > limits::MAX_VALUE_BYTES {
        return Err(RecordError::RejectedRecord(format!(
            "The measure values have {bytes} bytes; a record's have at most {}.",
            limits::MAX_VALUE_BYTES
        )));
    }
    Ok(measures)
}

fn multi(common: &Record, record: &Record, unit: i64) -> Result<Vec<Measure>, RecordError> {
    if record.measure_value.is_some() || common.measure_value.is_some() {
        return Err(RecordError::InvalidRequest(
            "MeasureValue is not for the type MULTI.".to_owned(),
        ));
    }
    let all = || common.measure_values.iter().chain(record.measure_values.iter()).flatten();
    let count = all().count();
    if count == 0 {
        return Err(RecordError::InvalidRequest("MeasureValues is missing or empty.".to_owned()));
    }
    if count > limits::MAX_MEASURES_PER_RECORD {
        return Err(RecordError::RejectedRecord(format!(
            "The record has {count} measures, at most {} are allowed.",
            limits::MAX_MEASURES_PER_RECORD
        )));
    }
    let mut seen = HashSet::new();
    all()
        .map(|MeasureValue { name, value, of }| {
            limits::check_measure_name(name)?;
            if !seen.insert(name) {
                return Err(RecordError::InvalidRequest(format!(
                    "The measure '{name}' occurs twice."
                )));
            }
            let of = measure_type(of)?;
            let value = parse_value(value, of, unit).map_err(
                |(RecordError::RejectedRecord(why) | RecordError::InvalidRequest(why))| {
                    RecordError::RejectedRecord(format!("'{name}': {why}"))
                },
            )?;
            Ok(Measure { column: name.clone(), role: Role::Measure, of, value })
        })
        .collect()
}

fn measure_type(name: &str) -> Result<Type, RecordError> {
    match name {
        "DOUBLE" => Ok(Type::Double),
        "BIGINT" => Ok(Type::Bigint),
        "VARCHAR" => Ok(Type::Varchar),
        "BOOLEAN" => Ok(Type::Boolean),
        "TIMESTAMP" => Ok(Type::Timestamp),
        other => Err(RecordError::InvalidRequest(format!("'{other}' is not a type of a measure."))),
    }
}

/// Parses a value for SQLite; a TIMESTAMP is in the TimeUnit of the record.
fn parse_value(text: &str, of: Type, unit: i64) -> Result<Value, RecordError> {
    let value = match of {
        Type::Double => {
            text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Real)
        }
        Type::Bigint => text.parse().ok().map(Value::Integer),
        Type::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" => Some(Value::Integer(1)),
            "false" => Some(Value::Integer(0)),
            _ => None,
        },
        Type::Timestamp => parse_time(text, unit).filter(|at| *at >= 0).map(Value::Integer),
        _ => Some(Value::Text(text.to_owned())).filter(|_| !text.contains('\0')),
    };
    value.ok_or_else(|| {
        RecordError::RejectedRecord(format!("The measure value '{text}' is not a {of}."))
    })
}

/// Returns the size in bytes by the rules of the quota.
fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        _ => 8,
    }
}
