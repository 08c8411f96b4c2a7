//! Settings of the HTTP layer. `meter-runtime` reads them from the environment.

use crate::response_limit::MAX_ESCAPED_BYTES;

/// Who may use the REST API, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// `API_AUTH`: `jwt` (default) or `none`.
    pub auth: Auth,
    /// `CORS_ALLOW_ORIGIN`: origins whose pages may call the API: `*`, or origins separated by
    /// commas. Not set (default): none, and no CORS header is sent.
    pub cors: Origins,
    /// `MAX_RESPONSE_BYTES`: the most bytes of an answer, as they are counted in [`meter_http::size`]: 100,000 to
    /// 5,500,000, which is what a Lambda function can answer, and the default. Lists end a page there.
    pub max_response_bytes: u32,
}

impl Default for Api {
    fn default() -> Self {
        Self { auth: Auth::Jwt, cors: Origins::None, max_response_bytes: MAX_ESCAPED_BYTES }
    }
}

/// Whether callers prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// By a token that API Gateway has checked; without its claims the answer is 401.
    Jwt,
    /// They do not. Only for the local profile, which listens on loopback alone.
    None,
}

/// Origins of pages (RFC 6454) that may call the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// No page.
    None,
    /// Every page.
    Any,
    /// Pages of these.
    List(Vec<String>),
}
