//! Fuzz target for messages.
#![no_main]

#[path = "../entry/message.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|input: &[u8]| entry::run(input));
