//! Cursors and limits. A cursor is what was sealed for this very list or refused with 400, and the link to
//! the next page leads there.
//!
//! An input is a line with the path and query of a list, and the cursor that follows.

use meter_http::Request;
use meter_http::cursor::{CursorScope, InvalidCursor};
use meter_http::page::{MAX_ITEMS, Pagination};
use meter_http::testing;

const FILTERS: [&str; 3] = ["severity", "acknowledged", "q"];

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (target, cursor) = text.split_once('\n').unwrap_or((&text, ""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));

    let scope = CursorScope::new(path, [("q", query)]);
    if let Ok(position) = scope.decode(cursor) {
        assert_eq!(scope.encode(&position), cursor, "two cursors for one position");
    }
    let sealed = scope.encode(cursor);
    assert_eq!(scope.decode(&sealed).as_deref(), Ok(cursor));
    let elsewhere = CursorScope::new(path, [("q", format!("{query}x").as_str())]);
    assert_eq!(elsewhere.decode(&sealed), Err(InvalidCursor));

    leads_on(&request(path, query), cursor);
    let with_cursor =
        form_urlencoded::Serializer::new(query.to_owned()).append_pair("cursor", cursor).finish();
    let forged = request(path, &with_cursor);
    if let Some(paging) = paging(&forged)
        && let Err(problem) = paging.position::<String>()
    {
        assert_eq!((problem.status.as_u16(), problem.field.as_deref()), (400, Some("cursor")));
    }
}

fn request(path: &str, query: &str) -> Request {
    testing::raw("GET", path, query).request()
}

/// None when the request is refused, as a client's mistake and no other.
fn paging(request: &Request) -> Option<Pagination<'_>> {
    match Pagination::from_request(request, MAX_ITEMS, &FILTERS) {
        Ok(paging) => {
            assert!((1..=MAX_ITEMS).contains(&paging.limit));
            Some(paging)
        }
        Err(problem) => {
            assert_eq!(problem.status, 400);
            assert!(matches!(problem.field.as_deref(), Some("cursor" | "limit")));
            None
        }
    }
}

fn leads_on(request: &Request, position: &str) {
    let Some(paging) = paging(request) else { return };
    let Ok(link) = paging.next_link(&position) else { panic!("no link") };
    let target =
        link.to_str().ok().and_then(|l| l.strip_prefix('<')?.strip_suffix(">; rel=\"next\""));
    let Some((path, query)) = target.and_then(|target| target.split_once('?')) else {
        panic!("{link:?} is no link");
    };
    assert!(!target.is_some_and(|target| target.contains(['<', '>', ' ', '"'])), "{link:?}");
    let next = self::request(path, query);
    let Some(next) = self::paging(&next) else { panic!("{link:?} is refused") };
    assert_eq!(next.limit, paging.limit);
    assert_eq!(next.position::<String>().ok().flatten().as_deref(), Some(position));
}
