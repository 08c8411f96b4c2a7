//! The border to HTTP. Inside it a request is parsed and allowed; outside it nothing is known of ours.
//!
//! [`serve`] takes an [`event`] of API Gateway, finds its [`route`], checks [`access`], lets the function
//! handle the [`request`] and turns the [`answer`] or [`problem`] into what goes back. What the
//! routes of docs/api.md share is here, one thing a module: [`page`]s and their [`cursor`]s, time
//! [`range`]s, JSON [`body`] fields, [`idempotency`] keys, [`cors`], content [`encoding`] and
//! negotiation, and the [`size`] that an answer may have.

pub mod authorization;
pub mod body;
pub mod cors;
pub mod cursor;
pub mod encoding;
pub mod event;
pub mod idempotency;
pub mod page;
pub mod problem;
pub mod range;
pub mod request;
pub mod response;
pub mod response_limit;
pub mod route;
pub mod serve;
pub mod settings;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

pub use self::problem::{ApiError, Problem};
pub use self::request::Request;
pub use self::response::Response;
pub use self::route::{Route, RouteAuth};
