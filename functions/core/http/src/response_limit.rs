//! The size limit of a response.
//!
//! A response of a Lambda function has at most 6 MB (6,291,556 bytes). It is a JSON document that
//! contains the body as a string, so the limit applies to the body with every quote and backslash
//! escaped: JSON in JSON is a sixth larger, or more.

/// The largest body of a response, escaped, in bytes: Lambda's limit less room for headers. A
/// setting reduces it ([`crate::settings::Api::max_response_bytes`]).
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

/// Text up to a size limit.
#[derive(Debug)]
pub struct BoundedText {
    text: String,
    escaped: usize,
    max: usize,
}

impl BoundedText {
    /// An empty text of at most `max` bytes, escaped.
    pub fn new(max: usize) -> Self {
        Self { text: String::new(), escaped: 0, max }
    }

    /// Appends a piece if it fits, and returns whether it did. The first piece always fits, since a
    /// page without items has no position to continue at.
    pub fn push(&mut self, piece: &str) -> bool {
        let escaped = json_escaped_len(piece);
        let fits = self.text.is_empty() || self.escaped + escaped <= self.max;
        if fits {
            self.text.push_str(piece);
            self.escaped += escaped;
        }
        fits
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The text.
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
        fn escaped_length_is_that_of_the_json_string(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(json_escaped_len(&text), json.len() - 2);
        }
    }

    #[test]
    fn text_ends_at_its_limit_and_has_at_least_one_piece() {
        let mut text = BoundedText::new(5);
        assert!(text.push("\"\""));
        assert!(!text.push("ab"));
        assert!(text.push("a"));
        assert_eq!(text.into_text(), "\"\"a");
        assert!(BoundedText::new(1).push("far too large"));
    }
}
