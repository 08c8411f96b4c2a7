//! Cursors and limits. A cursor is valid for its own list or refused with 400, and the link to the
//! next page leads there.
//!
//! An input is a line with the path and query of a list, and the cursor that follows.

use meter_domain::time::Timestamp;
use meter_http::cursor::{CursorScope, InvalidCursor};
use meter_http::fields::{Fields, FromFields};
use meter_http::page::{Filter, MAX_ITEMS, Pagination};
use meter_http::{Problem, testing};

/// The filters of a list of alerts.
struct Alerts;

impl FromFields for Alerts {
    fn from_fields(_: &Fields<'_>, _: Timestamp) -> Result<Self, Problem> {
        Ok(Self)
    }
}

impl Filter for Alerts {
    const NAMES: &'static [&'static str] = &["severity", "acknowledged", "q"];
}

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (target, cursor) = text.split_once('\n').unwrap_or((&text, ""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));

    let scope = CursorScope::new(path, [("q", query)]);
    if let Ok(position) = scope.decode(cursor) {
        assert_eq!(scope.encode(&position), cursor, "two cursors for one position");
    }
    let encoded = scope.encode(cursor);
    assert_eq!(scope.decode(&encoded).as_deref(), Ok(cursor));
    let elsewhere = CursorScope::new(path, [("q", format!("{query}x").as_str())]);
    assert_eq!(elsewhere.decode(&encoded), Err(InvalidCursor));

    leads_on(path, query, cursor);
    let with_cursor =
        form_urlencoded::Serializer::new(query.to_owned()).append_pair("cursor", cursor).finish();
    if let Some(paging) = paging(path, &with_cursor)
        && let Err(problem) = paging.position::<String>()
    {
        assert_eq!((problem.status.as_u16(), problem.field.as_deref()), (400, Some("cursor")));
    }
}

/// None when the request is refused, as a client error and no other.
fn paging(path: &str, query: &str) -> Option<Pagination<Alerts>> {
    let paging = testing::raw("GET", path, query)
        .parts()
        .map_err(|problem| assert!(matches!(problem.status.as_u16(), 400 | 404)))
        .ok()
        .map(|parts| Pagination::from_uri(&parts.uri, Timestamp::EPOCH))?;
    match paging {
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

fn leads_on(path: &str, query: &str, position: &str) {
    let Some(paging) = paging(path, query) else { return };
    let Ok(Some([(_, link)])) = paging.next_link(Some(&position)) else { panic!("no link") };
    let target =
        link.to_str().ok().and_then(|l| l.strip_prefix('<')?.strip_suffix(">; rel=\"next\""));
    let Some((path, query)) = target.and_then(|target| target.split_once('?')) else {
        panic!("{link:?} is no link");
    };
    assert!(!target.is_some_and(|target| target.contains(['<', '>', ' ', '"'])), "{link:?}");
    let Some(next) = self::paging(path, query) else { panic!("{link:?} is refused") };
    assert_eq!(next.limit, paging.limit);
    assert_eq!(next.position::<String>().ok().flatten().as_deref(), Some(position));
}
