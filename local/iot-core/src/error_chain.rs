//! Errors with what caused them, in one line.

use std::error::Error;

/// The SDK puts whole responses into the messages of some errors; this much of them is enough.
const MAX_CHARS: usize = 300;

/// The messages of an error and its causes: many of the outer ones only say that there is an inner one.
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
    fn every_cause_is_told_and_none_twice() {
        let error = Outer(Middle(std::io::Error::other("refused")));
        assert_eq!(error_chain(&error), "dispatch failure: connecting: refused");
    }

    #[test]
    fn a_long_story_is_cut() {
        let error = std::io::Error::other("ö".repeat(1_000));
        assert_eq!(error_chain(&error).chars().count(), MAX_CHARS + 1);
    }
}
