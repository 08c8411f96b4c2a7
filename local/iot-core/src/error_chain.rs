//! Errors with their causes in one line.

use std::error::Error;

/// The maximum length of a message, because some errors of the SDK contain whole responses.
const MAX_CHARS: usize = 300;

/// Returns an error with its causes, omitting causes whose text the message repeats.
pub(crate) fn error_chain(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = inner.source();
    }
    if let Some((end, _)) = message.char_indices().nth(MAX_CHARS) {
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("dispatch failure")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("connecting: {0}")]
    struct Middle(#[source] std::io::Error);

    #[test]
    fn error_chain_contains_each_cause_once() {
        let error = Outer(Middle(std::io::Error::other("refused")));
        assert_eq!(error_chain(&error), "dispatch failure: connecting: refused");
    }

    #[test]
    fn long_error_chain_is_truncated() {
        let error = std::io::Error::other("ö".repeat(1_000));
        assert_eq!(error_chain(&error).chars().count(), MAX_CHARS + 1);
    }
}
