//! Encoding and decoding of items, and the limit of their size.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use meter_store::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An item: its attributes by name.
pub(super) type Item = HashMap<String, AttributeValue>;

/// The version of the item layout, in the attribute `v`. Readers reject other versions.
pub(super) const SCHEMA_VERSION: &str = "1";
pub(super) const SCHEMA_VERSION_ATTRIBUTE: &str = "v";

/// DynamoDB's limit of the size of an item, including attribute names.
const MAX_BYTES: usize = 400 * 1024;

#[derive(Debug, thiserror::Error)]
#[error("an item of {0} bytes is larger than the {MAX_BYTES} that DynamoDB accepts")]
struct TooLarge(usize);

/// Returns a text attribute.
pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// Returns a number attribute. Integers only: numbers of DynamoDB have a narrower range than
/// doubles.
pub(super) fn number(value: impl Into<i128>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

/// Encodes a value as an attribute.
pub(super) fn attribute<T: Serialize>(value: &T) -> Result<AttributeValue, StoreError> {
    serde_dynamo::aws_sdk_dynamodb_1::to_attribute_value(value)
        .map_err(|error| StoreError::invalid("encoding of an attribute", error))
}

/// Encodes a value as an item with the schema version.
///
/// # Errors
/// [`StoreError::Invalid`] if the item exceeds the size limit.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Item, StoreError> {
    let mut item: Item = serde_dynamo::aws_sdk_dynamodb_1::to_item(value)
        .map_err(|error| StoreError::invalid("encoding of an item", error))?;
    item.insert(SCHEMA_VERSION_ATTRIBUTE.to_owned(), AttributeValue::N(SCHEMA_VERSION.to_owned()));
    match size(&item) {
        bytes if bytes > MAX_BYTES => {
            Err(StoreError::invalid("encoding of an item", TooLarge(bytes)))
        }
        _ => Ok(item),
    }
}

/// Decodes an item of the current schema version.
pub(super) fn decode<T: DeserializeOwned>(item: Item) -> Result<T, StoreError> {
    let what = || format!("item {}", describe_key(&item));
    match item.get(SCHEMA_VERSION_ATTRIBUTE).map(AttributeValue::as_n) {
        Some(Ok(version)) if version == SCHEMA_VERSION => {}
        version => {
            return Err(StoreError::Corrupt {
                what: what(),
                reason: format!("schema version {version:?}, not {SCHEMA_VERSION}"),
            });
        }
    }
    let what = what();
    serde_dynamo::aws_sdk_dynamodb_1::from_item(item)
        .map_err(|error| StoreError::Corrupt { what, reason: error.to_string() })
}

/// Encodes a value as JSON text: for values of users and devices, whose numbers DynamoDB may not be
/// able to represent.
pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::invalid("encoding of an attribute", error))
}

/// Decodes JSON text of [`to_json`]; `what` names the item in errors.
pub(super) fn from_json<T: DeserializeOwned>(what: &str, json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json)
        .map_err(|error| StoreError::Corrupt { what: what.to_owned(), reason: error.to_string() })
}

/// Returns the key of an item for an error message.
fn describe_key(item: &Item) -> String {
    let keys = ["pk", "sk", "device_id", "alert_id", "cmd_id", "rule_id"];
    let texts = keys.iter().filter_map(|key| item.get(*key)?.as_s().ok());
    texts.cloned().collect::<Vec<_>>().join(" ")
}

/// Returns the size of an item in bytes, never less than DynamoDB counts.
pub(super) fn size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + size_of_value(value)).sum()
}

fn size_of_value(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        // DynamoDB counts a byte for two digits and one more.
        AttributeValue::N(digits) => digits.len() + 1,
        AttributeValue::L(values) => 3 + values.iter().map(|v| 1 + size_of_value(v)).sum::<usize>(),
        AttributeValue::M(item) => 3 + item.len() + size(item),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Thing {
        pk: String,
        body: String,
    }

    fn thing(bytes: usize) -> Thing {
        Thing { pk: "k".to_owned(), body: "x".repeat(bytes) }
    }

    #[test]
    fn item_above_the_size_limit_is_invalid() {
        assert!(encode(&thing(MAX_BYTES - 20)).is_ok());
        let error = encode(&thing(MAX_BYTES)).unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
        let text = meter_store::error_chain(&error);
        assert!(text.contains("larger than the 409600"), "{text}");
    }

    #[test]
    fn item_of_another_schema_version_is_corrupt() {
        let mut item = encode(&thing(1)).unwrap();
        assert_eq!(decode::<Thing>(item.clone()).unwrap(), thing(1));
        item.insert(SCHEMA_VERSION_ATTRIBUTE.to_owned(), number(2));
        assert!(matches!(decode::<Thing>(item.clone()), Err(StoreError::Corrupt { .. })));
        item.remove(SCHEMA_VERSION_ATTRIBUTE);
        assert!(decode::<Thing>(item).is_err());
    }
}
