//! ListTagsForResource, TagResource, UntagResource. Tags are stored and have no effect.

use rusqlite::OptionalExtension;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiResult, Service};
use crate::{error::ApiError, store::WriteTransaction};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tag {
    key: String,
    value: String,
}

#[derive(Deserialize)]
pub(super) struct Resource {
    #[serde(rename = "ResourceARN")]
    arn: String,
}

#[derive(Deserialize)]
pub(super) struct Add {
    #[serde(rename = "ResourceARN")]
    arn: String,
    #[serde(rename = "Tags")]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
pub(super) struct Remove {
    #[serde(rename = "ResourceARN")]
    arn: String,
    #[serde(rename = "TagKeys")]
    keys: Vec<String>,
}

pub(super) fn list(service: &Service, request: Resource) -> ApiResult {
    let reader = service.store.reader()?;
    check_exists(&reader, &request.arn)?;
    let tags: Vec<Value> = reader
        .prepare("SELECT key, value FROM tags WHERE arn = ? ORDER BY key")?
        .query_map([request.arn], |row| {
            Ok(json!({ "Key": row.get::<_, String>(0)?, "Value": row.get::<_, String>(1)? }))
        })?
        .collect::<Result<_, _>>()?;
    Ok(json!({ "Tags": tags }))
}

pub(super) fn tag(service: &Service, request: Add) -> ApiResult {
    service.store.write(|change| {
        check_exists(&change.transaction, &request.arn)?;
        put(change, &request.arn, &request.tags)
    })?;
    Ok(json!({}))
}

pub(super) fn untag(service: &Service, request: Remove) -> ApiResult {
    service.store.write(|change| {
        check_exists(&change.transaction, &request.arn)?;
        for key in &request.keys {
            let sql = "DELETE FROM tags WHERE arn = ? AND key = ?";
            change.transaction.execute(sql, (&request.arn, key))?;
        }
        Ok(())
    })?;
    Ok(json!({}))
}

pub(super) fn put(change: &WriteTransaction<'_>, arn: &str, tags: &[Tag]) -> Result<(), ApiError> {
    const MAX_COUNT: i64 = 200;
    for tag in tags {
        if tag.key.is_empty() || tag.key.chars().count() > 128 || tag.value.chars().count() > 256 {
            return Err(ApiError::Validation(
                "A tag has a key of 1 to 128 characters, and a value of at most 256.".to_owned(),
            ));
        }
        let sql = "INSERT OR REPLACE INTO tags VALUES (?, ?, ?)";
        change.transaction.execute(sql, (arn, &tag.key, &tag.value))?;
    }
    let sql = "SELECT count(*) FROM tags WHERE arn = ?";
    let count: i64 = change.transaction.query_row(sql, [arn], |row| row.get(0))?;
    if count > MAX_COUNT {
        return Err(ApiError::QuotaExceeded(format!("A resource has at most {MAX_COUNT} tags.")));
    }
    Ok(())
}

pub(super) fn remove_all(change: &WriteTransaction<'_>, arn: &str) -> Result<(), ApiError> {
    change.transaction.execute("DELETE FROM tags WHERE arn = ?", [arn])?;
    Ok(())
}

fn check_exists(connection: &rusqlite::Connection, arn: &str) -> Result<(), ApiError> {
    let missing =
        || ApiError::ResourceNotFound(format!("There is no database or table {arn} here."));
    let name = arn.split_once(":database/").map(|(_, name)| name).ok_or_else(missing)?;
    let (database, table) = match name.split_once("/table/") {
        Some((database, table)) => (database, Some(table)),
        None => (name, None),
    };
    let sql = "SELECT 1 FROM databases LEFT JOIN tables ON tables.database = databases.name
               WHERE databases.name = ?1 AND (?2 IS NULL OR tables.name = ?2) LIMIT 1";
    let found: Option<i64> =
        connection.query_row(sql, (database, table), |row| row.get(0)).optional()?;
    found.map(|_| ()).ok_or_else(missing)
}
