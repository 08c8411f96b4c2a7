//! Which records of an invocation the function has failed on.
//!
//! Lambda's rules: <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>. An
//! answer that cannot be understood fails the batch, since deleting a message that was not worked on
//! would lose it.

use std::collections::HashSet;

use serde::Deserialize;

/// What the function's answer means for its records.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BatchOutcome {
    /// All but these ids are done.
    ItemFailures(HashSet<String>),
    /// None is done, for this reason.
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
    /// Reads an answer to an invocation with these message ids.
    pub(super) fn from_response<'a>(
        answer: &[u8],
        message_ids: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let failures = match serde_json::from_slice::<Option<BatchResponse>>(answer) {
            Ok(answer) => answer.unwrap_or_default().batch_item_failures,
            Err(error) => return Self::BatchFailure(format!("its answer cannot be read: {error}")),
        };
        let known: HashSet<&str> = message_ids.into_iter().collect();
        let mut failed = HashSet::new();
        for failure in failures.unwrap_or_default() {
            match failure.item_identifier {
                Some(id) if known.contains(id.as_str()) => failed.insert(id),
                Some(id) => {
                    return Self::BatchFailure(format!(
                        "it reports a failure of \"{id}\", which was not in the batch"
                    ));
                }
                None => {
                    return Self::BatchFailure(
                        "it reports a failure without itemIdentifier".to_owned(),
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

    fn outcome(answer: &str) -> BatchOutcome {
        BatchOutcome::from_response(answer.as_bytes(), ["a", "b", "c"])
    }

    #[test]
    fn no_failures_in_any_form_is_success() {
        for answer in [
            "null",
            "{}",
            r#"{"batchItemFailures":null}"#,
            r#"{"batchItemFailures":[]}"#,
            r#"{"processed":3}"#,
        ] {
            assert_eq!(outcome(answer), BatchOutcome::ItemFailures(HashSet::new()), "{answer}");
        }
    }

    #[test]
    fn reported_records_failed_and_the_others_did_not() {
        assert_eq!(
            outcome(r#"{"batchItemFailures":[{"itemIdentifier":"c"},{"itemIdentifier":"a"}]}"#),
            BatchOutcome::ItemFailures(HashSet::from(["a".to_owned(), "c".to_owned()]))
        );
    }

    #[test]
    fn an_answer_that_cannot_be_understood_fails_the_batch() {
        for answer in [
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
            assert!(matches!(outcome(answer), BatchOutcome::BatchFailure(_)), "{answer}");
        }
    }
}
