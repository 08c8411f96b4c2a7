//! The lexical rules of the query language.

use sqlparser::dialect::Dialect;

/// The keywords of Trino, and literals of intervals (`15m`): a word may start with a digit.
/// Otherwise `time + 1h` would be parsed as `time + 1` with the alias `h`.
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
