//! The readings of the meter: noisy, rounded values of the quantities of docs/protocol.md.

use std::time::Duration;

use rand::{RngExt, SeedableRng};

use super::motion::Motion;
use super::noise::{MeanRevertingNoise, SimRng, gaussian};
use super::supply::{PowerDraw, Supply, TractionSystem};

/// A measured quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// DC voltage at the pantograph.
    VoltageDc,
    /// DC current; negative when the train returns energy.
    CurrentDc,
    /// RMS voltage.
    VoltageAc,
    /// RMS current.
    CurrentAc,
    /// Line frequency.
    Frequency,
    /// Power factor; negative when the train returns energy.
    PowerFactor,
    /// Total harmonic distortion of the voltage.
    ThdVoltage,
    /// Total harmonic distortion of the current.
    ThdCurrent,
    /// Temperature of the converter.
    Temperature,
}

impl Quantity {
    /// `type` of a measurement.
    pub fn name(self) -> &'static str {
        match self {
            Self::VoltageDc => "voltage_dc",
            Self::CurrentDc => "current_dc",
            Self::VoltageAc => "voltage_ac",
            Self::CurrentAc => "current_ac",
            Self::Frequency => "frequency",
            Self::PowerFactor => "pf",
            Self::ThdVoltage => "thd_v",
            Self::ThdCurrent => "thd_i",
            Self::Temperature => "temperature",
        }
    }

    /// `unit` of a measurement; a power factor has none.
    pub fn unit(self) -> Option<&'static str> {
        match self {
            Self::VoltageDc | Self::VoltageAc => Some("V"),
            Self::CurrentDc | Self::CurrentAc => Some("A"),
            Self::Frequency => Some("Hz"),
            Self::PowerFactor => None,
            Self::ThdVoltage | Self::ThdCurrent => Some("%"),
            Self::Temperature => Some("Cel"),
        }
    }

    /// The resolution of the sensor, in steps per unit.
    fn resolution(self) -> f64 {
        match self {
            Self::PowerFactor | Self::Frequency => 1_000.0,
            Self::ThdVoltage | Self::ThdCurrent => 100.0,
            _ => 10.0,
        }
    }
}

/// A measured value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The quantity.
    pub quantity: Quantity,
    /// The value, in the unit of the quantity.
    pub value: f64,
}

/// A meter and its train.
#[derive(Debug, Clone)]
pub struct Meter {
    system: TractionSystem,
    motion: Motion,
    supply: Supply,
    frequency: MeanRevertingNoise,
    distortion: MeanRevertingNoise,
    /// Outside temperature, °C.
    ambient: f64,
    /// Temperature of the converter, °C.
    temperature: f64,
    rng: SimRng,
}

/// Final temperature of the converter above the outside at full load, K.
const HEATING: f64 = 38.0;
/// The time constant of the temperature of the converter.
const THERMAL_TIME_CONSTANT_S: f64 = 600.0;

impl Meter {
    /// A meter on a train in service; the same seed produces the same ride.
    pub fn new(system: TractionSystem, seed: u64) -> Self {
        let mut rng = SimRng::seed_from_u64(seed);
        let ambient = rng.random_range(-5.0..30.0);
        let mut motion = Motion::new(system.performance(), &mut rng);
        // The trains of a fleet are not synchronized.
        let head_start = rng.random_range(0..300);
        motion.advance(Duration::from_secs(head_start), &mut rng);
        Self {
            system,
            motion,
            supply: Supply::new(system),
            frequency: MeanRevertingNoise::new(0.02, Duration::from_secs(30)),
            distortion: MeanRevertingNoise::new(0.3, Duration::from_secs(20)),
            ambient,
            temperature: ambient + 8.0,
            rng,
        }
    }

    /// The motion of the train.
    pub fn motion(&self) -> &Motion {
        &self.motion
    }

    /// The number of readings that [`Meter::sample`] returns.
    pub fn readings_per_sample(&self) -> usize {
        if self.system.is_dc() { 2 } else { 6 }
    }

    /// Advances the time by `dt` and reads the electrical quantities.
    pub fn sample(&mut self, dt: Duration) -> Vec<Reading> {
        let rng = &mut self.rng;
        self.motion.advance(dt, rng);
        let load = self.motion.load();
        let (power, place) = (self.motion.power(), self.motion.distance());
        let draw = self.supply.advance(dt, power, load, place, rng);
        let settled = self.ambient + 8.0 + HEATING * load * load;
        let keep = (-dt.as_secs_f64() / THERMAL_TIME_CONSTANT_S).exp();
        self.temperature = settled + (self.temperature - settled) * keep;
        if self.system.is_dc() { self.read_dc(draw) } else { self.read_ac(dt, draw, load) }
    }

    /// Reads the temperature, which changes slowly.
    pub fn temperature(&mut self) -> Reading {
        let value = self.temperature + gaussian(&mut self.rng, 0.1);
        reading(Quantity::Temperature, value)
    }

    fn read_dc(&mut self, draw: PowerDraw) -> Vec<Reading> {
        let rng = &mut self.rng;
        vec![
            reading(Quantity::VoltageDc, draw.voltage * (1.0 + gaussian(rng, 0.000_5))),
            reading(Quantity::CurrentDc, draw.current + gaussian(rng, 0.4)),
        ]
    }

    fn read_ac(&mut self, dt: Duration, draw: PowerDraw, load: f64) -> Vec<Reading> {
        let rng = &mut self.rng;
        let frequency = self.system.frequency() + self.frequency.advance(dt, rng);
        let distortion = self.distortion.advance(dt, rng);
        let load = load.abs();
        vec![
            reading(Quantity::VoltageAc, draw.voltage * (1.0 + gaussian(rng, 0.000_5))),
            reading(Quantity::CurrentAc, (draw.current + gaussian(rng, 0.1)).max(0.0)),
            reading(Quantity::Frequency, frequency),
            reading(
                Quantity::PowerFactor,
                (draw.power_factor + gaussian(rng, 0.002)).clamp(-1.0, 1.0),
            ),
            reading(Quantity::ThdVoltage, (1.6 + 2.4 * load + distortion).max(0.1)),
            // Harmonics depend little on the load, so they are a large share of a small current.
            reading(Quantity::ThdCurrent, (3.5 + 26.0 / (1.0 + 14.0 * load) + distortion).max(0.1)),
        ]
    }
}

fn reading(quantity: Quantity, value: f64) -> Reading {
    let steps = quantity.resolution();
    Reading { quantity, value: (value * steps).round() / steps }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::motion::DrivingPhase;
    use super::*;

    const SYSTEMS: [TractionSystem; 4] = [
        TractionSystem::Dc1500V,
        TractionSystem::Dc3000V,
        TractionSystem::Ac15kV,
        TractionSystem::Ac25kV,
    ];

    /// The plausible ranges of docs/protocol.md.
    fn plausible(quantity: Quantity) -> std::ops::RangeInclusive<f64> {
        match quantity {
            Quantity::VoltageDc => 0.0..=4_000.0,
            Quantity::CurrentDc => -5_000.0..=5_000.0,
            Quantity::VoltageAc => 0.0..=30_000.0,
            Quantity::CurrentAc => 0.0..=2_000.0,
            Quantity::Frequency => 0.0..=60.0,
            Quantity::PowerFactor => -1.0..=1.0,
            Quantity::ThdVoltage | Quantity::ThdCurrent => 0.0..=100.0,
            Quantity::Temperature => -60.0..=125.0,
        }
    }

    fn value(readings: &[Reading], quantity: Quantity) -> f64 {
        readings.iter().find(|r| r.quantity == quantity).unwrap().value
    }

    proptest! {
        #[test]
        fn readings_are_in_their_plausible_range(
            seed: u64,
            which in 0..4_usize,
            cadence_ms in 100..60_000_u64,
        ) {
            let mut meter = Meter::new(SYSTEMS[which], seed);
            for _ in 0..300 {
                let mut readings = meter.sample(Duration::from_millis(cadence_ms));
                prop_assert_eq!(readings.len(), meter.readings_per_sample());
                readings.push(meter.temperature());
                for r in readings {
                    prop_assert!(plausible(r.quantity).contains(&r.value), "{:?}", r);
                }
            }
        }

        #[test]
        fn same_seed_produces_same_ride(seed: u64, which in 0..4_usize) {
            let mut a = Meter::new(SYSTEMS[which], seed);
            let mut b = Meter::new(SYSTEMS[which], seed);
            for _ in 0..60 {
                prop_assert_eq!(a.sample(Duration::from_secs(1)), b.sample(Duration::from_secs(1)));
            }
        }
    }

    #[test]
    fn dc_train_draws_current_accelerating_and_returns_it_braking() {
        for system in [TractionSystem::Dc1500V, TractionSystem::Dc3000V] {
            let mut meter = Meter::new(system, 3);
            let (mut most, mut least) = (f64::MIN, f64::MAX);
            for _ in 0..3_600 {
                let readings = meter.sample(Duration::from_secs(1));
                let current = value(&readings, Quantity::CurrentDc);
                match meter.motion().phase() {
                    DrivingPhase::Accelerating => most = most.max(current),
                    DrivingPhase::Braking => least = least.min(current),
                    DrivingPhase::Standing | DrivingPhase::Coasting => {}
                }
            }
            assert!(most > 800.0, "{system}: at most {most} A");
            assert!(least < -300.0, "{system}: at least {least} A");
        }
    }

    #[test]
    fn ac_power_factor_is_negative_while_energy_is_returned() {
        let mut meter = Meter::new(TractionSystem::Ac15kV, 5);
        let mut braked = 0;
        for _ in 0..3_600 {
            let readings = meter.sample(Duration::from_secs(1));
            if meter.motion().power() < -2e6 {
                assert!(value(&readings, Quantity::PowerFactor) < -0.9);
                braked += 1;
            }
        }
        assert!(braked > 30, "an hour of service has more than {braked} s of hard braking");
    }
}
