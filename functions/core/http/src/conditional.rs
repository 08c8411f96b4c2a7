//! Conditional requests: responses with an `ETag` and `If-None-Match` (RFC 9110, 13).

use ::http::{HeaderValue, StatusCode, header};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::problem::ApiError;

/// A JSON response with an `ETag` of its content.
///
/// The tag is a weak one (RFC 9110, 8.8.1), since the bytes differ with the content encoding.
#[derive(Debug, Clone)]
pub struct Tagged<T>(pub T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(json) => {
                let etag = format!("W/\"{}\"", hex::encode(&Sha256::digest(&json)[..12]));
                let media_type = HeaderValue::from_static("application/json");
                ([(header::ETAG, etag)], [(header::CONTENT_TYPE, media_type)], json).into_response()
            }
            Err(error) => ApiError::Internal(Box::new(error)).into_response(),
        }
    }
}

/// 304 without a body if `if_none_match`, the header of the request, names the `ETag` of the
/// response. The comparison is weak (RFC 9110, 13.1.2).
pub(crate) fn not_modified(
    mut response: Response,
    if_none_match: Option<&HeaderValue>,
) -> Response {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let (Some(known), Some(etag)) =
        (if_none_match.map(text), response.headers().get(header::ETAG).map(text))
    else {
        return response;
    };
    // The tags of the API contain no comma.
    let is_known =
        known.trim() == "*" || known.split(',').any(|known| opaque(known) == opaque(&etag));
    if is_known && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response() -> Response {
        Tagged("a").into_response()
    }

    fn etag(response: &Response) -> String {
        response.headers()[header::ETAG].to_str().unwrap().to_owned()
    }

    fn conditional(if_none_match: &str) -> Response {
        not_modified(response(), Some(&HeaderValue::try_from(if_none_match).unwrap()))
    }

    #[tokio::test]
    async fn known_tag_is_answered_with_304() {
        let etag = etag(&response());
        let strong = etag.trim_start_matches("W/").to_owned();
        for known in [etag.clone(), strong, "*".to_owned(), format!("\"x\", {etag} ,\"y\"")] {
            let response = conditional(&known);
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(response.headers()[header::ETAG], etag.as_str());
            let body = axum::body::to_bytes(response.into_body(), 1).await.unwrap();
            assert!(body.is_empty());
        }
        for other in ["\"x\"", "", ",,"] {
            assert_eq!(conditional(other).status(), StatusCode::OK, "{other}");
        }
        assert_eq!(not_modified(response(), None).status(), StatusCode::OK);
    }

    #[test]
    fn tag_depends_on_the_content() {
        assert_ne!(etag(&response()), etag(&Tagged("b").into_response()));
    }
}
