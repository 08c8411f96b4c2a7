//! Settings of the HTTP layer. `meter-runtime` reads them from the environment.

use crate::response_limit::MAX_ESCAPED_BYTES;

/// The callers and the responses of the REST API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// `API_AUTH`: `jwt` (default) or `none`.
    pub auth: Auth,
    /// `CORS_ALLOW_ORIGIN`: origins whose pages may call the API: `*`, or origins separated by
    /// commas. Not set (default): none, and no response has a CORS header.
    pub cors: Origins,
    /// `MAX_RESPONSE_BYTES`: the most bytes of a response, as [`crate::response_limit`] counts
    /// them: 100,000 to 5,500,000 (default), the limit of a Lambda function. Lists end a page
    /// there.
    pub max_response_bytes: u32,
}

impl Default for Api {
    fn default() -> Self {
        Self { auth: Auth::Jwt, cors: Origins::None, max_response_bytes: MAX_ESCAPED_BYTES }
    }
}

/// Authentication of callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// A token that API Gateway has checked; without its claims the response is 401.
    Jwt,
    /// None: for the local profile only, which listens on loopback.
    None,
}

/// Origins of pages (RFC 6454) that may call the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// No page.
    None,
    /// Every page.
    Any,
    /// Pages of these origins.
    List(Vec<String>),
}
