//! CreateTable, DescribeTable, ListTables, UpdateTable, DeleteTable.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    ApiResult, Service, database, seconds,
    tags::{self, Tag},
};
use crate::{
    error::ApiError,
    instant,
    limits::check_resource_name,
    store::catalog::{Database, Table},
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Create {
    database_name: String,
    table_name: String,
    #[serde(default)]
    retention_properties: Option<RetentionProperties>,
    #[serde(default)]
    magnetic_store_write_properties: Option<MagneticStoreWriteProperties>,
    #[serde(default)]
    schema: Option<Schema>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Update {
    database_name: String,
    table_name: String,
    #[serde(default)]
    retention_properties: Option<RetentionProperties>,
    #[serde(default)]
    magnetic_store_write_properties: Option<MagneticStoreWriteProperties>,
    #[serde(default)]
    schema: Option<Schema>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Name {
    database_name: String,
    table_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct List {
    database_name: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RetentionProperties {
    memory_store_retention_period_in_hours: i64,
    magnetic_store_retention_period_in_days: i64,
}

/// Writes to the magnetic store, and the location for reports of asynchronous rejections.
/// Rejections are synchronous here, so the location is only stored.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct MagneticStoreWriteProperties {
    enable_magnetic_store_writes: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    magnetic_store_rejected_data_location: Option<RejectedDataLocation>,
}

#[derive(Deserialize, Serialize)]
struct RejectedDataLocation {
    #[serde(rename = "S3Configuration", default, skip_serializing_if = "Option::is_none")]
    s3_configuration: Option<S3Configuration>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct S3Configuration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bucket_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object_key_prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encryption_option: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kms_key_id: Option<String>,
}

/// The partition keys of the table, which are stored and not enforced.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Schema {
    composite_partition_key: Vec<PartitionKey>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PartitionKey {
    #[serde(rename = "Type")]
    of: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enforcement_in_record: Option<String>,
}

impl RetentionProperties {
    /// The retention of tables that set none.
    const DEFAULT: Self = Self {
        memory_store_retention_period_in_hours: 6,
        magnetic_store_retention_period_in_days: 73_000,
    };

    fn check(self) -> Result<Self, ApiError> {
        let hours = self.memory_store_retention_period_in_hours;
        let days = self.magnetic_store_retention_period_in_days;
        if !(1..=8_766).contains(&hours) {
            return Err(ApiError::Validation(format!(
                "MemoryStoreRetentionPeriodInHours is {hours}: 1 to 8766 are allowed."
            )));
        }
        if !(1..=73_000).contains(&days) {
            return Err(ApiError::Validation(format!(
                "MagneticStoreRetentionPeriodInDays is {days}: 1 to 73000 are allowed."
            )));
        }
        Ok(self)
    }
}

impl Schema {
    /// The schema of tables that set none.
    fn by_measure_name() -> Self {
        let key =
            PartitionKey { of: "MEASURE".to_owned(), name: None, enforcement_in_record: None };
        Self { composite_partition_key: Vec::from([key]) }
    }
}

/// Returns whether records beyond the memory retention are accepted.
pub(super) fn magnetic_writes_enabled(table: &Table) -> bool {
    serde_json::from_str(&table.magnetic_writes).is_ok_and(
        |properties: MagneticStoreWriteProperties| properties.enable_magnetic_store_writes,
    )
}

pub(super) fn create(service: &Service, request: Create) -> ApiResult {
    check_resource_name("DatabaseName", &request.database_name).map_err(ApiError::Validation)?;
    check_resource_name("TableName", &request.table_name).map_err(ApiError::Validation)?;
    let retention = request.retention_properties.unwrap_or(RetentionProperties::DEFAULT).check()?;
    let now = instant::now();
    let mut table = Table {
        id: 0,
        database: request.database_name,
        name: request.table_name,
        memory_hours: retention.memory_store_retention_period_in_hours,
        magnetic_days: retention.magnetic_store_retention_period_in_days,
        magnetic_writes: to_json(&request.magnetic_store_write_properties.unwrap_or_default())?,
        partition_keys: to_json(&request.schema.unwrap_or_else(Schema::by_measure_name))?,
        created: now,
        updated: now,
    };
    service.store.write(|change| {
        table.create(change)?;
        tags::put(change, &arn(&table.database, &table.name), &request.tags)
    })?;
    Ok(json!({ "Table": describe_json(&table) }))
}

pub(super) fn describe(service: &Service, request: Name) -> ApiResult {
    let reader = service.store.reader()?;
    let table = Table::find(&reader, &request.database_name, &request.table_name)?;
    Ok(json!({ "Table": describe_json(&table) }))
}

pub(super) fn list(service: &Service, request: List) -> ApiResult {
    let size = page_size(request.max_results)?;
    let token = request.next_token.unwrap_or_default();
    let after = token.split_once('/').unwrap_or_default();
    let reader = service.store.reader()?;
    let database = request.database_name.as_deref();
    if let Some(database) = database {
        Database::find(&reader, database)?;
    }
    let mut tables = Table::list(&reader, database, after, size + 1)?;
    let more = tables.len() > size;
    tables.truncate(size);
    let mut result = json!({ "Tables": tables.iter().map(describe_json).collect::<Vec<_>>() });
    if let Some(last) = tables.last().filter(|_| more) {
        result["NextToken"] = json!(format!("{}/{}", last.database, last.name));
    }
    Ok(result)
}

pub(super) fn update(service: &Service, request: Update) -> ApiResult {
    let retention = request.retention_properties.map(RetentionProperties::check).transpose()?;
    let table = service.store.write(|change| {
        let mut table =
            Table::find(&change.transaction, &request.database_name, &request.table_name)?;
        if let Some(retention) = retention {
            table.memory_hours = retention.memory_store_retention_period_in_hours;
            table.magnetic_days = retention.magnetic_store_retention_period_in_days;
        }
        if let Some(properties) = &request.magnetic_store_write_properties {
            table.magnetic_writes = to_json(properties)?;
        }
        if let Some(schema) = &request.schema {
            table.partition_keys = to_json(schema)?;
        }
        table.updated = instant::now();
        table.update(change)?;
        Ok(table)
    })?;
    Ok(json!({ "Table": describe_json(&table) }))
}

pub(super) fn delete(service: &Service, request: Name) -> ApiResult {
    service.store.write(|change| {
        let table = Table::find(&change.transaction, &request.database_name, &request.table_name)?;
        table.delete(change)?;
        tags::remove_all(change, &arn(&table.database, &table.name))
    })?;
    Ok(json!({}))
}

/// Returns the number of databases or tables on a page.
pub(super) fn page_size(requested: Option<i64>) -> Result<usize, ApiError> {
    const MAX_COUNT: usize = 20;
    match requested {
        None => Ok(MAX_COUNT),
        Some(requested) => usize::try_from(requested)
            .ok()
            .filter(|size| (1..=MAX_COUNT).contains(size))
            .ok_or_else(|| ApiError::Validation(format!("MaxResults is 1 to {MAX_COUNT}."))),
    }
}

fn arn(database: &str, table: &str) -> String {
    format!("{}/table/{table}", database::arn(database))
}

fn describe_json(table: &Table) -> Value {
    json!({
        "Arn": arn(&table.database, &table.name),
        "TableName": table.name,
        "DatabaseName": table.database,
        "TableStatus": "ACTIVE",
        "RetentionProperties": {
            "MemoryStoreRetentionPeriodInHours": table.memory_hours,
            "MagneticStoreRetentionPeriodInDays": table.magnetic_days,
        },
        "MagneticStoreWriteProperties": from_json(&table.magnetic_writes),
        "Schema": from_json(&table.partition_keys),
        "CreationTime": seconds(table.created),
        "LastUpdatedTime": seconds(table.updated),
    })
}

fn to_json<T: Serialize>(value: &T) -> Result<String, ApiError> {
    serde_json::to_string(value).map_err(|error| ApiError::Internal(Box::new(error)))
}

/// Parses a text that [`to_json`] wrote.
fn from_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}
