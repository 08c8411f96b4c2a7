//! Errors with what caused them, in one line.

use std::error::Error;

/// The messages of an error and its causes: many of the outer ones only say that there is an inner one.
pub(crate) fn with_causes(error: &dyn Error) -> String {
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
        assert_eq!(with_causes(&error), "dispatch failure: connecting: refused");
    }
}
