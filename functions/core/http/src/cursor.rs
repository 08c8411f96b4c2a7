//! Cursors: the position at which a list continues.
//!
//! A cursor is opaque and versioned, so that positions can change without breaking a client. It
//! contains a digest of its position and its query, so that a list refuses the cursor of another
//! one. The digest detects mistakes; it is no signature and needs none, since a position discloses
//! nothing that the same query does not.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The version of the layout: version, digest, position.
const VERSION: u8 = 1;
const DIGEST_BYTES: usize = 12;

/// The query of a cursor: the path, and the parameters that select the items of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorScope(String);

/// A text that is no cursor of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor of this list; request the first page again")]
pub struct InvalidCursor;

impl CursorScope {
    /// The scope of a path and its parameters in any order.
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
    ///
    /// # Errors
    /// If the cursor is invalid or one of another query.
    pub fn decode(&self, cursor: &str) -> Result<String, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| InvalidCursor)?;
        let (&version, rest) = bytes.split_first().ok_or(InvalidCursor)?;
        let (digest, position) = rest.split_at_checked(DIGEST_BYTES).ok_or(InvalidCursor)?;
        if version != VERSION || digest != self.digest(position) {
            return Err(InvalidCursor);
        }
        String::from_utf8(position.to_vec()).map_err(|_| InvalidCursor)
    }

    fn digest(&self, position: &[u8]) -> [u8; DIGEST_BYTES] {
        let mut hash = Sha256::new();
        hash.update([VERSION]);
        // Without the length, scope and position could be shifted against each other.
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
    fn cursor_depends_on_the_values_of_parameters_and_not_on_their_order() {
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
    fn cursor_of_another_version_is_refused() {
        let cursor = scope("/x").encode("p");
        let mut bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap();
        bytes[0] += 1;
        assert_eq!(scope("/x").decode(&URL_SAFE_NO_PAD.encode(bytes)), Err(InvalidCursor));
    }

    proptest! {
        #[test]
        fn encoded_cursor_is_decoded_and_needs_no_escape_in_a_url(position in any::<String>()) {
            let cursor = scope("/x").encode(&position);
            prop_assert!(cursor.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            prop_assert_eq!(scope("/x").decode(&cursor), Ok(position));
        }

        #[test]
        fn changed_cursor_is_refused(position in ".{1,20}", at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = URL_SAFE_NO_PAD.decode(scope("/x").encode(&position)).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert_eq!(scope("/x").decode(&URL_SAFE_NO_PAD.encode(bytes)), Err(InvalidCursor));
        }

        #[test]
        fn any_text_is_decoded_or_refused(text in any::<String>(), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(scope("/x").decode(&text), Err(InvalidCursor));
            prop_assert_eq!(scope("/x").decode(&URL_SAFE_NO_PAD.encode(bytes)), Err(InvalidCursor));
        }
    }
}
