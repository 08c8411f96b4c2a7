//! From the SQL of Timestream to that of SQLite.
//!
//! A query is parsed, checked and typed, and then written anew: nothing of its text reaches SQLite but names that the
//! catalogue confirmed, which are replaced by our own, and literals that were read and are written again. What is
//! not known here is refused by name, so no answer is silently another one than the service's.

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

/// The API's limit, in characters of the query.
const MAX_QUERY_BYTES: usize = 262_144;
/// Words, literals and signs of a query. The syntax tree of a chain (`a + b + c …`) is as deep as it is long, and this
/// bounds what it takes of the stack.
const MAX_TOKENS: usize = 20_000;
/// How deep parentheses, CASE and subqueries may nest.
const MAX_DEPTH: usize = 100;
/// Bytes of stack that a query within these limits needs at most, in a debug build, with room to spare.
pub(crate) const STACK_BYTES: usize = 64 << 20;

/// Where the translation looks up tables.
pub(crate) trait Catalog {
    /// The table, or the refusal that says which of the two there is not.
    fn table(&self, database: &str, table: &str) -> Result<Source, TranslationError>;
}

/// A table of the catalogue as a query sees it.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Its name in SQLite.
    pub(crate) sql_name: String,
    /// In the order of `SELECT *`.
    pub(crate) columns: Vec<SourceColumn>,
}

/// A column of a [`Source`].
#[derive(Debug, Clone)]
pub(crate) struct SourceColumn {
    pub(crate) name: String,
    /// Its name in SQLite.
    pub(crate) sql_name: String,
    pub(crate) of: Type,
    pub(crate) nullable: bool,
}

/// A query for SQLite, and what its columns are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Translation {
    pub(crate) sql: String,
    pub(crate) columns: Vec<OutputColumn>,
}

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputColumn {
    pub(crate) name: String,
    pub(crate) of: Type,
}

/// Translates one query. `now` is what `now()` is everywhere in it, in nanoseconds since the epoch.
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
        .map_err(|error| TranslationError::new(format!("the query cannot be read: {error}")))?;
    let words = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count();
    if words > MAX_TOKENS {
        return Err(TranslationError::new(format!(
            "the query has {words} words and signs, at most {MAX_TOKENS} are taken"
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
        _ => Err(TranslationError::new("only one statement a query is supported")),
    }
}

#[cfg(test)]
mod tests;
