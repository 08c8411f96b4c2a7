//! In-memory stores with fault injection, and HTTP calls. A dev-dependency only.

pub mod memory;

pub use meter_http::testing as http;
