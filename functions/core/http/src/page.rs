//! Pages of lists: the query of a list, and the link to the next page (docs/api.md, RFC 8288).

use std::future::Future;

use ::http::request::Parts;
use ::http::{HeaderName, HeaderValue, Uri, header};
use axum::extract::{FromRequestParts, OriginalUri};
use axum::response::{IntoResponse, Response};
use meter_domain::time::Timestamp;
use meter_store::{Page, PageRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::cursor::{CursorScope, InvalidCursor};
use super::extract::{ResponseLimit, received_at};
use super::fields::{Fields, FromFields};
use super::problem::{ApiError, Problem};
use super::response_limit::{BoundedText, MAX_ESCAPED_BYTES};

/// The most items of a list in one response, and the default of `limit`.
pub const MAX_ITEMS: usize = 1_000;

/// The parameters that select the items of a list.
pub trait Filter: FromFields {
    /// Their names. A cursor is valid only with the values that it was made with.
    const NAMES: &'static [&'static str];
    /// The largest `limit`.
    const MAX_ITEMS: usize = MAX_ITEMS;
}

impl Filter for () {
    const NAMES: &'static [&'static str] = &[];
}

/// The parameters of a query, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a query as HTML forms encode it.
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first parameter of a name. An empty one counts as absent: forms send those.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut all = self.iter().filter(|(key, _)| *key == name);
        all.next().map(|(_, value)| value).filter(|v| !v.is_empty())
    }

    /// Every parameter in the client's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// The parameters that [`Query::get`] returns, as JSON strings.
    pub fn to_object(&self) -> Map<String, Value> {
        let names = self.iter().map(|(name, _)| name);
        names.filter_map(|name| Some((name.to_owned(), self.get(name)?.into()))).collect()
    }
}

/// A query with the parameters of `T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidQuery<T>(pub T);

impl<T: FromFields, S: Sync> FromRequestParts<S> for ValidQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        Ok(Self(T::from_fields(&Fields::new(&query.to_object()), received_at(parts)?)?))
    }
}

/// The page of a list that a request selects by `limit` and `cursor`.
#[derive(Debug)]
pub struct Pagination<F> {
    /// The other parameters.
    pub filter: F,
    /// The most items of the page, from 1 to [`Filter::MAX_ITEMS`].
    pub limit: usize,
    /// The size in bytes, escaped, at which the page ends.
    pub max_response_bytes: usize,
    scope: CursorScope,
    position: Option<String>,
    path: String,
    query: Query,
}

impl<F: Filter, S: Sync> FromRequestParts<S> for Pagination<F> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let OriginalUri(original) =
            parts.extensions.get().cloned().unwrap_or_else(|| OriginalUri(parts.uri.clone()));
        let limit = parts.extensions.get::<ResponseLimit>().map(|ResponseLimit(bytes)| *bytes);
        Ok(Self {
            max_response_bytes: limit.unwrap_or(MAX_ESCAPED_BYTES as usize),
            path: original.path().to_owned(),
            ..Self::from_uri(&parts.uri, received_at(parts)?)?
        })
    }
}

impl<F: Filter> Pagination<F> {
    /// Parses the query of a list that was requested at `now`.
    ///
    /// # Errors
    /// 400 that names the invalid parameter.
    pub fn from_uri(uri: &Uri, now: Timestamp) -> Result<Self, Problem> {
        let query = Query::parse(uri.query().unwrap_or_default());
        let filter = F::from_fields(&Fields::new(&query.to_object()), now)?;
        let filters = F::NAMES.iter().filter_map(|name| Some((*name, query.get(name)?)));
        // `a%3Ab` and `a:b` are the same device.
        let path = percent_encoding::percent_decode_str(uri.path()).decode_utf8_lossy();
        let scope = CursorScope::new(&path, filters);
        let position = query.get("cursor").map(|cursor| scope.decode(cursor)).transpose();
        Ok(Self {
            position: position.map_err(invalid_cursor)?,
            limit: limit(&query, F::MAX_ITEMS)?,
            filter,
            max_response_bytes: MAX_ESCAPED_BYTES as usize,
            scope,
            path: uri.path().to_owned(),
            query,
        })
    }
}

impl<F> Pagination<F> {
    /// The position after which the page begins; none for the first page.
    ///
    /// # Errors
    /// 400 if the cursor contains no such position.
    pub fn position<P: DeserializeOwned>(&self) -> Result<Option<P>, Problem> {
        let read = |text| serde_json::from_str(text).map_err(|_| invalid_cursor(InvalidCursor));
        self.position.as_deref().map(read).transpose()
    }

    /// The header `Link` to the page after a position, as a part of a response; none without a
    /// position.
    ///
    /// # Errors
    /// 500 if the position cannot be serialized.
    pub fn next_link(
        &self,
        position: Option<&impl Serialize>,
    ) -> Result<Option<[(HeaderName, HeaderValue); 1]>, ApiError> {
        let Some(position) = position else { return Ok(None) };
        let position = serde_json::to_string(position).map_err(internal)?;
        let others = self.query.iter().filter(|(k, _)| *k != "cursor");
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(others)
            .append_pair("cursor", &self.scope.encode(&position))
            .finish();
        let link = format!("<{}?{query}>; rel=\"next\"", self.path);
        Ok(Some([(header::LINK, HeaderValue::try_from(link).map_err(internal)?)]))
    }
}

fn internal(error: impl std::error::Error + Send + Sync + 'static) -> ApiError {
    ApiError::Internal(Box::new(error))
}

/// From 1 to `max`. A larger limit is reduced, since a later version may have a larger maximum.
fn limit(query: &Query, max: usize) -> Result<usize, Problem> {
    let Some(text) = query.get("limit") else {
        return Ok(max);
    };
    let invalid = || Problem::field("limit", "must be an integer of at least 1");
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    // Digits that are no `usize` are a number larger than any maximum.
    match text.parse().unwrap_or(usize::MAX) {
        0 => Err(invalid()),
        number => Ok(number.min(max)),
    }
}

fn invalid_cursor(invalid: InvalidCursor) -> Problem {
    Problem::field("cursor", invalid.to_string())
}

/// Responds with a page of a store's list as a JSON array of views.
///
/// If the array is larger than a response may be, the page is read again with fewer items, since
/// only the store can determine the position at which a shorter page ends.
///
/// # Errors
/// 400 if the cursor is invalid, otherwise the error of `read`.
pub async fn list<F, T, V, R, E>(
    paging: &Pagination<F>,
    view: impl Fn(T) -> V,
    read: impl Fn(PageRequest) -> R,
) -> Result<Response, ApiError>
where
    V: Serialize,
    R: Future<Output = Result<Page<T>, E>>,
    ApiError: From<E>,
{
    let after: Option<String> = paging.position()?;
    let mut limit = paging.limit;
    loop {
        let page = read(PageRequest { limit, after: after.clone() }).await?;
        let views: Vec<_> = page.items.into_iter().map(&view).collect();
        let array = JsonArray::fit(&views, paging.max_response_bytes)?;
        if array.len < views.len() {
            // An array contains at least one item, so that the loop ends.
            limit = (limit * array.len / views.len()).max(1);
            continue;
        }
        return Ok((paging.next_link(page.next.as_ref())?, array).into_response());
    }
}

/// A JSON array of the items that fit into a response.
#[derive(Debug)]
pub struct JsonArray {
    items: BoundedText,
    /// The number of items.
    pub len: usize,
}

impl JsonArray {
    /// The array of the first items that fit into `max_bytes`, escaped; at least one.
    ///
    /// # Errors
    /// 500 if an item cannot be serialized.
    pub fn fit<T: Serialize>(items: &[T], max_bytes: usize) -> Result<Self, ApiError> {
        let mut array = Self { items: BoundedText::new(max_bytes), len: 0 };
        for item in items {
            let json = serde_json::to_string(item).map_err(internal)?;
            let piece = if array.len == 0 { json } else { format!(",{json}") };
            if !array.items.push(&piece) {
                break;
            }
            array.len += 1;
        }
        Ok(array)
    }
}

impl IntoResponse for JsonArray {
    fn into_response(self) -> Response {
        let json = format!("[{}]", self.items.into_text());
        ([(header::CONTENT_TYPE, "application/json")], json).into_response()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    struct Severity;

    impl FromFields for Severity {
        fn from_fields(_: &Fields<'_>, _: Timestamp) -> Result<Self, Problem> {
            Ok(Self)
        }
    }

    impl Filter for Severity {
        const NAMES: &'static [&'static str] = &["severity"];
    }

    fn pagination(path: &str) -> Result<Pagination<Severity>, Problem> {
        Pagination::from_uri(&path.parse().unwrap(), Timestamp::EPOCH)
    }

    fn link(paging: &Pagination<Severity>, position: &str) -> String {
        let [(name, link)] = paging.next_link(Some(&position)).unwrap().unwrap();
        assert_eq!(name, header::LINK);
        link.to_str().unwrap().to_owned()
    }

    fn cursor_of(link: &str) -> String {
        let cursor = link.split_once("cursor=").unwrap().1;
        cursor.split_once('>').unwrap().0.to_owned()
    }

    #[test]
    fn limit_is_at_least_one_and_at_most_the_maximum() {
        let limit = |query: &str| pagination(&format!("/x?{query}")).map(|paging| paging.limit);
        for (query, expected) in [
            ("", 1_000),
            ("limit=", 1_000),
            ("limit=1", 1),
            ("limit=0007", 7),
            ("limit=1000", 1_000),
            ("limit=1001", 1_000),
            ("limit=99999999999999999999999", 1_000),
        ] {
            assert_eq!(limit(query), Ok(expected), "{query}");
        }
        for query in ["limit=0", "limit=-1", "limit=%2B1", "limit=1.5", "limit=ten", "limit=%201"] {
            assert_eq!(limit(query).unwrap_err().field.as_deref(), Some("limit"), "{query}");
        }
    }

    #[tokio::test]
    async fn next_link_has_the_path_and_query_of_the_request() {
        let path = "/dev/api/devices/a%3Ab/alerts?severity=info&limit=2&_=1&cursor=";
        let mut parts = testing::get(path).parts().unwrap();
        parts.extensions.insert(OriginalUri(parts.uri.clone()));
        parts.uri = path.strip_prefix("/dev").unwrap().parse().unwrap();
        let paging: Pagination<Severity> =
            Pagination::from_request_parts(&mut parts, &()).await.unwrap();
        let link = link(&paging, "p");
        let cursor = cursor_of(&link);
        assert_eq!(link, format!("<{path}{cursor}>; rel=\"next\""));
    }

    #[test]
    fn cursor_is_valid_for_its_own_list_only() {
        let paging = pagination("/api/devices/a:b/alerts?severity=info").unwrap();
        let cursor = cursor_of(&link(&paging, "p"));
        let position = |path: &str| {
            pagination(&format!("{path}&cursor={cursor}"))
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
    async fn page_that_is_too_large_is_read_again_with_fewer_items() {
        let paging = Pagination { max_response_bytes: 1_000_000, ..pagination("/x").unwrap() };
        let item = "x".repeat(10_000);
        let read = async |page: PageRequest| {
            let items = vec![item.clone(); page.limit];
            Ok::<_, ApiError>(Page { items, next: Some(page.limit.to_string()) })
        };
        let response = list(&paging, |item| item, read).await.unwrap();
        let next = cursor_of(response.headers()[header::LINK].to_str().unwrap());
        let body = axum::body::to_bytes(response.into_body(), 1_000_000).await.unwrap();
        let items: Vec<String> = serde_json::from_slice(&body).unwrap();
        assert!((90..=100).contains(&items.len()), "{}", items.len());
        let next = pagination(&format!("/x?cursor={next}")).unwrap();
        assert_eq!(next.position(), Ok(Some(items.len().to_string())));
    }

    proptest! {
        #[test]
        fn any_query_is_parsed_or_refused(limit in any::<String>(), cursor in any::<String>()) {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("limit", &limit)
                .append_pair("cursor", &cursor)
                .finish();
            if let Err(problem) = pagination(&format!("/x?{query}")) {
                prop_assert_eq!(problem.status, 400);
            }
        }
    }
}
