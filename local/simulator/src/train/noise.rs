//! Random disturbances from a seeded generator.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

/// The generator of all randomness that repeats with the same `--seed`.
pub(crate) type SimRng = Xoshiro256PlusPlus;

/// A sample of an approximately normal distribution with mean 0 and standard deviation `sigma`,
/// within 3 `sigma`: the sum of three uniform samples.
pub(crate) fn gaussian(rng: &mut SimRng, sigma: f64) -> f64 {
    let sum: f64 = (0..3).map(|_| rng.random::<f64>()).sum();
    (sum - 1.5) * 2.0 * sigma
}

/// An Ornstein–Uhlenbeck process around zero.
#[derive(Debug, Clone)]
pub(crate) struct MeanRevertingNoise {
    value: f64,
    sigma: f64,
    time_constant: Duration,
}

impl MeanRevertingNoise {
    pub(crate) fn new(sigma: f64, time_constant: Duration) -> Self {
        Self { value: 0.0, sigma, time_constant }
    }

    /// Advances the time by `dt`, with the exact discretization: the variance does not depend on
    /// `dt`.
    pub(crate) fn advance(&mut self, dt: Duration, rng: &mut SimRng) -> f64 {
        let keep = (-dt.as_secs_f64() / self.time_constant.as_secs_f64()).exp();
        let kick = self.sigma * (1.0 - keep * keep).sqrt();
        self.value = self.value * keep + gaussian(rng, kick);
        self.value
    }
}
