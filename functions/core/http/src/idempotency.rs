//! A client's name for a request, so that sending it twice is sending it once
//! (draft-ietf-httpapi-idempotency-key-header).

use ::http::StatusCode;
use meter_store::IdempotencyKey;

use super::problem::Problem;
use super::request::Request;

const HEADER: &str = "Idempotency-Key";

/// The request's key, if it has one: 1 to 255 visible ASCII characters.
pub fn key(request: &Request) -> Result<Option<IdempotencyKey>, Problem> {
    match request.headers.get("idempotency-key") {
        None => Ok(None),
        Some(key)
            if (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Ok(Some(IdempotencyKey(key.to_owned())))
        }
        Some(_) => Err(Problem::field(HEADER, "must be 1 to 255 visible ASCII characters")),
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

    #[test]
    fn a_key_is_visible_ascii_of_a_sane_length() {
        let read = |value: &str| {
            let request = testing::get("/x").header("Idempotency-Key", value).request();
            key(&request).map(|key| key.unwrap().0)
        };
        let longest = "~".repeat(255);
        for good in ["1", "8e03978e-40d5-43e8-bc93-6894a57f9324", "\"a\"", &longest] {
            assert_eq!(read(good).as_deref(), Ok(good));
        }
        for bad in ["", "a b", "é", "a\tb", &"~".repeat(256)] {
            assert_eq!(read(bad).unwrap_err().status, 400, "{bad}");
        }
        assert_eq!(key(&testing::get("/x").request()), Ok(None));
    }
}
