//! Batches that are executed in part, as by DynamoDB under throttling: every other entry, starting
//! with the first, is unprocessed and does not reach the endpoint.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::call::{Call, Service};
use crate::message::{Request, Response};

/// Returns whether a call is a batch with entries that can remain unprocessed.
pub(crate) fn is_batch(call: &Call) -> bool {
    let batches = ["BatchWriteItem", "BatchGetItem", "BatchExecuteStatement"];
    call.service == Service::DynamoDb && batches.contains(&call.operation.as_str())
}

/// A batch that was split.
pub(crate) struct SplitBatch {
    /// The request with the remaining entries, if there are any.
    pub(crate) request: Option<Request>,
    unprocessed: Unprocessed,
}

/// The unprocessed entries, in the form of the response.
enum Unprocessed {
    /// `UnprocessedItems` or `UnprocessedKeys`, by table.
    Entries(&'static str, Map<String, Value>),
    /// The number of statements of the batch, every other of which fails.
    Statements(usize),
}

/// Splits a batch; returns `None` if its body is not a batch.
pub(crate) fn split(call: &Call, request: Request) -> Option<SplitBatch> {
    let body: Value = serde_json::from_slice(&request.body).ok()?;
    let (passed, left) = match call.operation.as_str() {
        "BatchExecuteStatement" => split_statements(body)?,
        "BatchGetItem" => split_tables(body, "UnprocessedKeys", Some("Keys"))?,
        _ => split_tables(body, "UnprocessedItems", None)?,
    };
    Some(SplitBatch { request: passed.map(|body| request.with_json(&body)), unprocessed: left })
}

fn split_statements(mut body: Value) -> Option<(Option<Value>, Unprocessed)> {
    let statements = body.get_mut("Statements")?.as_array_mut()?;
    let left = Unprocessed::Statements(statements.len());
    let (_, passed) = split_alternating(std::mem::take(statements));
    *statements = passed;
    let is_empty = statements.is_empty();
    Some(((!is_empty).then_some(body), left))
}

/// Splits the entries of each table. `list` is the field with the entries, if the value is not the
/// list.
fn split_tables(
    mut body: Value,
    name: &'static str,
    list: Option<&str>,
) -> Option<(Option<Value>, Unprocessed)> {
    let tables = body.get_mut("RequestItems")?.as_object_mut()?;
    let mut left = Map::new();
    let mut passed_on = Map::new();
    for (table, value) in std::mem::take(tables) {
        let entries = match list {
            Some(list) => value.get(list)?,
            None => &value,
        };
        let (left_of, passed) = split_alternating(entries.as_array()?.clone());
        let with = |entries: Vec<Value>| match list {
            Some(list) => {
                let mut value = value.clone();
                value[list] = entries.into();
                value
            }
            None => entries.into(),
        };
        if !passed.is_empty() {
            passed_on.insert(table.clone(), with(passed));
        }
        left.insert(table, with(left_of));
    }
    *tables = passed_on;
    let is_empty = tables.is_empty();
    Some(((!is_empty).then_some(body), Unprocessed::Entries(name, left)))
}

/// Returns the entries at even indexes and those at odd indexes.
fn split_alternating(entries: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
    let (first, second): (Vec<_>, Vec<_>) =
        entries.into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
    let plain =
        |entries: Vec<(usize, Value)>| entries.into_iter().map(|(_, entry)| entry).collect();
    (plain(first), plain(second))
}

impl SplitBatch {
    /// Returns the response to the whole batch: that of the endpoint, if it was called, with the
    /// unprocessed entries.
    pub(crate) fn response(self, forwarded: Option<Response>) -> Response {
        let forwarded = forwarded.unwrap_or_else(|| Response::json(StatusCode::OK, &json!({})));
        // An error of the endpoint is the response to the whole batch.
        let Ok(mut body) = serde_json::from_slice::<Value>(&forwarded.body) else {
            return forwarded;
        };
        if !forwarded.status.is_success() || !body.is_object() {
            return forwarded;
        }
        match self.unprocessed {
            Unprocessed::Entries(name, left) => body[name] = left.into(),
            Unprocessed::Statements(count) => {
                let responses = body["Responses"].as_array().cloned().unwrap_or_default();
                let mut responses = responses.into_iter();
                let failed =
                    json!({"Error": {"Code": "ThrottlingError", "Message": "injected fault"}});
                let all = (0..count).map(|index| match index % 2 {
                    0 => failed.clone(),
                    _ => responses.next().unwrap_or_else(|| failed.clone()),
                });
                body["Responses"] = all.collect();
            }
        }
        forwarded.with_json(&body)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, Uri};

    use super::*;

    fn divided(operation: &str, body: &Value) -> SplitBatch {
        let request = Request {
            method: Method::POST,
            uri: Uri::from_static("/"),
            headers: HeaderMap::new(),
            body: body.to_string().into(),
        };
        split(&Call::new(Service::DynamoDb, operation), request).unwrap()
    }

    fn json_of(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    fn forwarded(body: &Value) -> Option<Response> {
        Some(Response::json(StatusCode::OK, body))
    }

    #[test]
    fn unprocessed_items_are_returned_and_not_forwarded() {
        let divided =
            divided("BatchWriteItem", &json!({"RequestItems": {"a": [1, 2, 3], "b": [4]}}));
        let request = divided.request.clone().unwrap();
        assert_eq!(json_of(&request.body), json!({"RequestItems": {"a": [2]}}));
        let response = divided.response(forwarded(&json!({"UnprocessedItems": {}})));
        assert_eq!(json_of(&response.body), json!({"UnprocessedItems": {"a": [1, 3], "b": [4]}}));
    }

    #[test]
    fn single_item_is_unprocessed_and_nothing_is_forwarded() {
        let divided = divided("BatchWriteItem", &json!({"RequestItems": {"a": [1]}}));
        assert!(divided.request.is_none());
        assert_eq!(json_of(&divided.response(None).body), json!({"UnprocessedItems": {"a": [1]}}));
    }

    #[test]
    fn unprocessed_keys_keep_the_options_of_the_read() {
        let keys = |keys: &[i32]| json!({"t": {"Keys": keys, "ConsistentRead": true}});
        let divided = divided("BatchGetItem", &json!({"RequestItems": keys(&[1, 2])}));
        let request = divided.request.clone().unwrap();
        assert_eq!(json_of(&request.body), json!({"RequestItems": keys(&[2])}));
        let response = divided.response(forwarded(&json!({"Responses": {"t": ["second"]}})));
        let expected = json!({"Responses": {"t": ["second"]}, "UnprocessedKeys": keys(&[1])});
        assert_eq!(json_of(&response.body), expected);
    }

    #[test]
    fn every_other_statement_fails_and_the_rest_keep_their_responses() {
        let divided =
            divided("BatchExecuteStatement", &json!({"Statements": ["a", "b", "c", "d"]}));
        let request = divided.request.clone().unwrap();
        assert_eq!(json_of(&request.body), json!({"Statements": ["b", "d"]}));
        let response = divided.response(forwarded(&json!({"Responses": ["of b", "of d"]})));
        let responses = &json_of(&response.body)["Responses"];
        assert_eq!(responses[0]["Error"]["Code"], "ThrottlingError");
        assert_eq!((&responses[1], &responses[3]), (&json!("of b"), &json!("of d")));
        assert_eq!(responses.as_array().unwrap().len(), 4);
    }

    #[test]
    fn error_of_the_endpoint_is_returned_unchanged() {
        let divided = divided("BatchWriteItem", &json!({"RequestItems": {"a": [1, 2]}}));
        let refusal = Response::json(StatusCode::BAD_REQUEST, &json!({"__type": "x"}));
        let response = divided.response(Some(refusal));
        assert_eq!(
            (response.status, json_of(&response.body)),
            (StatusCode::BAD_REQUEST, json!({"__type": "x"}))
        );
    }
}
