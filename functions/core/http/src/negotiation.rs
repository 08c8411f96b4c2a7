//! Negotiation of the media type by `Accept` (RFC 9110, 12.5.1).

/// The items of an `Accept` header: value in lower case and weight.
fn weighted_items(header: &str) -> impl Iterator<Item = (String, f32)> {
    header.split(',').filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let value = parts.next()?.to_ascii_lowercase();
        let mut weight = 1.0;
        for parameter in parts {
            if let Some(q) = parameter.strip_prefix("q=").or(parameter.strip_prefix("Q=")) {
                // An invalid weight refuses the media type.
                weight = q.trim().parse().unwrap_or(0.0);
            }
        }
        Some((value, weight))
    })
}

/// Whether a client prefers the media type `other` to `default`, which it gets without a header and
/// with a header that names neither.
pub(crate) fn prefers(accept: Option<&str>, other: &str, default: &str) -> bool {
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
    let weight = weight_of(other);
    weight.0 > 0.0 && weight > weight_of(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_type_follows_the_weights_of_the_client() {
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
}
