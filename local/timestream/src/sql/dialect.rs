//! How to read the words of the query language.

use sqlparser::dialect::Dialect;

/// Trino's words, and literals of intervals (`15m`): a word may begin with a digit. Without that
/// `time + 1h` would be read as `time + 1` under the alias `h`.
#[derive(Debug)]
pub(super) struct TimestreamDialect;

impl Dialect for TimestreamDialect {
    fn is_identifier_start(&self, character: char) -> bool {
        character.is_alphabetic() || character == '_'
    }

    fn is_identifier_part(&self, character: char) -> bool {
        character.is_alphanumeric() || character == '_'
    }

    fn is_delimited_identifier_start(&self, character: char) -> bool {
        character == '"'
    }

    fn supports_numeric_prefix(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }
}
