//! What the client can read: media types by `Accept`, gzip by `Accept-Encoding` (RFC 9110, 12.5).

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// Bodies below this many bytes gain nothing from gzip.
const MIN_GZIP_BYTES: usize = 1_024;

/// An item of an `Accept` header: its value in lower case and its weight.
fn weighted_items(header: &str) -> impl Iterator<Item = (String, f32)> {
    header.split(',').filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let value = parts.next()?.to_ascii_lowercase();
        let mut weight = 1.0;
        for parameter in parts {
            if let Some(q) = parameter.strip_prefix("q=").or(parameter.strip_prefix("Q=")) {
                // A weight that cannot be read is no wish for the thing.
                weight = q.trim().parse().unwrap_or(0.0);
            }
        }
        Some((value, weight))
    })
}

/// Whether the client would rather have `other` than `usual`, both media types. Without a header, or
/// with neither in it, it gets what is usual.
pub fn prefers(accept: Option<&str>, other: &str, usual: &str) -> bool {
    let weight_of = |media_type: &str| {
        let range = media_type.split_once('/').map(|(kind, _)| format!("{kind}/*"));
        accept
            .map(weighted_items)
            .into_iter()
            .flatten()
            .filter_map(|(value, weight)| {
                let precise = match value {
                    value if value == media_type => 2,
                    value if Some(&value) == range.as_ref() => 1,
                    value if value == "*/*" => 0,
                    _ => return None,
                };
                Some((precise, weight))
            })
            .max_by_key(|(precise, _)| *precise)
            .map_or((0.0, 0), |(precise, weight)| (weight, precise))
    };
    let wanted = weight_of(other);
    wanted.0 > 0.0 && wanted > weight_of(usual)
}

/// Whether the client takes gzip and does not like it less than no encoding.
fn accepts_gzip(accept_encoding: &str) -> bool {
    let weight = |names: &[&str]| {
        let named =
            weighted_items(accept_encoding).find(|(value, _)| names.contains(&value.as_str()));
        named.map(|(_, weight)| weight)
    };
    let gzip = weight(&["gzip", "x-gzip"]).or(weight(&["*"])).unwrap_or(0.0);
    gzip > 0.0 && gzip >= weight(&["identity"]).unwrap_or(0.0)
}

/// The body in gzip, if the client takes it and it is worth it. A Lambda works on one request at a
/// time, so nobody waits for the tens of milliseconds that the largest answer takes.
pub fn gzip(accept_encoding: Option<&str>, body: &[u8]) -> Option<Vec<u8>> {
    if body.len() < MIN_GZIP_BYTES || !accepts_gzip(accept_encoding?) {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_client_gets_the_media_type_that_it_would_rather_have() {
        let csv = |accept: &str| prefers(Some(accept), "text/csv", "application/json");
        for yes in [
            "text/csv",
            "text/*",
            "TEXT/CSV; charset=utf-8",
            "text/csv, */*",
            "application/json;q=0.5, text/csv",
        ] {
            assert!(csv(yes), "{yes}");
        }
        for no in [
            "",
            "*/*",
            "application/json",
            "text/csv, application/json",
            "text/csv;q=0.4, application/json;q=0.5",
            "text/csv;q=0",
            "text/csv;q=0, */*",
            "text/html",
        ] {
            assert!(!csv(no), "{no}");
        }
        assert!(!prefers(None, "text/csv", "application/json"));
    }

    #[test]
    fn gzip_is_sent_where_it_is_asked_for_and_worth_it() {
        let body = b"{\"a\":1}".repeat(1_000);
        for yes in ["gzip", "GZIP", "br, gzip;q=0.1", "*", "identity;q=0.5, gzip", "x-gzip"] {
            let packed = gzip(Some(yes), &body).unwrap();
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut back).unwrap();
            assert_eq!(back, body);
        }
        for no in [
            "",
            "br",
            "gzip;q=0",
            "gzip; q=0.0",
            "*;q=0",
            "gzip;q=0, *",
            "identity, gzip;q=0.5",
            "gzip;q=x",
        ] {
            assert_eq!(gzip(Some(no), &body), None, "{no}");
        }
        assert_eq!(gzip(None, &body), None);
        assert_eq!(gzip(Some("gzip"), b"{}"), None);
    }
}
