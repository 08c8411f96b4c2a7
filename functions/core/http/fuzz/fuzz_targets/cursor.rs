//! What clients send as `cursor` and `limit`.
#![no_main]

#[path = "../entry/cursor.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|input: &[u8]| entry::run(input));
