//! The REST API.

use meter_http::response_limit::MAX_ESCAPED_BYTES;
use meter_http::settings::{Api, Auth, Origins};

use super::{Environment, Settings};

impl Settings for Api {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self {
            auth: environment.one_of(
                "API_AUTH",
                Auth::Jwt,
                &[("jwt", Auth::Jwt), ("none", Auth::None)],
            ),
            cors: read_origins(environment, "CORS_ALLOW_ORIGIN"),
            max_response_bytes: environment.integer(
                "MAX_RESPONSE_BYTES",
                MAX_ESCAPED_BYTES,
                100_000..=MAX_ESCAPED_BYTES,
            ),
        }
    }
}

fn read_origins(environment: &mut Environment<'_>, name: &str) -> Origins {
    let Some(value) = environment.get(name) else {
        return Origins::None;
    };
    if value == "*" {
        return Origins::Any;
    }
    let origins: Vec<_> = value.split(',').map(|o| o.trim().to_owned()).collect();
    if !origins.iter().all(|origin| is_origin(origin)) {
        environment.report(format!(
            "{name} must be * or origins like https://example.com separated by commas, \
             not {value:?}"
        ));
    }
    Origins::List(origins)
}

/// Returns whether a text is a scheme, a host and optionally a port. Browsers send no path, so that
/// an origin with a path, even a single slash, would never match.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let is_allowed =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    matches!(scheme, "http" | "https") && !authority.is_empty() && authority.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::read;

    #[test]
    fn origins_are_separated_by_commas() {
        let api: Api =
            read(&[("CORS_ALLOW_ORIGIN", "https://a.example, http://127.0.0.1:3000")]).unwrap();
        assert_eq!(
            api.cors,
            Origins::List(vec!["https://a.example".to_owned(), "http://127.0.0.1:3000".to_owned()])
        );
        let api: Api = read(&[("CORS_ALLOW_ORIGIN", "*")]).unwrap();
        assert_eq!(api.cors, Origins::Any);
    }
}
