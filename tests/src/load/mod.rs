//! Load: many messages in, all of them out again, each exactly once.
//!
//! [`model`] is what is published and what must be readable afterwards, [`publisher`] publishes and
//! counts the broker's acknowledgements, [`rest`] reads the API page by page, [`compare`] holds what
//! was read against the model. [`throughput`] and [`latency`] put them together; the binary `load`
//! prints what they find.

pub mod compare;
pub mod latency;
pub mod model;
pub mod publisher;
pub mod rest;
pub mod throughput;
