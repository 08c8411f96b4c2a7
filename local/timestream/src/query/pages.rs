//! A result in pages.

use std::{collections::VecDeque, sync::Arc};

use rusqlite::{Rows, Statement};
use serde::Serialize;

use super::{budget::Budget, snapshot::query_error};
use crate::{
    error::ApiError,
    sql::{OutputColumn, Translation},
    value::render,
};

/// The maximum size of a page with the JSON around its values. A larger row is an error.
const MAX_PAGE_BYTES: usize = 1 << 20;
/// `{"ScalarValue":""},`
const DATUM_BYTES: usize = 19;

/// A row in the form of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Row {
    data: Vec<Datum>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
enum Datum {
    ScalarValue(String),
    NullValue(bool),
}

/// A part of the rows of a result.
pub(super) struct Page {
    pub(super) rows: Arc<[Row]>,
    pub(super) more: bool,
    pub(super) cumulative_bytes: u64,
}

/// The remaining rows of a result.
pub(super) struct Pages<'s> {
    rows: Rows<'s>,
    columns: &'s [OutputColumn],
    budget: &'s Budget,
    /// Rows that were read and not returned.
    ahead: VecDeque<Row>,
    bytes: u64,
}

impl<'s> Pages<'s> {
    pub(super) fn new(
        statement: &'s mut Statement<'_>,
        translation: &'s Translation,
        budget: &'s Budget,
    ) -> Result<Self, ApiError> {
        let rows = statement.query([]).map_err(|error| query_error(error, budget))?;
        Ok(Self { rows, columns: &translation.columns, budget, ahead: VecDeque::new(), bytes: 0 })
    }

    /// Returns the first page. With MaxRows it is the whole result or empty: «Otherwise, the
    /// initial invocation of Query only returns a NextToken» (MaxRows in
    /// <https://docs.aws.amazon.com/timestream/latest/developerguide/API_query_Query.html>).
    pub(super) fn first(&mut self, max_rows: Option<usize>) -> Result<Page, ApiError> {
        let before = self.bytes;
        let mut rows = self.take(max_rows)?;
        let more = self.has_next()?;
        if more && max_rows.is_some() {
            rows.append(&mut self.ahead);
            self.ahead = std::mem::take(&mut rows);
            self.bytes = before;
        }
        Ok(self.page(rows, more))
    }

    /// Returns a later page.
    pub(super) fn next(&mut self, max_rows: Option<usize>) -> Result<Page, ApiError> {
        let rows = self.take(max_rows)?;
        let more = self.has_next()?;
        Ok(self.page(rows, more))
    }

    fn page(&self, rows: VecDeque<Row>, more: bool) -> Page {
        Page { rows: rows.into_iter().collect(), more, cumulative_bytes: self.bytes }
    }

    fn take(&mut self, max_rows: Option<usize>) -> Result<VecDeque<Row>, ApiError> {
        let most = max_rows.unwrap_or(usize::MAX);
        let mut taken = VecDeque::new();
        let mut bytes = 0;
        while taken.len() < most && self.has_next()? {
            bytes += self.ahead.front().map_or(0, Row::bytes);
            if bytes > MAX_PAGE_BYTES && !taken.is_empty() {
                break;
            }
            self.bytes += self.ahead.front().map_or(0, Row::bytes) as u64;
            taken.extend(self.ahead.pop_front());
        }
        Ok(taken)
    }

    /// Returns whether another row exists, which is then in `ahead`.
    fn has_next(&mut self) -> Result<bool, ApiError> {
        if !self.ahead.is_empty() {
            return Ok(true);
        }
        let Some(row) = self.rows.next().map_err(|error| query_error(error, self.budget))? else {
            return Ok(false);
        };
        let mut data = Vec::with_capacity(self.columns.len());
        for (at, column) in self.columns.iter().enumerate() {
            let text = render(row.get_ref(at)?, column.of)
                .map_err(|error| ApiError::QueryExecution(format!("{}: {error}", column.name)))?;
            data.push(text.map_or(Datum::NullValue(true), Datum::ScalarValue));
        }
        let row = Row { data };
        if row.bytes() > MAX_PAGE_BYTES {
            return Err(ApiError::QueryExecution(
                "Query aborted as max page response size has been exceeded by the output result row"
                    .to_owned(),
            ));
        }
        self.ahead.push_back(row);
        Ok(true)
    }
}

impl Row {
    fn bytes(&self) -> usize {
        let of = |datum: &Datum| match datum {
            Datum::ScalarValue(text) => text.len(),
            Datum::NullValue(_) => 0,
        };
        self.data.iter().map(|datum| DATUM_BYTES + of(datum)).sum()
    }
}
