//! Batches that are done in part, as DynamoDB does them when it is throttling: every other entry, the
//! first one included, is left over and never reaches the endpoint.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::call::{Call, Service};
use crate::message::{Request, Response};

/// Whether a call is a batch whose entries can be left over.
pub(crate) fn is_batch(call: &Call) -> bool {
    let batches = ["BatchWriteItem", "BatchGetItem", "BatchExecuteStatement"];
    call.service == Service::DynamoDb && batches.contains(&call.operation.as_str())
}

/// A batch that was divided.
pub(crate) struct SplitBatch {
    /// What is passed on; nothing, if nothing is left of it.
    pub(crate) request: Option<Request>,
    unprocessed: Unprocessed,
}

/// What is left over, in the form that the answer names it.
enum Unprocessed {
    /// `UnprocessedItems` or `UnprocessedKeys`, by table.
    Entries(&'static str, Map<String, Value>),
    /// How many statements the batch has, of which every other one fails.
    Statements(usize),
}

/// Divides a batch. None when its body is no batch.
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

/// `list` is where a table's entries are, if the table's value is not the list itself.
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

/// The first, third, fifth… and the others.
fn split_alternating(entries: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
    let (first, second): (Vec<_>, Vec<_>) =
        entries.into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
    let plain =
        |entries: Vec<(usize, Value)>| entries.into_iter().map(|(_, entry)| entry).collect();
    (plain(first), plain(second))
}

impl SplitBatch {
    /// The answer to the whole batch: the endpoint's answer to what was passed on, if anything was, and
    /// what was left over.
    pub(crate) fn response(self, answered: Option<Response>) -> Response {
        let answered = answered.unwrap_or_else(|| Response::json(StatusCode::OK, &json!({})));
        // A refusal of the endpoint's own stands for the whole batch.
        let Ok(mut body) = serde_json::from_slice::<Value>(&answered.body) else {
            return answered;
        };
        if !answered.status.is_success() || !body.is_object() {
            return answered;
        }
        match self.unprocessed {
            Unprocessed::Entries(name, left) => body[name] = left.into(),
            Unprocessed::Statements(count) => {
                let responses = body["Responses"].as_array().cloned().unwrap_or_default();
                let mut responses = responses.into_iter();
                let failed = json!({"Error": {"Code": "ThrottlingError", "Message": "left over"}});
                let all = (0..count).map(|index| match index % 2 {
                    0 => failed.clone(),
                    _ => responses.next().unwrap_or_else(|| failed.clone()),
                });
                body["Responses"] = all.collect();
            }
        }
        answered.with_json(&body)
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

    fn answered(body: &Value) -> Option<Response> {
        Some(Response::json(StatusCode::OK, body))
    }

    #[test]
    fn items_that_are_left_over_are_named_and_not_passed_on() {
        let divided =
            divided("BatchWriteItem", &json!({"RequestItems": {"a": [1, 2, 3], "b": [4]}}));
        let request = divided.request.clone().unwrap();
        assert_eq!(json_of(&request.body), json!({"RequestItems": {"a": [2]}}));
        let answer = divided.response(answered(&json!({"UnprocessedItems": {}})));
        assert_eq!(json_of(&answer.body), json!({"UnprocessedItems": {"a": [1, 3], "b": [4]}}));
    }

    #[test]
    fn a_single_item_is_left_over_and_nothing_is_passed_on() {
        let divided = divided("BatchWriteItem", &json!({"RequestItems": {"a": [1]}}));
        assert!(divided.request.is_none());
        assert_eq!(json_of(&divided.response(None).body), json!({"UnprocessedItems": {"a": [1]}}));
    }

    #[test]
    fn keys_that_are_left_unread_keep_how_they_are_to_be_read() {
        let keys = |keys: &[i32]| json!({"t": {"Keys": keys, "ConsistentRead": true}});
        let divided = divided("BatchGetItem", &json!({"RequestItems": keys(&[1, 2])}));
        let request = divided.request.clone().unwrap();
        assert_eq!(json_of(&request.body), json!({"RequestItems": keys(&[2])}));
        let answer = divided.response(answered(&json!({"Responses": {"t": ["second"]}})));
        let expected = json!({"Responses": {"t": ["second"]}, "UnprocessedKeys": keys(&[1])});
        assert_eq!(json_of(&answer.body), expected);
    }

    #[test]
    fn statements_fail_one_by_one_and_the_others_keep_their_answers() {
        let divided =
            divided("BatchExecuteStatement", &json!({"Statements": ["a", "b", "c", "d"]}));
        let request = divided.request.clone().unwrap();
        assert_eq!(json_of(&request.body), json!({"Statements": ["b", "d"]}));
        let answer = divided.response(answered(&json!({"Responses": ["of b", "of d"]})));
        let responses = &json_of(&answer.body)["Responses"];
        assert_eq!(responses[0]["Error"]["Code"], "ThrottlingError");
        assert_eq!((&responses[1], &responses[3]), (&json!("of b"), &json!("of d")));
        assert_eq!(responses.as_array().unwrap().len(), 4);
    }

    #[test]
    fn a_refusal_of_the_endpoint_stays_one() {
        let divided = divided("BatchWriteItem", &json!({"RequestItems": {"a": [1, 2]}}));
        let refusal = Response::json(StatusCode::BAD_REQUEST, &json!({"__type": "x"}));
        let answer = divided.response(Some(refusal));
        assert_eq!(
            (answer.status, json_of(&answer.body)),
            (StatusCode::BAD_REQUEST, json!({"__type": "x"}))
        );
    }
}
