//! What clients send as `start` and `stop`.
#![no_main]

#[path = "../entry/range.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|input: &[u8]| entry::run(input));
