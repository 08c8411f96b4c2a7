//! How large an answer may be.
//!
//! A Lambda answers at most 6 MB (6,291,556 bytes), and a text body travels inside a JSON document, so
//! what counts is not its length but its length with every quote and backslash escaped: JSON in JSON
//! grows by a sixth and more.

/// The most that the text of any answer may be, escaped, in bytes: Lambda's limit less room for headers.
/// A system may be set to less ([`crate::settings::Api::max_response_bytes`]).
pub const MAX_ESCAPED_BYTES: u32 = 5_500_000;

/// The length of a text inside a JSON string, without the quotes around it, in bytes.
pub fn json_escaped_len(text: &str) -> usize {
    let extra = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
        0x00..=0x1f => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(extra).sum::<usize>()
}

/// Text that grows until it is as large as an answer may be.
#[derive(Debug)]
pub struct BoundedText {
    text: String,
    escaped: usize,
    max: usize,
}

impl BoundedText {
    /// An empty text of at most `max` bytes, escaped; see [`super::Request::max_response_bytes`].
    pub fn new(max: usize) -> Self {
        Self { text: String::new(), escaped: 0, max }
    }

    /// Appends a piece, if it still fits. The first piece always does: a page without items would
    /// never get anybody on.
    pub fn push(&mut self, piece: &str) -> bool {
        let escaped = json_escaped_len(piece);
        let fits = self.text.is_empty() || self.escaped + escaped <= self.max;
        if fits {
            self.text.push_str(piece);
            self.escaped += escaped;
        }
        fits
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// What was appended.
    pub fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_escaped_length_is_that_of_the_json_string(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(json_escaped_len(&text), json.len() - 2);
        }
    }

    #[test]
    fn a_text_stops_before_it_is_too_large_but_holds_at_least_one_piece() {
        let mut text = BoundedText::new(5);
        assert!(text.push("\"\""));
        assert!(!text.push("ab"));
        assert!(text.push("a"));
        assert_eq!(text.into_text(), "\"\"a");
        assert!(BoundedText::new(1).push("far too large"));
    }
}
