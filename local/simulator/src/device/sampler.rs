//! The samples of the next telemetry message.

use std::time::Duration;

use crate::clock::ClockReading;
use crate::message::{MAX_SAMPLES, Sample};
use crate::train::Meter;

/// The samples of a meter since the last message.
///
/// Samples are computed when the message is sent, with the same result as at their own times, so
/// that a device needs one timer a message and not one a sample.
#[derive(Debug)]
pub(super) struct Sampler {
    samples: Vec<Sample>,
    last_at: Duration,
    next_at: Duration,
}

impl Sampler {
    /// A sampler whose first sample is due now.
    pub(super) fn new(now: ClockReading) -> Self {
        Self { samples: Vec::new(), last_at: now.elapsed, next_at: now.elapsed }
    }

    /// Takes the samples that are due, as far as they fit into a message.
    pub(super) fn take(&mut self, meter: &mut Meter, cadence: Duration, now: ClockReading) {
        while self.next_at <= now.elapsed && self.remaining_capacity(meter) > 0 {
            let readings = meter.sample(self.next_at.saturating_sub(self.last_at));
            self.last_at = self.next_at;
            self.next_at += cadence;
            let ts = now.wall_at(self.last_at);
            self.samples.extend(readings.into_iter().map(|r| Sample::new(ts, r)));
        }
    }

    /// Sets the time of the next sample to one cadence after the last, but not in the past.
    pub(super) fn change_cadence(&mut self, cadence: Duration, now: ClockReading) {
        self.next_at = (self.last_at + cadence).max(now.elapsed);
    }

    /// Whether no more samples fit into a message.
    pub(super) fn is_full(&self, meter: &Meter) -> bool {
        self.remaining_capacity(meter) == 0
    }

    /// The time at which no more samples will fit into a message.
    pub(super) fn full_at(&self, meter: &Meter, cadence: Duration) -> Duration {
        let more =
            u32::try_from(self.remaining_capacity(meter).saturating_sub(1)).unwrap_or(u32::MAX);
        self.next_at + cadence * more
    }

    /// Returns the samples, and one of the temperature, which changes slowly.
    pub(super) fn drain(&mut self, meter: &mut Meter, now: ClockReading) -> Vec<Sample> {
        let mut measurements = std::mem::take(&mut self.samples);
        if !measurements.is_empty() {
            let temperature = meter.temperature();
            measurements.push(Sample::new(now.wall_at(self.last_at), temperature));
        }
        measurements
    }

    /// The number of samples that still fit, besides the temperature.
    fn remaining_capacity(&self, meter: &Meter) -> usize {
        (MAX_SAMPLES - 1 - self.samples.len()) / meter.readings_per_sample()
    }
}
