//! Idempotency keys: a repeated request has the effect of one
//! (draft-ietf-httpapi-idempotency-key-header).

use ::http::StatusCode;
use ::http::request::Parts;
use axum::extract::FromRequestParts;
use meter_store::IdempotencyKey;

use super::problem::{ApiError, Problem};

const HEADER: &str = "Idempotency-Key";

/// The idempotency key of a request, if it has one: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency(pub Option<IdempotencyKey>);

impl<S: Sync> FromRequestParts<S> for Idempotency {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(key) = parts.headers.get(HEADER) else { return Ok(Self(None)) };
        match key.to_str() {
            Ok(key)
                if (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) =>
            {
                Ok(Self(Some(IdempotencyKey(key.to_owned()))))
            }
            _ => Err(Problem::field(HEADER, "must be 1 to 255 visible ASCII characters").into()),
        }
    }
}

/// 422: the key was used for another request.
pub fn key_reused() -> Problem {
    Problem {
        field: Some(HEADER.to_owned()),
        ..Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("{HEADER}: was used for another request in the last day"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    async fn read(key: &str) -> Result<Option<IdempotencyKey>, ApiError> {
        let mut parts = testing::get("/x").header("Idempotency-Key", key).parts()?;
        Idempotency::from_request_parts(&mut parts, &()).await.map(|key| key.0)
    }

    #[tokio::test]
    async fn key_is_1_to_255_visible_ascii_characters() {
        let longest = "~".repeat(255);
        for valid in ["1", "8e03978e-40d5-43e8-bc93-6894a57f9324", "\"a\"", &longest] {
            assert_eq!(read(valid).await.unwrap().unwrap().0, valid);
        }
        for invalid in ["", "a b", "é", "a\tb", &"~".repeat(256)] {
            assert_eq!(read(invalid).await.unwrap_err().problem().status, 400, "{invalid}");
        }
        let mut parts = testing::get("/x").parts().unwrap();
        let key = Idempotency::from_request_parts(&mut parts, &()).await.unwrap();
        assert_eq!(key, Idempotency(None));
    }
}
