//! Who may: the scopes of a token that API Gateway has checked.

use std::collections::BTreeSet;

use ::http::{HeaderValue, Method, StatusCode, header};
use serde_json::Value;

use super::event::Jwt;
use super::problem::Problem;
use crate::settings::Auth;

/// The scope for reading.
pub const READ_SCOPE: &str = "meter/read";
/// The scope for everything else.
pub const WRITE_SCOPE: &str = "meter/write";

/// The longest name of a caller that is kept, in characters; OpenID Connect's `sub` has at most 255.
const MAX_CALLER_NAME: usize = 255;

/// Who asks, as far as it matters: what they may, and who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The claim `sub` (RFC 7519, 4.1.2), else `client_id` (RFC 8693, 4.3), which a token for a machine has.
    pub name: Option<String>,
    scopes: BTreeSet<String>,
}

impl Caller {
    /// The caller of a checked token: by its claim `scope` (RFC 8693, 4.2), or `scp` where the issuer
    /// calls it so. The gateway's own list counts only for a token that has neither: it names what the
    /// route asks for, of which the token needs only one.
    pub fn from_jwt(jwt: Jwt) -> Self {
        let named = |claim| jwt.claims.get(claim).and_then(Value::as_str).filter(|s| !s.is_empty());
        let name = ["sub", "client_id"].into_iter().find_map(named);
        let name = name.map(|name| name.chars().take(MAX_CALLER_NAME).collect());
        let claimed = ["scope", "scp"].into_iter().find_map(|name| jwt.claims.get(name));
        let scopes = match claimed {
            Some(Value::String(text)) => split_scopes(text),
            Some(Value::Array(list)) => {
                list.iter().filter_map(Value::as_str).flat_map(split_scopes).collect()
            }
            Some(_) => BTreeSet::new(),
            None => jwt.scopes.unwrap_or_default().into_iter().collect(),
        };
        Self { name, scopes }
    }
}

/// Words between blanks; AWS writes an array as `[a b]`.
fn split_scopes(text: &str) -> BTreeSet<String> {
    text.trim_start_matches('[')
        .trim_end_matches(']')
        .split([' ', ','])
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Lets a caller through, or says 401 or 403 (RFC 6750, section 3).
pub fn authorize(auth: Auth, caller: Option<&Caller>, method: &Method) -> Result<(), Problem> {
    if auth == Auth::None {
        return Ok(());
    }
    let Some(caller) = caller else {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "a token is needed: Authorization: Bearer …",
        )
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
    };
    let (scope, challenge) = if *method == Method::GET || *method == Method::HEAD {
        (READ_SCOPE, r#"Bearer error="insufficient_scope", scope="meter/read""#)
    } else {
        (WRITE_SCOPE, r#"Bearer error="insufficient_scope", scope="meter/write""#)
    };
    if caller.scopes.contains(scope) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, format!("the token lacks the scope {scope}"))
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(jwt: Value, method: Method) -> u16 {
        let caller = serde_json::from_value::<Option<Jwt>>(jwt).unwrap().map(Caller::from_jwt);
        match authorize(Auth::Jwt, caller.as_ref(), &method) {
            Ok(()) => 200,
            Err(problem) => {
                assert!(problem.headers.iter().any(|(n, _)| n == header::WWW_AUTHENTICATE));
                problem.status.as_u16()
            }
        }
    }

    #[test]
    fn reading_and_writing_have_a_scope_each() {
        let both = json!({"claims": {"scope": "openid meter/write meter/read"}});
        let read = json!({"claims": {"scope": "meter/read"}});
        for (jwt, get, post) in [
            (json!(null), 401, 401),
            (json!({}), 403, 403),
            (both, 200, 200),
            (read, 200, 403),
            (json!({"claims": {"scp": "[meter/write meter/read]"}}), 200, 200),
            (json!({"claims": {"scp": ["meter/write"]}}), 403, 200),
            (json!({"claims": {"scope": "meter/reader"}}), 403, 403),
            (json!({"claims": {"scope": 7}}), 403, 403),
            (json!({"claims": {}, "scopes": ["meter/read"]}), 200, 403),
        ] {
            assert_eq!(status(jwt.clone(), Method::GET), get, "{jwt}");
            assert_eq!(status(jwt.clone(), Method::HEAD), get, "{jwt}");
            assert_eq!(status(jwt.clone(), Method::POST), post, "{jwt}");
            assert_eq!(status(jwt.clone(), Method::DELETE), post, "{jwt}");
        }
    }

    #[test]
    fn a_route_that_accepts_either_scope_does_not_give_the_token_both() {
        let jwt =
            json!({"claims": {"scope": "meter/read"}, "scopes": ["meter/read", "meter/write"]});
        assert_eq!(status(jwt, Method::PUT), 403);
    }

    #[test]
    fn a_caller_is_called_by_the_subject_of_the_token() {
        let name = |claims: Value| {
            let jwt = serde_json::from_value(json!({"claims": claims})).unwrap();
            Caller::from_jwt(jwt).name
        };
        assert_eq!(name(json!({"sub": "ann", "client_id": "app"})).as_deref(), Some("ann"));
        assert_eq!(name(json!({"sub": "", "client_id": "app"})).as_deref(), Some("app"));
        assert_eq!(name(json!({"sub": 7})), None);
    }

    #[test]
    fn without_authentication_anybody_may() {
        assert_eq!(authorize(Auth::None, None, &Method::DELETE), Ok(()));
    }
}
