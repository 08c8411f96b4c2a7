//! CreateDatabase, DescribeDatabase, ListDatabases, UpdateDatabase, DeleteDatabase.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ApiResult, Service, seconds,
    table::page_size,
    tags::{self, Tag},
};
use crate::{
    error::ApiError,
    instant,
    limits::{MAX_DATABASES, check_resource_name},
    store::catalog::Database,
};

/// The key of databases that name none; keys are stored and have no effect.
const DEFAULT_KEY: &str = "arn:aws:kms:us-east-1:000000000000:key/timestream";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Create {
    database_name: String,
    #[serde(default)]
    kms_key_id: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Name {
    database_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Update {
    database_name: String,
    kms_key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
pub(super) struct List {
    next_token: Option<String>,
    max_results: Option<i64>,
}

pub(super) fn create(service: &Service, request: Create) -> ApiResult {
    check_resource_name("DatabaseName", &request.database_name).map_err(ApiError::Validation)?;
    let now = instant::now();
    let database = Database {
        name: request.database_name,
        kms_key_id: request.kms_key_id.unwrap_or_else(|| DEFAULT_KEY.to_owned()),
        tables: 0,
        created: now,
        updated: now,
    };
    service.store.write(|change| {
        database.create(change)?;
        if Database::count(&change.transaction)? > MAX_DATABASES {
            return Err(ApiError::QuotaExceeded(format!(
                "There are {MAX_DATABASES} databases already."
            )));
        }
        tags::put(change, &arn(&database.name), &request.tags)
    })?;
    Ok(json!({ "Database": describe_json(&database) }))
}

pub(super) fn describe(service: &Service, request: Name) -> ApiResult {
    let database = Database::find(&service.store.reader()?, &request.database_name)?;
    Ok(json!({ "Database": describe_json(&database) }))
}

pub(super) fn list(service: &Service, request: List) -> ApiResult {
    let size = page_size(request.max_results)?;
    let after = request.next_token.unwrap_or_default();
    let mut databases = Database::list(&service.store.reader()?, &after, size + 1)?;
    let more = databases.len() > size;
    databases.truncate(size);
    let mut result = json!({
        "Databases": databases.iter().map(describe_json).collect::<Vec<_>>(),
    });
    if let Some(last) = databases.last().filter(|_| more) {
        result["NextToken"] = json!(last.name);
    }
    Ok(result)
}

pub(super) fn update(service: &Service, request: Update) -> ApiResult {
    let database = service.store.write(|change| {
        let mut database = Database::find(&change.transaction, &request.database_name)?;
        database.kms_key_id = request.kms_key_id;
        database.updated = instant::now();
        database.update(change)?;
        Ok(database)
    })?;
    Ok(json!({ "Database": describe_json(&database) }))
}

pub(super) fn delete(service: &Service, request: Name) -> ApiResult {
    service.store.write(|change| {
        let database = Database::find(&change.transaction, &request.database_name)?;
        database.delete(change)?;
        tags::remove_all(change, &arn(&database.name))
    })?;
    Ok(json!({}))
}

/// Returns the ARN of a database. Region and account are fixed.
pub(super) fn arn(database: &str) -> String {
    format!("arn:aws:timestream:us-east-1:000000000000:database/{database}")
}

fn describe_json(database: &Database) -> Value {
    json!({
        "Arn": arn(&database.name),
        "DatabaseName": database.name,
        "TableCount": database.tables,
        "KmsKeyId": database.kms_key_id,
        "CreationTime": seconds(database.created),
        "LastUpdatedTime": seconds(database.updated),
    })
}
