//! The translation of Timestream's SQL to that of SQLite.
//!
//! A query is parsed, checked and typed, and then written anew. Of its text only names that the
//! catalog contains, replaced by internal ones, and literals, parsed and formatted again, reach
//! SQLite. Unknown constructs are rejected by name, so that no result silently differs from that of
//! the service.

mod aggregate;
mod dialect;
mod expression;
mod from;
mod function;
mod literal;
mod operator;
mod order;
mod predicate;
mod scope;
mod select;
mod translation_error;
mod union;
mod window;

use sqlparser::{
    ast::Statement,
    parser::Parser,
    tokenizer::{Token, Tokenizer},
};

use self::{dialect::TimestreamDialect, select::Translator};
pub(crate) use self::{
    function::DOUBLE_FUNCTIONS, literal::Unit, translation_error::TranslationError,
};
use crate::value::Type;

/// The maximum length of a query in the API, in characters.
const MAX_QUERY_BYTES: usize = 262_144;
/// The maximum number of tokens of a query. The syntax tree of a chain (`a + b + c …`) is as deep
/// as the chain is long, and this limits the stack that it needs.
const MAX_TOKENS: usize = 20_000;
/// The maximum depth of parentheses, CASE and subqueries.
const MAX_DEPTH: usize = 100;
/// The stack size in bytes for a query within these limits, with a margin, in a debug build.
pub(crate) const STACK_BYTES: usize = 64 << 20;

/// The lookup of tables for the translation.
pub(crate) trait Catalog {
    /// Returns a table, or an error that names the missing database or table.
    fn table(&self, database: &str, table: &str) -> Result<Source, TranslationError>;
}

/// A table of the catalog.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The name in SQLite.
    pub(crate) sql_name: String,
    /// In the order of `SELECT *`.
    pub(crate) columns: Vec<SourceColumn>,
}

/// A column of a [`Source`].
#[derive(Debug, Clone)]
pub(crate) struct SourceColumn {
    pub(crate) name: String,
    /// The name in SQLite.
    pub(crate) sql_name: String,
    pub(crate) of: Type,
    pub(crate) nullable: bool,
}

/// A query for SQLite with its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Translation {
    pub(crate) sql: String,
    pub(crate) columns: Vec<OutputColumn>,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputColumn {
    pub(crate) name: String,
    pub(crate) of: Type,
}

/// Translates a query. `now` is the value of `now()` throughout, in nanoseconds since the epoch.
pub(crate) fn translate(
    text: &str,
    catalog: &dyn Catalog,
    now: i64,
) -> Result<Translation, TranslationError> {
    if text.len() > MAX_QUERY_BYTES {
        return Err(TranslationError::new(format!("a query has at most {MAX_QUERY_BYTES} bytes")));
    }
    let tokens = Tokenizer::new(&TimestreamDialect, text)
        .tokenize_with_location()
        .map_err(|error| TranslationError::new(format!("the query cannot be parsed: {error}")))?;
    let words = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count();
    if words > MAX_TOKENS {
        return Err(TranslationError::new(format!(
            "the query has {words} tokens, more than {MAX_TOKENS}"
        )));
    }
    let statements = Parser::new(&TimestreamDialect)
        .with_recursion_limit(MAX_DEPTH)
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(|error| TranslationError::new(format!("the query syntax is invalid: {error}")))?;
    match statements.as_slice() {
        [Statement::Query(query)] => Translator::new(catalog, now).translate(query),
        [] => Err(TranslationError::new("the query is empty")),
        [_] => Err(TranslationError::new("only SELECT, also after WITH, is supported")),
        _ => Err(TranslationError::new("only one statement in a query is supported")),
    }
}

#[cfg(test)]
mod tests;
