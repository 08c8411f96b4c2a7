//! Pages: how much of a list a request gets, and the link to the rest (docs/api.md, RFC 8288).

use std::future::Future;

use ::http::{HeaderValue, StatusCode, header};
use meter_store::{Page, PageRequest};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cursor::{CursorScope, InvalidCursor};
use super::problem::{ApiError, Problem};
use super::request::Request;
use super::response::Response;
use super::response_limit::BoundedText;

/// The most items of a list in one answer, and what a client gets that names no limit.
pub const MAX_ITEMS: usize = 1_000;

/// What may not stand in the path of a link as it is. `%` may: it begins an escape that the client sent.
const LINK_PATH_ENCODE_SET: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// Which page of which list a request asks for.
#[derive(Debug)]
pub struct Pagination<'r> {
    request: &'r Request,
    scope: CursorScope,
    position: Option<String>,
    /// Items to answer at most, from 1 to the list's maximum.
    pub limit: usize,
}

impl<'r> Pagination<'r> {
    /// Reads `limit` and `cursor`. `filters` names the parameters that decide what is in the list:
    /// a cursor is worth nothing with other values of them.
    pub fn from_request(
        request: &'r Request,
        max: usize,
        filters: &[&str],
    ) -> Result<Self, Problem> {
        let given = filters.iter().filter_map(|name| Some((*name, request.query.get(name)?)));
        // Escapes do not matter: `a%3Ab` and `a:b` are one device.
        let path = percent_encoding::percent_decode_str(&request.path).decode_utf8_lossy();
        let scope = CursorScope::new(&path, given);
        let position = request
            .query
            .get("cursor")
            .map(|cursor| scope.decode(cursor))
            .transpose()
            .map_err(invalid_cursor)?;
        Ok(Self { request, scope, position, limit: limit(request, max)? })
    }

    /// Where the page begins; none for the first one.
    pub fn position<P: DeserializeOwned>(&self) -> Result<Option<P>, Problem> {
        let read = |text| serde_json::from_str(text).map_err(|_| invalid_cursor(InvalidCursor));
        self.position.as_deref().map(read).transpose()
    }

    /// The value of a `Link` header to the page after a position.
    pub fn next_link(&self, position: &impl Serialize) -> Result<HeaderValue, ApiError> {
        let internal = |error| ApiError::Internal(Box::new(error));
        let position = serde_json::to_string(position).map_err(internal)?;
        let others = self.request.query.iter().filter(|(k, _)| *k != "cursor");
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(others)
            .append_pair("cursor", &self.scope.encode(&position))
            .finish();
        let path = utf8_percent_encode(&self.request.raw_path, LINK_PATH_ENCODE_SET);
        HeaderValue::try_from(format!("<{path}?{query}>; rel=\"next\""))
            .map_err(|error| ApiError::Internal(Box::new(error)))
    }
}

/// From 1 to `max`; more is clamped, since a client cannot know the maximum of a later version.
fn limit(request: &Request, max: usize) -> Result<usize, Problem> {
    let Some(text) = request.query.get("limit") else {
        return Ok(max);
    };
    let wrong = || Problem::field("limit", "must be an integer of at least 1");
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    // Only digits and still no number: larger than any maximum.
    match text.parse().unwrap_or(usize::MAX) {
        0 => Err(wrong()),
        number => Ok(number.min(max)),
    }
}

fn invalid_cursor(bad: InvalidCursor) -> Problem {
    Problem::field("cursor", bad.to_string())
}

/// Answers a page of a store's list as a JSON array. `read` asks the store and shows each item as it is
/// answered; when their text is more than an answer holds, it is asked again for fewer, since only the
/// store can say where a shorter page ends.
pub async fn list<T, F, R>(paging: &Pagination<'_>, read: F) -> Result<Response, ApiError>
where
    T: Serialize,
    F: Fn(PageRequest) -> R,
    R: Future<Output = Result<Page<T>, ApiError>>,
{
    let after: Option<String> = paging.position()?;
    let mut limit = paging.limit;
    loop {
        let page = read(PageRequest { limit, after: after.clone() }).await?;
        let array = JsonArray::fit(&page.items, paging.request.max_response_bytes)?;
        if array.len < page.items.len() {
            // At least one fits, so this ends.
            limit = (limit * array.len / page.items.len()).max(1);
            continue;
        }
        let response = Response::json_text(StatusCode::OK, array.into_text());
        return match page.next {
            None => Ok(response),
            Some(next) => Ok(response.with_header(header::LINK, paging.next_link(&next)?)),
        };
    }
}

/// A JSON array of as many items as an answer holds.
#[derive(Debug)]
pub struct JsonArray {
    items: BoundedText,
    /// How many items are in it.
    pub len: usize,
}

impl JsonArray {
    /// The array of the first items that fit into `max_bytes`, escaped.
    pub fn fit<T: Serialize>(items: &[T], max_bytes: usize) -> Result<Self, ApiError> {
        let mut array = Self { items: BoundedText::new(max_bytes), len: 0 };
        for item in items {
            let json =
                serde_json::to_string(item).map_err(|error| ApiError::Internal(Box::new(error)))?;
            let piece = if array.len == 0 { json } else { format!(",{json}") };
            if !array.items.push(&piece) {
                break;
            }
            array.len += 1;
        }
        Ok(array)
    }

    /// The JSON.
    pub fn into_text(self) -> String {
        format!("[{}]", self.items.into_text())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing;

    fn cursor_of(link: &HeaderValue) -> String {
        let link = link.to_str().unwrap();
        let cursor = link.split_once("cursor=").unwrap().1;
        cursor.split_once('>').unwrap().0.to_owned()
    }

    #[test]
    fn a_limit_is_at_least_one_and_clamped_to_the_maximum() {
        let limit = |query: &str| {
            let request = testing::get(&format!("/x?{query}")).request();
            Pagination::from_request(&request, 1_000, &[]).map(|paging| paging.limit)
        };
        for (query, wanted) in [
            ("", 1_000),
            ("limit=", 1_000),
            ("limit=1", 1),
            ("limit=0007", 7),
            ("limit=1000", 1_000),
            ("limit=1001", 1_000),
            ("limit=99999999999999999999999", 1_000),
        ] {
            assert_eq!(limit(query), Ok(wanted), "{query}");
        }
        for query in ["limit=0", "limit=-1", "limit=%2B1", "limit=1.5", "limit=ten", "limit=%201"] {
            assert_eq!(limit(query).unwrap_err().field.as_deref(), Some("limit"), "{query}");
        }
    }

    #[test]
    fn the_next_link_keeps_the_request_s_own_query_and_path() {
        let request =
            testing::get("/dev/api/devices/a%3Ab/alerts?severity=info&limit=2&_=1&cursor=")
                .stage("dev")
                .request();
        let paging = Pagination::from_request(&request, 1_000, &["severity"]).unwrap();
        let link = paging.next_link(&json!("p")).unwrap();
        assert_eq!(
            link.to_str().unwrap(),
            format!(
                "</dev/api/devices/a%3Ab/alerts?severity=info&limit=2&_=1&cursor={}>; rel=\"next\"",
                cursor_of(&link)
            )
        );
    }

    #[test]
    fn a_cursor_leads_on_in_its_own_list_and_nowhere_else() {
        let first = testing::get("/api/devices/a:b/alerts?severity=info").request();
        let paging = Pagination::from_request(&first, 1_000, &["severity"]).unwrap();
        let cursor = cursor_of(&paging.next_link(&json!("p")).unwrap());
        let position = |path: &str| {
            let request = testing::get(&format!("{path}&cursor={cursor}")).request();
            Pagination::from_request(&request, 1_000, &["severity"])
                .and_then(|paging| paging.position::<String>())
                .map_err(|problem| (problem.status.as_u16(), problem.field.unwrap()))
        };
        let p = Ok(Some("p".to_owned()));
        assert_eq!(position("/api/devices/a:b/alerts?severity=info"), p);
        assert_eq!(position("/api/devices/a%3Ab/alerts?limit=5&_=7&severity=info"), p);
        let refused = Err((400, "cursor".to_owned()));
        assert_eq!(position("/api/devices/a:b/alerts?severity=critical"), refused);
        assert_eq!(position("/api/devices/a:b/alerts?"), refused);
        assert_eq!(position("/api/devices/b/alerts?severity=info"), refused);
    }

    #[tokio::test]
    async fn a_page_that_is_too_large_is_read_again_with_fewer_items() {
        let mut request = testing::get("/x").request();
        request.max_response_bytes = 1_000_000;
        let paging = Pagination::from_request(&request, 1_000, &[]).unwrap();
        let item = "x".repeat(10_000);
        let response =
            list(&paging, |page| {
                let item = item.clone();
                async move {
                    Ok(Page { items: vec![item; page.limit], next: Some(page.limit.to_string()) })
                }
            })
            .await
            .unwrap();
        let items: Vec<String> = serde_json::from_slice(response.body.as_bytes()).unwrap();
        assert!((90..=100).contains(&items.len()), "{}", items.len());
        assert!(response.body.as_bytes().len() <= request.max_response_bytes);
        let next = cursor_of(&response.headers[header::LINK]);
        let request = testing::get(&format!("/x?cursor={next}")).request();
        let position: Option<String> =
            Pagination::from_request(&request, 1_000, &[]).unwrap().position().unwrap();
        assert_eq!(position, Some(items.len().to_string()));
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic(limit in any::<String>(), cursor in any::<String>()) {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("limit", &limit)
                .append_pair("cursor", &cursor)
                .finish();
            let request = testing::get(&format!("/x?{query}")).request();
            if let Err(problem) = Pagination::from_request(&request, 10, &["a"]) {
                prop_assert_eq!(problem.status, 400);
            }
        }
    }
}
