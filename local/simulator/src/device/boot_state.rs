//! The volatile state of a device.

use std::time::Duration;

use super::sampler::Sampler;
use crate::clock::ClockReading;

/// The state that each power-on resets.
#[derive(Debug)]
pub(super) struct BootState {
    pub(super) boot: String,
    pub(super) since: Duration,
    pub(super) next_seq: u32,
    pub(super) connections: u64,
    pub(super) connected: bool,
    pub(super) sampler: Sampler,
    pub(super) next_send_at: Duration,
    pub(super) last_hello_at: Duration,
}

impl BootState {
    pub(super) fn new(boot: String, now: ClockReading, first_send: Duration) -> Self {
        Self {
            boot,
            since: now.elapsed,
            next_seq: 0,
            connections: 0,
            connected: false,
            sampler: Sampler::new(now),
            next_send_at: now.elapsed + first_send,
            last_hello_at: now.elapsed,
        }
    }
}
