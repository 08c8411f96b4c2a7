//! The overhead line: voltage and current for a given power.

use std::fmt;
use std::time::Duration;

use super::motion::Performance;
use super::noise::{MeanRevertingNoise, SimRng};

/// A traction power supply system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TractionSystem {
    /// 1.5 kV DC
    Dc1500V,
    /// 3 kV DC
    Dc3000V,
    /// 15 kV, 16.7 Hz
    Ac15kV,
    /// 25 kV, 50 Hz
    Ac25kV,
}

/// Parameters of a system; voltages by EN 50163.
struct LineParameters {
    /// Voltage at the substation without load, V.
    no_load: f64,
    /// Maximum voltage while a train returns energy, V.
    highest: f64,
    /// Resistance at the substation, Ω.
    feeder: f64,
    /// Resistance of the line, Ω/km.
    per_km: f64,
    /// Distance between substations, km.
    spacing: f64,
}

impl TractionSystem {
    /// Whether the system is DC.
    pub fn is_dc(self) -> bool {
        matches!(self, Self::Dc1500V | Self::Dc3000V)
    }

    /// Nominal frequency, Hz; 0 for DC.
    pub fn frequency(self) -> f64 {
        match self {
            Self::Dc1500V | Self::Dc3000V => 0.0,
            Self::Ac15kV => 16.7,
            Self::Ac25kV => 50.0,
        }
    }

    pub(crate) fn performance(self) -> Performance {
        let (mass, max_effort, max_power, max_speed, auxiliaries) = match self {
            Self::Dc1500V => (150.0, 160e3, 1.5e6, 36.0, 90e3),
            Self::Dc3000V => (300.0, 250e3, 3.5e6, 44.0, 180e3),
            Self::Ac15kV => (350.0, 280e3, 5.0e6, 50.0, 260e3),
            Self::Ac25kV => (420.0, 300e3, 6.4e6, 55.0, 320e3),
        };
        Performance { mass, max_effort, max_power, max_speed, auxiliaries }
    }

    fn line(self) -> LineParameters {
        let (no_load, highest, feeder, per_km, spacing) = match self {
            Self::Dc1500V => (1_650.0, 1_800.0, 0.02, 0.02, 8.0),
            Self::Dc3000V => (3_300.0, 3_600.0, 0.04, 0.025, 20.0),
            Self::Ac15kV => (16_000.0, 17_250.0, 1.0, 0.15, 40.0),
            Self::Ac25kV => (26_250.0, 27_500.0, 1.5, 0.25, 50.0),
        };
        LineParameters { no_load, highest, feeder, per_km, spacing }
    }
}

impl fmt::Display for TractionSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dc1500V => "1.5 kV DC",
            Self::Dc3000V => "3 kV DC",
            Self::Ac15kV => "15 kV 16.7 Hz",
            Self::Ac25kV => "25 kV 50 Hz",
        })
    }
}

/// The electrical state of the train at one instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PowerDraw {
    /// Voltage at the pantograph, V.
    pub voltage: f64,
    /// Current, A: negative for DC when energy is returned; RMS for AC.
    pub current: f64,
    /// Power factor: 1 for DC; negative for AC when energy is returned.
    pub power_factor: f64,
}

/// The line at one train.
#[derive(Debug, Clone)]
pub(crate) struct Supply {
    system: TractionSystem,
    /// Voltage change by other trains on the section, as a share of the nominal voltage.
    neighbour_load: MeanRevertingNoise,
}

impl Supply {
    pub(crate) fn new(system: TractionSystem) -> Self {
        Self { system, neighbour_load: MeanRevertingNoise::new(0.01, Duration::from_secs(60)) }
    }

    /// Advances the time by `dt` and returns the electrical state for `power` (W), its share `load`
    /// of the maximum, and the position `place` (m).
    pub(crate) fn advance(
        &mut self,
        dt: Duration,
        power: f64,
        load: f64,
        place: f64,
        rng: &mut SimRng,
    ) -> PowerDraw {
        let line = self.system.line();
        let no_load = line.no_load * (1.0 + self.neighbour_load.advance(dt, rng));
        let no_load = no_load.min(line.highest);
        let km = (place / 1_000.0).rem_euclid(line.spacing);
        let resistance = line.feeder + line.per_km * km.min(line.spacing - km);
        let power_factor = if self.system.is_dc() { 1.0 } else { power_factor(load) };
        let flow = flow(no_load, resistance, line.highest, power / power_factor.abs());
        if self.system.is_dc() {
            PowerDraw { voltage: flow.0, current: flow.1, power_factor }
        } else {
            PowerDraw { voltage: flow.0, current: flow.1.abs(), power_factor }
        }
    }
}

/// The power factor of four-quadrant converters: near one under load, lower when filters and
/// transformer dominate.
fn power_factor(load: f64) -> f64 {
    let magnitude = 0.72 + 0.27 * (load.abs() / 0.25).min(1.0);
    if load < 0.0 { -magnitude } else { magnitude }
}

/// Voltage and current of a train that takes `power` W from a source of `no_load` V behind
/// `resistance` Ω: `U = U₀ - R·I` and `P = U·I`, the solution with the higher voltage.
fn flow(no_load: f64, resistance: f64, highest: f64, power: f64) -> (f64, f64) {
    // The train limits itself to what the line can carry, as EN 50388 requires.
    let most = 0.9 * no_load * no_load / (4.0 * resistance);
    let power = power.min(most);
    let root = (no_load * no_load - 4.0 * resistance * power).sqrt();
    let voltage = (no_load + root) / 2.0;
    if voltage <= highest {
        return (voltage, (no_load - voltage) / resistance);
    }
    // The rest of the braking power is dissipated in the brake resistors.
    (highest, (no_load - highest) / resistance)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    proptest! {
        #[test]
        fn product_of_voltage_and_current_is_the_power(power in 1e3..6e6_f64, resistance in 0.02..0.1_f64) {
            let (voltage, current) = flow(3_300.0, resistance, 3_600.0, power);
            prop_assert!((voltage * current - power).abs() < 1.0);
            prop_assert!(voltage < 3_300.0);
        }

        #[test]
        fn returned_energy_raises_voltage_up_to_its_limit(power in -6e6..-1e3_f64) {
            let (voltage, current) = flow(1_650.0, 0.05, 1_800.0, power);
            prop_assert!(current < 0.0);
            prop_assert!(voltage > 1_650.0 && voltage <= 1_800.0);
        }

        #[test]
        fn power_beyond_line_capacity_gives_finite_values(power in 1e7..1e9_f64) {
            let (voltage, current) = flow(1_650.0, 0.1, 1_800.0, power);
            prop_assert!(voltage > 0.0 && current.is_finite());
        }
    }

    #[test]
    fn voltage_drops_with_distance_from_substation() {
        let mut near = Supply::new(TractionSystem::Ac25kV);
        let mut far = near.clone();
        let (mut a, mut b) = (SimRng::seed_from_u64(1), SimRng::seed_from_u64(1));
        let dt = Duration::from_secs(1);
        let near = near.advance(dt, 5e6, 0.8, 0.0, &mut a);
        let far = far.advance(dt, 5e6, 0.8, 25_000.0, &mut b);
        assert!(far.voltage < near.voltage - 500.0);
    }
}
