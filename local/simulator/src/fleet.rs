//! A fleet: many devices in one process, their ids, and their start and stop.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

use crate::config::Configuration;
use crate::connection::run;
use crate::device::{Device, Specification};
use crate::faults::FaultRates;
use crate::fleet_context::FleetContext;
use crate::session::random_id;
use crate::train::TractionSystem;

/// The plan of a fleet.
#[derive(Debug, Clone)]
pub struct FleetPlan {
    /// The devices, in the order of their start.
    pub devices: Vec<FleetMember>,
    /// The initial configuration of each device.
    pub config: Configuration,
    /// The initial firmware version of each device.
    pub fw_version: semver::Version,
    /// The network faults of each device.
    pub faults: FaultRates,
    /// The capacity of the send buffer of each device, in messages.
    pub buffer: usize,
    /// The number of telemetry messages after which each device stops.
    pub count: Option<u64>,
    /// The seed of all rides and faults.
    pub seed: u64,
    /// New connections per second at the start.
    pub connect_rate: u32,
}

/// One device of a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetMember {
    /// The device id.
    pub device_id: String,
    /// The system that the meter measures.
    pub system: TractionSystem,
}

/// The simulated devices that `devstack run` registers. Every default fleet begins with them.
const DEFAULT_DEVICES: [(&str, TractionSystem); 3] = [
    ("sim-dc-001", TractionSystem::Dc1500V),
    ("sim-dc-002", TractionSystem::Dc3000V),
    ("sim-ac-001", TractionSystem::Ac15kV),
];

/// DC and AC in turn.
const SYSTEMS: [TractionSystem; 4] = [
    TractionSystem::Dc1500V,
    TractionSystem::Ac15kV,
    TractionSystem::Dc3000V,
    TractionSystem::Ac25kV,
];

/// The default fleet of `count` devices: `sim-dc-001`, `sim-dc-002`, `sim-ac-001`, `sim-0004` and
/// so on.
pub fn default_fleet(count: usize) -> Vec<FleetMember> {
    let samples = DEFAULT_DEVICES
        .iter()
        .map(|&(id, system)| FleetMember { device_id: id.to_owned(), system });
    let more = numbered_fleet("sim", count).into_iter().skip(DEFAULT_DEVICES.len());
    samples.take(count).chain(more).collect()
}

/// A fleet of `count` devices with the ids `{prefix}-0001` and so on.
pub fn numbered_fleet(prefix: &str, count: usize) -> Vec<FleetMember> {
    let systems = SYSTEMS.iter().cycle();
    (1..=count)
        .zip(systems)
        .map(|(n, &system)| FleetMember { device_id: format!("{prefix}-{n:04}"), system })
        .collect()
}

/// A fleet of devices with these ids; an id that begins with `dc` or `ac` selects the type of
/// meter.
pub fn named_fleet(ids: &[String]) -> Vec<FleetMember> {
    ids.iter()
        .zip(SYSTEMS.iter().cycle())
        .map(|(id, &system)| {
            let system = match id.get(..2) {
                Some("dc") if !system.is_dc() => TractionSystem::Dc1500V,
                Some("ac") if system.is_dc() => TractionSystem::Ac15kV,
                _ => system,
            };
            FleetMember { device_id: id.clone(), system }
        })
        .collect()
}

/// Runs the fleet until `stop` becomes true or every device has stopped, and returns the number of
/// undelivered messages.
pub async fn run_fleet(
    plan: FleetPlan,
    fleet_context: Arc<FleetContext>,
    mut stop: watch::Receiver<bool>,
) -> usize {
    let mut devices = JoinSet::new();
    let pause = Duration::from_secs(1) / plan.connect_rate.max(1);
    let began = tokio::time::Instant::now();
    for (n, member) in plan.devices.iter().enumerate() {
        let start_at = began + pause * u32::try_from(n).unwrap_or(u32::MAX);
        let stopped = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => true,
            () = tokio::time::sleep_until(start_at) => false,
        };
        if stopped {
            break;
        }
        let (device, rng) = create_device(&plan, member, &fleet_context);
        devices.spawn(run(device, Arc::clone(&fleet_context), stop.clone(), rng));
    }
    let mut undelivered = 0;
    while let Some(ended) = devices.join_next().await {
        match ended {
            Ok(left) => undelivered += left,
            Err(failure) => error!("a device has crashed: {failure}"),
        }
    }
    undelivered
}

fn create_device(
    plan: &FleetPlan,
    member: &FleetMember,
    fleet_context: &FleetContext,
) -> (Device, Xoshiro256PlusPlus) {
    let mut hash = DefaultHasher::new();
    (plan.seed, &member.device_id).hash(&mut hash);
    let seed = hash.finish();
    // A sequence separate from the device's, so that connecting does not change the ride.
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(!seed);
    let spec = Specification {
        device_id: member.device_id.clone(),
        system: member.system,
        fw_version: plan.fw_version.clone(),
        config: plan.config.clone(),
        faults: plan.faults,
        buffer: plan.buffer,
        seed,
        count: plan.count,
    };
    let phase = rng.random_range(0.1..1.0);
    let counters = Arc::clone(&fleet_context.counters);
    let device = Device::new(spec, random_id(), phase, fleet_context.clock.now(), counters);
    (device, rng)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(fleet: &[FleetMember]) -> Vec<&str> {
        fleet.iter().map(|member| member.device_id.as_str()).collect()
    }

    #[test]
    fn default_fleet_begins_with_the_registered_devices() {
        assert_eq!(ids(&default_fleet(2)), ["sim-dc-001", "sim-dc-002"]);
        assert_eq!(
            ids(&default_fleet(5)),
            ["sim-dc-001", "sim-dc-002", "sim-ac-001", "sim-0004", "sim-0005"]
        );
    }

    #[test]
    fn numbered_fleet_alternates_dc_and_ac() {
        let fleet = numbered_fleet("tram", 6);
        assert_eq!(fleet[0].device_id, "tram-0001");
        let dc: Vec<_> = fleet.iter().map(|member| member.system.is_dc()).collect();
        assert_eq!(dc, [true, false, true, false, true, false]);
    }

    #[test]
    fn id_prefix_selects_dc_or_ac() {
        let names = ["x", "dc-1", "ac-1", "é"].map(str::to_owned);
        let dc: Vec<_> = named_fleet(&names).iter().map(|m| m.system.is_dc()).collect();
        assert_eq!(dc, [true, true, false, false]);
    }
}
