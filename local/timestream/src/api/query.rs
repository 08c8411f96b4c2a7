//! Query, CancelQuery, and PrepareQuery, which is not supported.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiResult, Service};
use crate::{error::ApiError, query::PageReply};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Query {
    query_string: String,
    #[serde(default)]
    next_token: Option<String>,
    #[serde(default)]
    max_rows: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Cancel {
    query_id: String,
}

pub(super) async fn query(service: &Service, request: Query) -> ApiResult {
    const MAX_ROWS: usize = 1_000;
    let max_rows = match request.max_rows {
        None => None,
        Some(requested) => {
            let rows = usize::try_from(requested).ok().filter(|rows| (1..=MAX_ROWS).contains(rows));
            let rows =
                rows.ok_or_else(|| ApiError::Validation(format!("MaxRows is 1 to {MAX_ROWS}.")))?;
            Some(rows)
        }
    };
    let reply = match request.next_token {
        Some(token) => service.queries.resume(&token, &request.query_string, max_rows).await?,
        None => service.queries.start(request.query_string, max_rows).await?,
    };
    Ok(page_json(&reply))
}

fn page_json(reply: &PageReply) -> Value {
    let columns: Vec<Value> = reply
        .columns
        .iter()
        .map(|column| json!({ "Name": column.name, "Type": { "ScalarType": column.of } }))
        .collect();
    let mut result = json!({
        "QueryId": reply.query_id,
        "ColumnInfo": columns,
        "Rows": reply.rows.as_ref(),
        // The size of the result, because the amount that SQLite read is unknown.
        "QueryStatus": {
            "ProgressPercentage": 100.0,
            "CumulativeBytesScanned": reply.bytes,
            "CumulativeBytesMetered": 0,
        },
    });
    if let Some(token) = &reply.next_token {
        result["NextToken"] = json!(token);
    }
    result
}

pub(super) fn cancel(service: &Service, request: Cancel) -> ApiResult {
    let message = if service.queries.cancel(&request.query_id) {
        "The query has been cancelled."
    } else {
        "The query has ended or been cancelled already."
    };
    Ok(json!({ "CancellationMessage": message }))
}

pub(super) fn prepare() -> ApiResult {
    Err(ApiError::Validation(
        "PrepareQuery and parameters are not supported: include the values in the query."
            .to_owned(),
    ))
}
