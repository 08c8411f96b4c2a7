//! Test doubles of the ports with fault injection, and HTTP calls. A dev-dependency only.

pub mod memory;

pub use meter_http::testing as http;
