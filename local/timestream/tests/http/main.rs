//! Tests of the emulator through HTTP and through AWS clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod clients;
mod databases;
mod expressions;
mod invalid_input;
mod pages;
mod queries;
mod random;
mod server;
mod writes;
