//! Assertions on JSON. A failure shows the request, the expected and the actual value.

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::Value;

/// Compares the answer to a request with the expected value.
///
/// # Errors
///
/// If they differ: the request and both values as indented JSON.
pub fn expect_eq(request: &str, actual: &impl Serialize, expected: &impl Serialize) -> Result<()> {
    let (actual, expected) = (serde_json::to_value(actual)?, serde_json::to_value(expected)?);
    ensure!(actual == expected, "{request}\nexpected: {expected:#}\nactual: {actual:#}");
    Ok(())
}

/// Compares fields of an answer, given as JSON pointers (RFC 6901), with the expected values.
///
/// # Errors
///
/// If a field differs: the request, the expected and the actual value, and the whole answer.
pub fn expect_fields(
    request: &str,
    answer: &Value,
    expected: impl IntoIterator<Item = (&'static str, Value)>,
) -> Result<()> {
    for (pointer, expected) in expected {
        let actual = answer.pointer(pointer).unwrap_or(&Value::Null);
        ensure!(
            *actual == expected,
            "{request}: {pointer}\nexpected: {expected}\nactual: {actual}\nin: {answer:#}"
        );
    }
    Ok(())
}

/// Compares the number of items in a list with the expected number.
///
/// # Errors
///
/// If they differ: the request, both numbers and the list as indented JSON.
pub fn expect_len(request: &str, items: &[Value], expected: usize) -> Result<()> {
    ensure!(
        items.len() == expected,
        "{request}\nexpected: {expected} items\nactual: {} items: {:#}",
        items.len(),
        Value::from(items)
    );
    Ok(())
}
