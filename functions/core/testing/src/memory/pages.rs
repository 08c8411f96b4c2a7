//! Pages under a read budget.

use meter_store::{Page, PageRequest};

/// Returns the rows that pass `keep`, until the page is full or the budget is used up.
///
/// `rows` begin after the position of the request; `position` returns the position of a row.
pub(super) fn page<'a, R: 'a, T>(
    rows: impl Iterator<Item = &'a R>,
    request: &PageRequest,
    budget: usize,
    keep: impl Fn(&R) -> Option<T>,
    position: impl Fn(&R) -> String,
) -> Page<T> {
    let mut items = Vec::new();
    let mut last = None;
    for (examined, row) in rows.enumerate() {
        if items.len() >= request.limit || examined >= budget {
            // At least this row remains.
            return Page { items, next: last };
        }
        last = Some(position(row));
        items.extend(keep(row));
    }
    Page { items, next: None }
}
