//! Access of pages to the API from a browser (the Fetch standard, CORS protocol).

use ::http::{HeaderMap, HeaderValue, Method, header};

use crate::settings::Origins;

/// The headers of a request that a page may set.
const ALLOW_HEADERS: &str = "authorization, content-type, idempotency-key, if-match, if-none-match";
/// The headers of a response that a page may read.
const EXPOSE_HEADERS: &str = "etag, link, location, retry-after, x-request-id";
/// Seconds for which a browser may cache the response to a preflight.
const MAX_AGE_S: &str = "600";

/// The value of `Access-Control-Allow-Origin` for a request of an origin, if it is allowed.
fn allowed_origin(origins: &Origins, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
    match origins {
        Origins::None => None,
        Origins::Any => Some(HeaderValue::from_static("*")),
        Origins::List(list) => {
            origin.filter(|origin| list.iter().any(|o| *origin == o.as_str())).cloned()
        }
    }
}

/// The headers of a request that a response depends on, for caches (`Vary`).
pub fn vary(origins: &Origins) -> &'static str {
    match origins {
        Origins::List(_) => "accept, accept-encoding, origin",
        Origins::None | Origins::Any => "accept, accept-encoding",
    }
}

/// Adds the headers of every response to an allowed origin.
pub fn add_headers(headers: &mut HeaderMap, origins: &Origins, origin: Option<&HeaderValue>) {
    if let Some(origin) = allowed_origin(origins, origin) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSE_HEADERS),
        );
    }
}

/// Adds the headers of the response to a preflight of an allowed origin.
pub fn add_preflight(
    headers: &mut HeaderMap,
    origins: &Origins,
    origin: Option<&HeaderValue>,
    methods: &[Method],
) {
    if allowed_origin(origins, origin).is_none() {
        return;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods_header(methods));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOW_HEADERS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_S));
}

/// Methods as the value of a header.
pub fn methods_header(methods: &[Method]) -> HeaderValue {
    let names: Vec<_> = methods.iter().map(Method::as_str).collect();
    // A method is a token (RFC 9110, 5.6.2), which is valid in a header.
    HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow_origin(origins: &Origins, origin: Option<&'static str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        let origin = origin.map(HeaderValue::from_static);
        add_headers(&mut headers, origins, origin.as_ref());
        add_preflight(&mut headers, origins, origin.as_ref(), &[Method::GET, Method::PUT]);
        let preflight = headers.get(header::ACCESS_CONTROL_ALLOW_METHODS);
        let allowed = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        assert_eq!(allowed.is_some(), preflight.is_some_and(|m| m == "GET, PUT"));
        allowed.map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_configured_origins_are_allowed() {
        let these =
            Origins::List(vec!["https://a.example".to_owned(), "https://b.example".to_owned()]);
        let allowed = |origin| allow_origin(&these, Some(origin));
        assert_eq!(allowed("https://b.example").as_deref(), Some("https://b.example"));
        assert_eq!(allowed("https://b.example.evil"), None);
        assert_eq!(allow_origin(&these, None), None);
        assert_eq!(allow_origin(&Origins::None, Some("https://a.example")), None);
        assert_eq!(allow_origin(&Origins::Any, Some("https://x")).as_deref(), Some("*"));
    }
}
