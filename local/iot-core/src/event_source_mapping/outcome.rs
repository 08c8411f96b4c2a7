//! The records of an invocation that failed, by Lambda's rules:
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>.
//!
//! An invalid response fails the batch, because deleting unprocessed messages would lose them.

use std::collections::HashSet;

use serde::Deserialize;

/// The result of an invocation for its records.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BatchOutcome {
    /// All records succeeded, except those with these ids.
    ItemFailures(HashSet<String>),
    /// All records failed, for this reason.
    BatchFailure(String),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BatchResponse {
    batch_item_failures: Option<Vec<ItemFailure>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemFailure {
    item_identifier: Option<String>,
}

impl BatchOutcome {
    /// Parses the response to an invocation with these message ids.
    pub(super) fn from_response<'a>(
        response: &[u8],
        message_ids: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let failures = match serde_json::from_slice::<Option<BatchResponse>>(response) {
            Ok(response) => response.unwrap_or_default().batch_item_failures,
            Err(error) => {
                return Self::BatchFailure(format!("the response cannot be parsed: {error}"));
            }
        };
        let known: HashSet<&str> = message_ids.into_iter().collect();
        let mut failed = HashSet::new();
        for failure in failures.unwrap_or_default() {
            match failure.item_identifier {
                Some(id) if known.contains(id.as_str()) => failed.insert(id),
                Some(id) => {
                    return Self::BatchFailure(format!(
                        "the response reports a failure of \"{id}\", which was not in the batch"
                    ));
                }
                None => {
                    return Self::BatchFailure(
                        "the response reports a failure without itemIdentifier".to_owned(),
                    );
                }
            };
        }
        Self::ItemFailures(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(response: &str) -> BatchOutcome {
        BatchOutcome::from_response(response.as_bytes(), ["a", "b", "c"])
    }

    #[test]
    fn response_without_failures_is_a_success() {
        for response in [
            "null",
            "{}",
            r#"{"batchItemFailures":null}"#,
            r#"{"batchItemFailures":[]}"#,
            r#"{"processed":3}"#,
        ] {
            assert_eq!(outcome(response), BatchOutcome::ItemFailures(HashSet::new()), "{response}");
        }
    }

    #[test]
    fn only_reported_records_failed() {
        assert_eq!(
            outcome(r#"{"batchItemFailures":[{"itemIdentifier":"c"},{"itemIdentifier":"a"}]}"#),
            BatchOutcome::ItemFailures(HashSet::from(["a".to_owned(), "c".to_owned()]))
        );
    }

    #[test]
    fn invalid_response_fails_the_batch() {
        for response in [
            "",
            "ok",
            "[]x",
            r#""ok""#,
            r#"{"batchItemFailures":["a"]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"id":"a"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"unknown"}]}"#,
        ] {
            assert!(matches!(outcome(response), BatchOutcome::BatchFailure(_)), "{response}");
        }
    }
}
