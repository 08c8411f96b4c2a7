//! Cursors: where a list goes on.
//!
//! A cursor is opaque, so that positions can change without breaking a client; versioned, so that they
//! can change at all; and sealed with the query that it belongs to, so that a cursor of one list is
//! refused by another. The seal is a digest, not a signature: it catches mistakes and meddling, and who
//! computes it by hand gets nothing that the same query would not have shown, since a position only says
//! where in *this* list to go on.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The layout: version, seal, position.
const VERSION: u8 = 1;
const DIGEST_BYTES: usize = 12;

/// The query that a cursor belongs to: the path, and the parameters that decide what is in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorScope(String);

/// A text that is no cursor of this query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor of this list; ask for the first page again")]
pub struct InvalidCursor;

impl CursorScope {
    /// The scope of a path and its parameters, whatever order these came in.
    pub fn new<'a>(path: &str, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut parameters: Vec<_> = parameters.into_iter().collect();
        parameters.sort_unstable();
        let query =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        Self(format!("{path}?{query}"))
    }

    /// The cursor for a position in the list.
    pub fn encode(&self, position: &str) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.digest(position.as_bytes()));
        bytes.extend_from_slice(position.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position of a cursor.
    pub fn decode(&self, cursor: &str) -> Result<String, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| InvalidCursor)?;
        let (&version, rest) = bytes.split_first().ok_or(InvalidCursor)?;
        let (seal, position) = rest.split_at_checked(DIGEST_BYTES).ok_or(InvalidCursor)?;
        if version != VERSION || seal != self.digest(position) {
            return Err(InvalidCursor);
        }
        String::from_utf8(position.to_vec()).map_err(|_| InvalidCursor)
    }

    fn digest(&self, position: &[u8]) -> [u8; DIGEST_BYTES] {
        let mut hash = Sha256::new();
        hash.update([VERSION]);
        // The length keeps scope and position apart.
        hash.update((self.0.len() as u64).to_be_bytes());
        hash.update(&self.0);
        hash.update(position);
        let digest = hash.finalize();
        std::array::from_fn(|i| digest[i])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(path: &str) -> CursorScope {
        CursorScope::new(path, [("status", "active"), ("q", "a")])
    }

    #[test]
    fn the_order_of_parameters_does_not_matter_but_their_values_do() {
        let cursor = scope("/api/devices").encode("p");
        let same = CursorScope::new("/api/devices", [("q", "a"), ("status", "active")]);
        assert_eq!(same.decode(&cursor), Ok("p".to_owned()));
        for other in [
            scope("/api/alerts"),
            CursorScope::new("/api/devices", [("q", "a"), ("status", "inactive")]),
            CursorScope::new("/api/devices", [("q", "a&status=active")]),
            CursorScope::new("/api/devices", []),
        ] {
            assert_eq!(other.decode(&cursor), Err(InvalidCursor));
        }
    }

    #[test]
    fn a_cursor_of_another_version_is_refused() {
        let cursor = scope("/x").encode("p");
        let mut bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap();
        bytes[0] += 1;
        assert_eq!(scope("/x").decode(&URL_SAFE_NO_PAD.encode(bytes)), Err(InvalidCursor));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_needs_no_escaping_in_a_url(position in any::<String>()) {
            let cursor = scope("/x").encode(&position);
            prop_assert!(cursor.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            prop_assert_eq!(scope("/x").decode(&cursor), Ok(position));
        }

        #[test]
        fn any_change_is_noticed(position in ".{1,20}", at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = URL_SAFE_NO_PAD.decode(scope("/x").encode(&position)).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert_eq!(scope("/x").decode(&URL_SAFE_NO_PAD.encode(bytes)), Err(InvalidCursor));
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(scope("/x").decode(&text), Err(InvalidCursor));
            prop_assert_eq!(scope("/x").decode(&URL_SAFE_NO_PAD.encode(bytes)), Err(InvalidCursor));
        }
    }
}
