//! How the train moves: it stands, accelerates, coasts and brakes, again and again.

use std::time::Duration;

use rand::RngExt;

use super::noise::SimRng;

/// What the driver does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrivingPhase {
    /// In a station, doors open: only the auxiliaries draw power.
    Standing,
    /// Motoring up to the speed of this leg.
    Accelerating,
    /// Rolling without traction.
    Coasting,
    /// Braking to a stop, with the motors as long as they can.
    Braking,
}

/// What a train can do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Performance {
    /// t
    pub mass: f64,
    /// Tractive and electric braking effort, N.
    pub max_effort: f64,
    /// At the wheel, W; when braking electrically as much.
    pub max_power: f64,
    /// m/s
    pub max_speed: f64,
    /// Heating, cooling, doors, light: W.
    pub auxiliaries: f64,
}

/// Rotating parts must be accelerated too.
const INERTIA: f64 = 1.08;
/// From the pantograph to the wheel, and the same way back.
const EFFICIENCY: f64 = 0.88;
/// The driver's handle moves over this many seconds, so currents ramp.
const RAMP_S: f64 = 4.0;
/// Below the first the motors cannot brake, above the second they brake fully: m/s.
const BLENDING: (f64, f64) = (1.5, 4.5);
/// Small enough for Euler's method at these time constants.
const STEP: Duration = Duration::from_millis(250);

/// A train in motion.
#[derive(Debug, Clone)]
pub struct Motion {
    performance: Performance,
    phase: DrivingPhase,
    /// Seconds in this phase.
    in_phase: f64,
    /// When this phase ends at the latest, s; for `Accelerating` and `Braking` speed decides.
    phase_length: f64,
    /// Of this leg, m/s.
    target_speed: f64,
    /// Of this leg, m/s².
    deceleration: f64,
    /// m/s
    speed: f64,
    /// m, since the beginning.
    distance: f64,
    /// At the pantograph, W; negative when the train gives back.
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

    /// What the driver does.
    pub fn phase(&self) -> DrivingPhase {
        self.phase
    }

    /// m/s
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// m, since the beginning.
    pub fn distance(&self) -> f64 {
        self.distance
    }

    /// What the train takes at the pantograph, W; negative when it gives back.
    pub fn power(&self) -> f64 {
        self.power
    }

    /// As a share of what the train can draw: about -1..1.
    pub fn load(&self) -> f64 {
        let most = self.performance.max_power / EFFICIENCY + self.performance.auxiliaries;
        self.power / most
    }

    /// Lets time pass, however much, in steps that the method bears.
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
        // The motors' effort at the wheel, and the friction brake's beside it.
        let (motors, friction) = match self.phase {
            DrivingPhase::Standing | DrivingPhase::Coasting => (0.0, 0.0),
            DrivingPhase::Accelerating => {
                (handle * max_effort.min(max_power / self.speed.max(1.0)), 0.0)
            }
            DrivingPhase::Braking => {
                let wanted = handle * (inertia * self.deceleration - resistance).max(0.0);
                let (none, full) = BLENDING;
                let blend = ((self.speed - none) / (full - none)).clamp(0.0, 1.0);
                let electric = wanted.min(blend * max_effort.min(max_power / self.speed.max(1.0)));
                (-electric, wanted - electric)
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

    /// Davis' formula: rolling friction, flange friction and air, N.
    fn resistance(&self) -> f64 {
        let mass = self.performance.mass;
        let v = self.speed;
        16.0 * mass + 0.25 * mass * v + (6.0 + 0.01 * mass) * v * v
    }

    fn update_phase(&mut self, rng: &mut SimRng) {
        let due = self.in_phase >= self.phase_length;
        let next = match self.phase {
            DrivingPhase::Standing => due.then_some(DrivingPhase::Accelerating),
            // A heavy train uphill may never reach the target: time ends the phase as well.
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
    fn a_train_goes_through_the_four_phases_in_order() {
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
        fn power_flows_the_way_the_phase_says(seed: u64) {
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
        fn no_train_exceeds_what_it_can_do(seed: u64) {
            ride(seed, 900, |train| {
                assert!(train.load().abs() <= 1.0 + 1e-9);
                assert!((0.0..=EMU.max_speed + 1.0).contains(&train.speed()));
            });
        }

        #[test]
        fn energy_is_not_made_from_nothing(seed: u64) {
            let mut energy = 0.0;
            ride(seed, 3_600, |train| energy += train.power());
            assert!(energy > 3_600.0 * EMU.auxiliaries);
        }
    }
}
