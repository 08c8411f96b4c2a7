//! A device without its network: a state machine that creates messages and executes commands.
//!
//! Everything is a function of the state and the [`ClockReading`] argument. Messages go to the
//! [`Outbox`], from which [`crate::connection`] publishes them.

mod boot_state;
mod sampler;

use std::sync::Arc;
use std::time::Duration;

use boot_state::BootState;
use semver::Version;
use tracing::info;
use uuid::Uuid;

use crate::clock::ClockReading;
use crate::command::{Acknowledgement, Action, Command, CommandLog, decide};
use crate::config::Configuration;
use crate::counters::Counters;
use crate::faults::{FaultInjector, FaultRates};
use crate::message::{Body, Hello, Message, Presence, encode};
use crate::ota::{Upgrade, UpgradeOutcome};
use crate::outbox::Outbox;
use crate::train::{Meter, TractionSystem};

/// The initial state of a device.
#[derive(Debug, Clone)]
pub struct Specification {
    /// The device id, which is also the MQTT client id.
    pub device_id: String,
    /// The system that the meter measures.
    pub system: TractionSystem,
    /// The firmware version before any upgrade.
    pub fw_version: Version,
    /// The configuration before `update_config` and after `factory_reset`.
    pub config: Configuration,
    /// The faults of its network.
    pub faults: FaultRates,
    /// The capacity of the send buffer, in messages.
    pub buffer: usize,
    /// The seed of its ride and its faults.
    pub seed: u64,
    /// The number of telemetry messages after which it stops.
    pub count: Option<u64>,
}

/// A request of a device to its [`crate::connection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleRequest {
    /// Deliver the outbox, then restart.
    Restart,
    /// Connect to the brokers of the new configuration.
    Reconnect,
    /// Stop: the device has created [`Specification::count`] messages.
    Stop,
}

/// A simulated device.
#[derive(Debug)]
pub struct Device {
    spec: Specification,
    counters: Arc<Counters>,
    config: Configuration,
    fw_version: Version,
    meter: Meter,
    faults: FaultInjector,
    outbox: Outbox,
    /// Persistent, as in the flash of a real device: otherwise a repeated `reboot` would cause a
    /// second one.
    log: CommandLog,
    upgrade: Option<Upgrade>,
    boot_state: BootState,
    telemetry_count: u64,
}

impl Device {
    /// A device that is powered on now, with the boot id `boot`. `phase` (0 to 1) is the share of
    /// the send interval before the first message, so that a fleet does not send in step.
    pub fn new(
        spec: Specification,
        boot: String,
        phase: f64,
        now: ClockReading,
        counters: Arc<Counters>,
    ) -> Self {
        let first_send = spec.config.send_interval().mul_f64(phase.clamp(0.0, 1.0));
        Self {
            config: spec.config.clone(),
            fw_version: spec.fw_version.clone(),
            meter: Meter::new(spec.system, spec.seed),
            faults: FaultInjector::new(spec.faults, spec.seed, Arc::clone(&counters)),
            outbox: Outbox::new(spec.buffer),
            log: CommandLog::default(),
            upgrade: None,
            boot_state: BootState::new(boot, now, first_send),
            telemetry_count: 0,
            spec,
            counters,
        }
    }

    /// The device id.
    pub fn id(&self) -> &str {
        &self.spec.device_id
    }

    /// The current configuration.
    pub fn config(&self) -> &Configuration {
        &self.config
    }

    /// The brokers, in the order in which they are tried. The initial ones are last: a device with
    /// a wrong configuration must be able to connect again.
    pub fn brokers(&self) -> Vec<crate::config::Broker> {
        let mut brokers = self.config.brokers.clone();
        brokers.extend(
            self.spec.config.brokers.iter().filter(|b| !self.config.brokers.contains(b)).cloned(),
        );
        brokers
    }

    /// The messages to publish.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Powers the device on again, with the boot id `boot`. Outbox and command log are persistent.
    /// An upgrade in progress is reported as failed, since its image is lost.
    pub fn power_on(&mut self, boot: String, now: ClockReading) {
        self.counters.restarts.add(1);
        self.boot_state = BootState::new(boot, now, self.config.send_interval());
        self.fail_upgrade("power was lost during the upgrade", now);
    }

    /// Handles an established connection: the device sends a heartbeat.
    pub fn connected(&mut self, now: ClockReading) {
        self.boot_state.connections += 1;
        self.boot_state.connected = true;
        self.send_hello(now);
    }

    /// Handles a lost connection, with the messages that were not acknowledged.
    pub fn disconnected(&mut self, unacknowledged: Vec<Message>) {
        self.boot_state.connected = false;
        self.outbox.requeue(unacknowledged);
    }

    /// A `status` message for the connection `conn_id`, also used as its last will.
    pub fn status(&self, status: Presence, conn_id: &str, now: ClockReading) -> Message {
        let ts = now.wall_at(now.elapsed);
        encode(self.id(), &self.boot_state.boot, None, ts, Body::Status { status, conn_id })
    }

    /// The next time to call [`Device::tick`] (monotonic).
    pub fn next_tick(&self) -> Duration {
        let full_at = self.boot_state.sampler.full_at(&self.meter, self.config.sampling_cadence());
        let mut next = self.boot_state.next_send_at.min(full_at);
        if let Some(heartbeat) = self.heartbeat_at() {
            next = next.min(heartbeat);
        }
        if let Some(upgrade) = &self.upgrade {
            next = next.min(upgrade.next_at());
        }
        next
    }

    /// Creates the messages that are due.
    pub fn tick(&mut self, now: ClockReading) -> Option<LifecycleRequest> {
        self.take_samples(now);
        if now.elapsed >= self.boot_state.next_send_at {
            self.send_telemetry(now);
            self.boot_state.next_send_at += self.config.send_interval();
            if self.boot_state.next_send_at <= now.elapsed {
                // The process was suspended: continue from now instead of sending a burst.
                self.boot_state.next_send_at = now.elapsed + self.config.send_interval();
            }
        }
        if self.heartbeat_at().is_some_and(|due| now.elapsed >= due) {
            self.send_hello(now);
        }
        if self.is_done() {
            return Some(LifecycleRequest::Stop);
        }
        self.advance_upgrade(now)
    }

    /// Executes a command or rejects it, and acknowledges it.
    pub fn command(&mut self, payload: &[u8], now: ClockReading) -> Option<LifecycleRequest> {
        let Some(command) = Command::parse(payload) else {
            info!(device = self.id(), "ignored a command without a valid cmd_id");
            self.counters.commands_ignored.add(1);
            return None;
        };
        if command.has_expired(now.wall) {
            info!(device = self.id(), cmd = command.name(), "ignored an expired command");
            self.counters.commands_ignored.add(1);
            return None;
        }
        if let Some(acknowledgement) = self.log.acknowledgement(command.cmd_id).cloned() {
            self.counters.commands_repeated.add(1);
            self.acknowledge(command.cmd_id, &acknowledgement, now);
            return None;
        }
        let upgrading = self.upgrade.as_ref().map(Upgrade::target);
        let decision = decide(&command, &self.config, upgrading);
        let acknowledgement = decision.acknowledgement;
        info!(
            device = self.id(),
            cmd = command.name(),
            result = ?acknowledgement.result,
            detail = acknowledgement.detail.as_deref(),
            "acknowledged a command"
        );
        let counter = if decision.action.is_some() {
            &self.counters.commands_accepted
        } else {
            &self.counters.commands_rejected
        };
        counter.add(1);
        self.acknowledge(command.cmd_id, &acknowledgement, now);
        self.log.record(command.cmd_id, acknowledgement);
        decision.action.and_then(|action| self.execute(action, command.cmd_id, now))
    }

    /// Creates a message of the remaining samples, and releases messages held back for reordering.
    pub fn flush(&mut self, now: ClockReading) {
        self.take_samples(now);
        self.send_telemetry(now);
        let held = self.faults.release();
        self.enqueue(held);
    }

    fn execute(
        &mut self,
        action: Action,
        cmd_id: Uuid,
        now: ClockReading,
    ) -> Option<LifecycleRequest> {
        match action {
            Action::Configure(next) => self.configure(next, now),
            Action::Upgrade(target) => {
                self.upgrade = Some(Upgrade::start(cmd_id, target, now.elapsed));
                None
            }
            Action::SendHello => {
                self.send_hello(now);
                None
            }
            Action::Reboot => {
                self.fail_upgrade("interrupted by a reboot", now);
                Some(LifecycleRequest::Restart)
            }
            Action::FactoryReset => {
                self.fail_upgrade("interrupted by a factory reset", now);
                self.config = self.spec.config.clone();
                Some(LifecycleRequest::Restart)
            }
        }
    }

    fn configure(&mut self, next: Configuration, now: ClockReading) -> Option<LifecycleRequest> {
        self.take_samples(now);
        let moves = next.brokers != self.config.brokers;
        self.config = next;
        self.boot_state.sampler.change_cadence(self.config.sampling_cadence(), now);
        self.boot_state.next_send_at = now.elapsed + self.config.send_interval();
        moves.then_some(LifecycleRequest::Reconnect)
    }

    fn advance_upgrade(&mut self, now: ClockReading) -> Option<LifecycleRequest> {
        let upgrade = self.upgrade.as_mut()?;
        let progress = upgrade.advance(now.elapsed)?;
        let (cmd_id, target) = (upgrade.cmd_id(), upgrade.target().clone());
        let outcome = progress.outcome;
        let body = Body::OtaStatus {
            cmd_id,
            ota_state: progress.state,
            progress_pct: progress.progress_pct,
            fw_version_target: &target,
            detail: progress.detail.as_deref(),
        };
        self.send(body, now);
        match outcome {
            UpgradeOutcome::InProgress => None,
            UpgradeOutcome::Failed => {
                self.upgrade = None;
                None
            }
            UpgradeOutcome::Installed => {
                self.upgrade = None;
                self.fw_version = target;
                Some(LifecycleRequest::Restart)
            }
        }
    }

    fn fail_upgrade(&mut self, why: &str, now: ClockReading) {
        if let Some(upgrade) = self.upgrade.take() {
            let body = Body::OtaStatus {
                cmd_id: upgrade.cmd_id(),
                ota_state: "failed",
                progress_pct: None,
                fw_version_target: upgrade.target(),
                detail: Some(why),
            };
            self.send(body, now);
        }
    }

    fn acknowledge(&mut self, cmd_id: Uuid, acknowledgement: &Acknowledgement, now: ClockReading) {
        let detail = acknowledgement.detail.as_deref();
        self.send(Body::CommandAck { cmd_id, result: acknowledgement.result, detail }, now);
    }

    fn send_hello(&mut self, now: ClockReading) {
        self.boot_state.last_hello_at = now.elapsed;
        let fw_version = self.fw_version.clone();
        let hello = Hello {
            fw_version: &fw_version,
            uptime_s: now.elapsed.saturating_sub(self.boot_state.since).as_secs(),
            broker_connections: self.boot_state.connections,
            buf_usage_pct: self.outbox.usage_pct(),
            temp_internal: self.meter.temperature().value,
        };
        self.send(Body::Hello(hello), now);
    }

    /// The time of the next heartbeat; `None` while disconnected, as a late heartbeat has no use.
    fn heartbeat_at(&self) -> Option<Duration> {
        let interval = self.config.heartbeat().filter(|_| self.boot_state.connected)?;
        Some(self.boot_state.last_hello_at + interval)
    }

    fn take_samples(&mut self, now: ClockReading) {
        let cadence = self.config.sampling_cadence();
        self.boot_state.sampler.take(&mut self.meter, cadence, now);
        while self.boot_state.sampler.is_full(&self.meter) {
            self.send_telemetry(now);
            self.boot_state.sampler.take(&mut self.meter, cadence, now);
        }
    }

    fn send_telemetry(&mut self, now: ClockReading) {
        let measurements = self.boot_state.sampler.drain(&mut self.meter, now);
        if !measurements.is_empty() && !self.is_done() {
            self.telemetry_count += 1;
            self.send(Body::Telemetry { measurements: &measurements }, now);
        }
    }

    fn is_done(&self) -> bool {
        self.spec.count.is_some_and(|count| self.telemetry_count >= count)
    }

    fn send(&mut self, body: Body<'_>, now: ClockReading) {
        let seq = self.boot_state.next_seq;
        self.boot_state.next_seq = seq.wrapping_add(1);
        let ts = now.wall_at(now.elapsed);
        let message = encode(&self.spec.device_id, &self.boot_state.boot, Some(seq), ts, body);
        self.counters.created.add(1);
        let leaving = self.faults.apply(message);
        self.enqueue(leaving);
    }

    fn enqueue(&mut self, messages: Vec<Message>) {
        for message in messages {
            self.counters.queued.add(1);
            if self.outbox.push(message).is_some() {
                self.counters.overflowed.add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
