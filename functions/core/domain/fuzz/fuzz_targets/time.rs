//! Times, and the file names that hold them.
#![no_main]

#[path = "../entry/time.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|input: &[u8]| entry::run(input));
