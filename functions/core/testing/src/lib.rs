//! In-memory stores with fault injection, fixtures, the contract suite of the ports, and HTTP
//! calls. A dev-dependency only.

pub mod contract;
pub mod fixtures;
pub mod memory;

pub use meter_http::testing as http;
