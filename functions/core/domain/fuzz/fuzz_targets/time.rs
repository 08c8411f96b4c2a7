//! Fuzz target for times and file names.
#![no_main]

#[path = "../entry/time.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|input: &[u8]| entry::run(input));
