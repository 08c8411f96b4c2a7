//! State that all devices of a process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rumqttc::ConnectionError;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::config::Broker;
use crate::counters::Counters;
use crate::identities::Identities;

/// The clock, counters and credentials of a fleet.
#[derive(Debug)]
pub struct FleetContext {
    /// The clock.
    pub clock: Clock,
    /// The counters.
    pub counters: Arc<Counters>,
    /// The average time between power failures of a device.
    pub restart_every: Option<Duration>,
    /// The TLS credentials of the devices.
    pub identities: Identities,
    /// Whether the last attempt of any device to connect failed.
    broker_unreachable: AtomicBool,
}

impl FleetContext {
    /// A context whose clock starts now.
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
        // Thousands of devices can lose the broker at once: one of them logs it.
        if !self.broker_unreachable.swap(true, Ordering::Relaxed) {
            warn!(
                "cannot connect to the MQTT broker at {broker} ({error}): is it running? Retrying"
            );
        }
    }

    pub(crate) fn record_connect_success(&self, broker: &Broker) {
        if self.broker_unreachable.swap(false, Ordering::Relaxed) {
            info!("connected to the MQTT broker at {broker}");
        }
    }
}
