//! Items: encoding, decoding, and the limit on their size.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use meter_store::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An item as the SDK has it.
pub(super) type Item = HashMap<String, AttributeValue>;

/// The version of the layout of every item, in its attribute `v`. A reader refuses what is newer.
pub(super) const SCHEMA_VERSION: &str = "1";
pub(super) const SCHEMA_VERSION_ATTRIBUTE: &str = "v";

/// DynamoDB's limit on an item, names of attributes included.
const MAX_BYTES: usize = 400 * 1024;

/// An item that no retry will make smaller.
#[derive(Debug, thiserror::Error)]
#[error("an item of {0} bytes is larger than the {MAX_BYTES} that DynamoDB takes")]
struct TooLarge(usize);

/// A text attribute.
pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number attribute. Only for integers: DynamoDB's numbers have 38 digits and a narrower range than
/// a double.
pub(super) fn number(value: impl Into<i128>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

/// The attribute that a value is in an item.
pub(super) fn attribute<T: Serialize>(value: &T) -> Result<AttributeValue, StoreError> {
    serde_dynamo::aws_sdk_dynamodb_1::to_attribute_value(value)
        .map_err(|error| StoreError::invalid("encoding of an attribute", error))
}

/// An item of a value, checked against the size limit, with the schema's version.
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

/// The value of an item, if it is of this schema.
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

/// The JSON text of a value: for what people and devices made up, whose numbers DynamoDB may not take.
pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::invalid("encoding of an attribute", error))
}

/// The reverse of [`to_json`]; `what` names the item.
pub(super) fn from_json<T: DeserializeOwned>(what: &str, json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json)
        .map_err(|error| StoreError::Corrupt { what: what.to_owned(), reason: error.to_string() })
}

/// The key of an item, for an error message.
fn describe_key(item: &Item) -> String {
    let keys = ["pk", "sk", "device_id", "alert_id", "cmd_id", "rule_id"];
    let texts = keys.iter().filter_map(|key| item.get(*key)?.as_s().ok());
    texts.cloned().collect::<Vec<_>>().join(" ")
}

/// At least what DynamoDB counts for an item, in bytes.
pub(super) fn size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + size_of_value(value)).sum()
}

fn size_of_value(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        // A byte for two digits and one more; never more than its text.
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
    fn an_item_that_dynamodb_would_refuse_is_refused_with_its_size() {
        assert!(encode(&thing(MAX_BYTES - 20)).is_ok());
        let error = encode(&thing(MAX_BYTES)).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("larger than"), "{cause}");
    }

    #[test]
    fn an_item_of_another_schema_is_not_guessed_at() {
        let mut item = encode(&thing(1)).unwrap();
        assert_eq!(decode::<Thing>(item.clone()).unwrap(), thing(1));
        item.insert(SCHEMA_VERSION_ATTRIBUTE.to_owned(), number(2));
        assert!(matches!(decode::<Thing>(item.clone()), Err(StoreError::Corrupt { .. })));
        item.remove(SCHEMA_VERSION_ATTRIBUTE);
        assert!(decode::<Thing>(item).is_err());
    }
}
