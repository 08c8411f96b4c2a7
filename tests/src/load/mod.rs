//! Load test: publishes many messages and verifies that each of them is stored exactly once.
//!
//! [`model`] defines the messages, [`publisher`] publishes them, [`rest`] reads the API and
//! [`compare`] compares the results with the model. [`throughput`] and [`latency`] are the two
//! measurements of the binary `load`.

pub mod compare;
pub mod latency;
pub mod model;
pub mod publisher;
pub mod rest;
pub mod throughput;
