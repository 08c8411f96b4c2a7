//! The motion of the train, which stands, accelerates, coasts and brakes in a cycle.

use std::time::Duration;

use rand::RngExt;

use super::noise::SimRng;

/// A phase of driving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrivingPhase {
    /// In a station, doors open: only the auxiliaries draw power.
    Standing,
    /// Accelerating to the target speed of the leg.
    Accelerating,
    /// Rolling without traction.
    Coasting,
    /// Braking to a stop, with the motors as far as possible.
    Braking,
}

/// The performance of a train.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Performance {
    /// Mass, t.
    pub mass: f64,
    /// Tractive and electric braking effort, N.
    pub max_effort: f64,
    /// Power at the wheel, for traction and electric braking, W.
    pub max_power: f64,
    /// Maximum speed, m/s.
    pub max_speed: f64,
    /// Power of heating, cooling, doors and light, W.
    pub auxiliaries: f64,
}

/// Factor of the mass for rotating parts.
const INERTIA: f64 = 1.08;
/// Efficiency from the pantograph to the wheel, and back.
const EFFICIENCY: f64 = 0.88;
/// The time in which the effort rises, so that currents ramp.
const RAMP_S: f64 = 4.0;
/// Speeds below which the motors cannot brake, and above which they brake fully, m/s.
const BLENDING: (f64, f64) = (1.5, 4.5);
/// A step that is small enough for Euler's method at these time constants.
const STEP: Duration = Duration::from_millis(250);

/// A train in motion.
#[derive(Debug, Clone)]
pub struct Motion {
    performance: Performance,
    phase: DrivingPhase,
    /// Time in this phase, s.
    in_phase: f64,
    /// The maximum length of this phase, s; `Accelerating` and `Braking` end by speed.
    phase_length: f64,
    /// Target speed of this leg, m/s.
    target_speed: f64,
    /// Deceleration of this leg, m/s².
    deceleration: f64,
    /// Speed, m/s.
    speed: f64,
    /// Distance since the beginning, m.
    distance: f64,
    /// Power at the pantograph, W; negative when the train returns energy.
    power: f64,
}

impl Motion {
    pub(crate) fn new(performance: Performance, rng: &mut SimRng) -> Self {
        Self {
            performance,
            phase: DrivingPhase::Standing,
            in_phase: 0.0,
            phase_length: rng.random_range(2.0..30.0),
            target_speed: 0.0,
            deceleration: 0.7,
            speed: 0.0,
            distance: 0.0,
            power: performance.auxiliaries,
        }
    }

    /// The current phase.
    pub fn phase(&self) -> DrivingPhase {
        self.phase
    }

    /// Speed, m/s.
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// Distance since the beginning, m.
    pub fn distance(&self) -> f64 {
        self.distance
    }

    /// Power at the pantograph, W; negative when the train returns energy.
    pub fn power(&self) -> f64 {
        self.power
    }

    /// Power as a share of the maximum: about -1 to 1.
    pub fn load(&self) -> f64 {
        let most = self.performance.max_power / EFFICIENCY + self.performance.auxiliaries;
        self.power / most
    }

    /// Advances the time by `dt`, in steps.
    pub(crate) fn advance(&mut self, dt: Duration, rng: &mut SimRng) {
        let mut left = dt;
        while left > Duration::ZERO {
            let step = left.min(STEP);
            self.step(step.as_secs_f64(), rng);
            left -= step;
        }
    }

    fn step(&mut self, dt: f64, rng: &mut SimRng) {
        self.in_phase += dt;
        let handle = (self.in_phase / RAMP_S).min(1.0);
        let Performance { mass, max_effort, max_power, auxiliaries, .. } = self.performance;
        let inertia = mass * 1_000.0 * INERTIA;
        let resistance = if self.speed > 0.0 { self.resistance() } else { 0.0 };
        // The efforts of motors and friction brake at the wheel.
        let (motors, friction) = match self.phase {
            DrivingPhase::Standing | DrivingPhase::Coasting => (0.0, 0.0),
            DrivingPhase::Accelerating => {
                (handle * max_effort.min(max_power / self.speed.max(1.0)), 0.0)
            }
            DrivingPhase::Braking => {
                let required = handle * (inertia * self.deceleration - resistance).max(0.0);
                let (none, full) = BLENDING;
                let blend = ((self.speed - none) / (full - none)).clamp(0.0, 1.0);
                let electric =
                    required.min(blend * max_effort.min(max_power / self.speed.max(1.0)));
                (-electric, required - electric)
            }
        };
        let mechanical = motors * self.speed;
        let acceleration = (motors - friction - resistance) / inertia;
        self.speed = (self.speed + acceleration * dt).max(0.0);
        self.distance += self.speed * dt;
        let electrical =
            if mechanical < 0.0 { mechanical * EFFICIENCY } else { mechanical / EFFICIENCY };
        self.power = auxiliaries + electrical;
        self.update_phase(rng);
    }

    /// Davis formula: rolling friction, flange friction and drag, N.
    fn resistance(&self) -> f64 {
        let mass = self.performance.mass;
        let v = self.speed;
        16.0 * mass + 0.25 * mass * v + (6.0 + 0.01 * mass) * v * v
    }

    fn update_phase(&mut self, rng: &mut SimRng) {
        let due = self.in_phase >= self.phase_length;
        let next = match self.phase {
            DrivingPhase::Standing => due.then_some(DrivingPhase::Accelerating),
            // A heavy train may not reach the target speed: time also ends the phase.
            DrivingPhase::Accelerating => {
                (self.speed >= self.target_speed || due).then_some(DrivingPhase::Coasting)
            }
            DrivingPhase::Coasting => {
                (self.speed < 0.75 * self.target_speed || due).then_some(DrivingPhase::Braking)
            }
            DrivingPhase::Braking => (self.speed <= 0.0).then_some(DrivingPhase::Standing),
        };
        if let Some(phase) = next {
            self.enter(phase, rng);
        }
    }

    fn enter(&mut self, phase: DrivingPhase, rng: &mut SimRng) {
        self.phase = phase;
        self.in_phase = 0.0;
        self.phase_length = match phase {
            DrivingPhase::Standing => rng.random_range(20.0..50.0),
            DrivingPhase::Accelerating => 180.0,
            DrivingPhase::Coasting => rng.random_range(15.0..90.0),
            DrivingPhase::Braking => f64::INFINITY,
        };
        if phase == DrivingPhase::Accelerating {
            self.target_speed = self.performance.max_speed * rng.random_range(0.45..1.0);
            self.deceleration = rng.random_range(0.55..0.9);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    const EMU: Performance = Performance {
        mass: 150.0,
        max_effort: 160e3,
        max_power: 1.5e6,
        max_speed: 36.0,
        auxiliaries: 90e3,
    };

    fn ride(seed: u64, seconds: u32, mut see: impl FnMut(&Motion)) {
        let mut rng = SimRng::seed_from_u64(seed);
        let mut train = Motion::new(EMU, &mut rng);
        for _ in 0..seconds {
            train.advance(Duration::from_secs(1), &mut rng);
            see(&train);
        }
    }

    #[test]
    fn phases_follow_each_other_in_order() {
        let mut phases = vec![DrivingPhase::Standing];
        ride(7, 1_200, |train| {
            if phases.last() != Some(&train.phase()) {
                phases.push(train.phase());
            }
        });
        let cycle = [
            DrivingPhase::Standing,
            DrivingPhase::Accelerating,
            DrivingPhase::Coasting,
            DrivingPhase::Braking,
        ];
        assert!(phases.len() > 8, "two legs in twenty minutes, but it was {phases:?}");
        assert!(phases.iter().zip(cycle.iter().cycle()).all(|(seen, due)| seen == due));
    }

    proptest! {
        #[test]
        fn power_direction_matches_the_phase(seed: u64) {
            ride(seed, 900, |train| match train.phase() {
                DrivingPhase::Standing | DrivingPhase::Coasting if train.in_phase > 1.0 => {
                    assert_eq!(train.power(), EMU.auxiliaries);
                }
                DrivingPhase::Accelerating if train.in_phase > RAMP_S => {
                    assert!(train.power() > 3.0 * EMU.auxiliaries);
                }
                DrivingPhase::Braking if train.in_phase > RAMP_S && train.speed() > 8.0 => {
                    assert!(train.power() < -EMU.auxiliaries);
                }
                _ => {}
            });
        }

        #[test]
        fn load_and_speed_stay_within_performance(seed: u64) {
            ride(seed, 900, |train| {
                assert!(train.load().abs() <= 1.0 + 1e-9);
                assert!((0.0..=EMU.max_speed + 1.0).contains(&train.speed()));
            });
        }

        #[test]
        fn returned_energy_is_less_than_drawn_energy(seed: u64) {
            let mut energy = 0.0;
            ride(seed, 3_600, |train| energy += train.power());
            assert!(energy > 3_600.0 * EMU.auxiliaries);
        }
    }
}
