//! What all devices of a process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rumqttc::ConnectionError;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::config::Broker;
use crate::counters::Counters;
use crate::identities::Identities;

/// The clock, the counters and the common fate of a fleet.
#[derive(Debug)]
pub struct FleetContext {
    /// The time.
    pub clock: Clock,
    /// What happened.
    pub counters: Arc<Counters>,
    /// How long a device runs, about, until its power is cut.
    pub restart_every: Option<Duration>,
    /// Who the devices are to the broker.
    pub identities: Identities,
    /// Whether the last attempt to connect, of whichever device, failed.
    broker_unreachable: AtomicBool,
}

impl FleetContext {
    /// Surroundings in which the clock starts now.
    pub fn new(counters: Arc<Counters>, restart_every: Option<Duration>) -> Self {
        Self {
            clock: Clock::start(),
            counters,
            restart_every,
            identities: Identities::default(),
            broker_unreachable: AtomicBool::new(false),
        }
    }

    pub(crate) fn record_connect_failure(&self, broker: &Broker, error: &ConnectionError) {
        // Thousands of devices lose a broker at once: one of them may say so.
        if !self.broker_unreachable.swap(true, Ordering::Relaxed) {
            warn!(
                "no connection to the MQTT broker at {broker} ({error}): is it running? Trying again"
            );
        }
    }

    pub(crate) fn record_connect_success(&self, broker: &Broker) {
        if self.broker_unreachable.swap(false, Ordering::Relaxed) {
            info!("connected to the MQTT broker at {broker}");
        }
    }
}
