//! Pages under a read budget, cut as the real stores cut them.

use meter_store::{Page, PageRequest};

/// Takes from `rows`, which begin after the page's position, what passes `keep`, until the page is full
/// or the budget is used up. `position` says where a row stands.
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
            // There is at least this row more.
            return Page { items, next: last };
        }
        last = Some(position(row));
        items.extend(keep(row));
    }
    Page { items, next: None }
}
