//! The HTTP layer of the REST functions: `axum` and `lambda_http` with the conventions of
//! docs/api.md.
//!
//! [`App`] converts an [`event`] of API Gateway into a request, puts layers around the routes of a
//! function, and authorizes each request by the route table ([`routes`]). The handlers of a
//! function read the request with the extractors of [`extract`], [`page`] and [`idempotency`], and
//! fail with an [`ApiError`], which becomes problem details.

mod app;
pub mod authorization;
pub mod conditional;
pub mod cors;
pub mod cursor;
pub mod event;
pub mod extract;
pub mod fields;
pub mod idempotency;
mod negotiation;
pub mod page;
pub mod problem;
pub mod range;
pub mod response_limit;
pub mod routes;
pub mod settings;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

pub use self::app::App;
pub use self::problem::{ApiError, Problem};
