//! Authorization by the scopes of a token that API Gateway has checked.

use std::collections::BTreeSet;

use ::http::{HeaderValue, StatusCode, header};
use lambda_http::aws_lambda_events::apigw::ApiGatewayRequestAuthorizerJwtDescription as Jwt;

use super::problem::Problem;
use super::routes::Scope;
use crate::settings::Auth;

/// The longest name of a caller that is kept, in characters; OpenID Connect's `sub` has at most
/// 255.
const MAX_CALLER_NAME: usize = 255;

/// The client of a request, as its token identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The claim `sub` (RFC 7519, 4.1.2), else `client_id` (RFC 8693, 4.3), which a token for a
    /// machine has.
    pub name: Option<String>,
    scopes: BTreeSet<String>,
}

impl Caller {
    /// The caller of a checked token, with the scopes of its claim `scope` (RFC 8693, 4.2), or
    /// `scp` at other issuers.
    ///
    /// The gateway's own list counts only for a token without both claims: it contains the scopes
    /// that the route accepts, of which the token needs one.
    pub fn from_jwt(jwt: &Jwt) -> Self {
        let claim = |name: &str| jwt.claims.get(name);
        let name = ["sub", "client_id"].into_iter().filter_map(claim).find(|name| !name.is_empty());
        let scopes = match ["scope", "scp"].into_iter().find_map(claim) {
            Some(text) => split_scopes(text),
            None => jwt.scopes.iter().flatten().cloned().collect(),
        };
        Self { name: name.map(|name| name.chars().take(MAX_CALLER_NAME).collect()), scopes }
    }
}

/// The words of a claim; AWS writes an array as `[a b]`.
fn split_scopes(text: &str) -> BTreeSet<String> {
    text.trim_start_matches('[')
        .trim_end_matches(']')
        .split([' ', ','])
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Checks that a caller has a scope.
///
/// # Errors
/// 401 without a token, 403 without the scope (RFC 6750, section 3).
pub fn authorize(auth: Auth, caller: Option<&Caller>, scope: Scope) -> Result<(), Problem> {
    if auth == Auth::None {
        return Ok(());
    }
    let (status, detail, challenge) = match (caller, scope) {
        (Some(caller), _) if caller.scopes.contains(scope.as_str()) => return Ok(()),
        (None, _) => (
            StatusCode::UNAUTHORIZED,
            "a token is required: Authorization: Bearer …".to_owned(),
            "Bearer",
        ),
        (_, Scope::Read) => (
            StatusCode::FORBIDDEN,
            lacks(scope),
            r#"Bearer error="insufficient_scope", scope="meter/read""#,
        ),
        (_, Scope::Write) => (
            StatusCode::FORBIDDEN,
            lacks(scope),
            r#"Bearer error="insufficient_scope", scope="meter/write""#,
        ),
    };
    let challenge = HeaderValue::from_static(challenge);
    Err(Problem::new(status, detail).with_header(header::WWW_AUTHENTICATE, challenge))
}

fn lacks(scope: Scope) -> String {
    format!("the token lacks the scope {}", scope.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::event;

    fn caller(jwt: &Value) -> Option<Caller> {
        event::authorizer(jwt)?.jwt.as_ref().map(Caller::from_jwt)
    }

    fn status(jwt: &Value, scope: Scope) -> u16 {
        match authorize(Auth::Jwt, caller(jwt).as_ref(), scope) {
            Ok(()) => 200,
            Err(problem) => {
                assert!(problem.headers.iter().any(|(n, _)| n == header::WWW_AUTHENTICATE));
                problem.status.as_u16()
            }
        }
    }

    #[test]
    fn each_scope_permits_its_own_routes() {
        for (jwt, read, write) in [
            (json!(null), 401, 401),
            (json!({}), 403, 403),
            (json!({"claims": {"scope": "openid meter/write meter/read"}}), 200, 200),
            (json!({"claims": {"scope": "meter/read"}}), 200, 403),
            (json!({"claims": {"scp": "[meter/write meter/read]"}}), 200, 200),
            (json!({"claims": {"scp": ["meter/write"]}}), 403, 200),
            (json!({"claims": {"scope": "meter/reader"}}), 403, 403),
            (json!({"claims": {"scope": 7}}), 403, 403),
            (json!({"claims": {}, "scopes": ["meter/read"]}), 200, 403),
        ] {
            assert_eq!(status(&jwt, Scope::Read), read, "{jwt}");
            assert_eq!(status(&jwt, Scope::Write), write, "{jwt}");
        }
    }

    #[test]
    fn scopes_that_the_route_accepts_are_not_those_of_the_token() {
        let jwt =
            json!({"claims": {"scope": "meter/read"}, "scopes": ["meter/read", "meter/write"]});
        assert_eq!(status(&jwt, Scope::Write), 403);
    }

    #[test]
    fn caller_has_the_name_of_the_subject() {
        let name = |claims: Value| caller(&json!({"claims": claims})).unwrap().name;
        assert_eq!(name(json!({"sub": "ann", "client_id": "app"})).as_deref(), Some("ann"));
        assert_eq!(name(json!({"sub": "", "client_id": "app"})).as_deref(), Some("app"));
        assert_eq!(name(json!({"sub": 7})), None);
    }

    #[test]
    fn every_caller_is_authorized_without_authentication() {
        assert_eq!(authorize(Auth::None, None, Scope::Write), Ok(()));
    }
}
