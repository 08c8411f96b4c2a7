//! A device without its network: what it says, when, and what it does when told something.
//!
//! Everything is a function of the state and the [`ClockReading`] passed in; what is to be published piles
//! up in the [`Outbox`], and [`crate::connection`] carries it to a broker.

mod sampler;

use std::sync::Arc;
use std::time::Duration;

use sampler::Sampler;
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

/// How a device leaves the factory.
#[derive(Debug, Clone)]
pub struct Specification {
    /// Also its MQTT client id.
    pub device_id: String,
    /// What it measures.
    pub system: TractionSystem,
    /// Until an upgrade.
    pub fw_version: Version,
    /// Until `update_config`, and again after `factory_reset`.
    pub config: Configuration,
    /// What its network does.
    pub faults: FaultRates,
    /// Messages in its send buffer.
    pub buffer: usize,
    /// Of its ride and its faults.
    pub seed: u64,
    /// How many telemetry messages it makes before it is done.
    pub count: Option<u64>,
}

/// What a device needs from whoever runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleRequest {
    /// Deliver what is in the outbox, then start again.
    Restart,
    /// Connect to the brokers of the new configuration.
    Reconnect,
    /// Nothing any more: it has sent as many messages as it was asked for.
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
    /// Survives a power-on: a real device keeps it in flash, or a command repeated after a reboot
    /// would be a second reboot.
    log: CommandLog,
    upgrade: Option<Upgrade>,
    boot_state: BootState,
    telemetry_count: u64,
}

/// What begins anew with each power-on.
#[derive(Debug)]
struct BootState {
    boot: String,
    since: Duration,
    next_seq: u32,
    connections: u64,
    connected: bool,
    sampler: Sampler,
    next_send_at: Duration,
    last_hello_at: Duration,
}

impl Device {
    /// A device that is powered on now, as `boot`. `phase` (0 to 1) is the share of its send
    /// interval that passes before the first message, so that a fleet does not send in step.
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

    /// Its name.
    pub fn id(&self) -> &str {
        &self.spec.device_id
    }

    /// The configuration in force.
    pub fn config(&self) -> &Configuration {
        &self.config
    }

    /// Where to connect, in this order. The factory's broker comes last: a device that was sent to
    /// a broker that does not exist must be able to come home.
    pub fn brokers(&self) -> Vec<crate::config::Broker> {
        let mut brokers = self.config.brokers.clone();
        brokers.extend(
            self.spec.config.brokers.iter().filter(|b| !self.config.brokers.contains(b)).cloned(),
        );
        brokers
    }

    /// What is to be published.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Power comes back, as `boot`. The outbox and the command log are in flash and stay; an upgrade
    /// that was under way is reported as failed, since its image is gone.
    pub fn power_on(&mut self, boot: String, now: ClockReading) {
        self.counters.restarts.add(1);
        self.boot_state = BootState::new(boot, now, self.config.send_interval());
        self.fail_upgrade("power was lost during the upgrade", now);
    }

    /// A connection is up: the device says hello.
    pub fn connected(&mut self, now: ClockReading) {
        self.boot_state.connections += 1;
        self.boot_state.connected = true;
        self.send_hello(now);
    }

    /// The connection is gone, and these were not acknowledged.
    pub fn disconnected(&mut self, unacknowledged: Vec<Message>) {
        self.boot_state.connected = false;
        self.outbox.requeue(unacknowledged);
    }

    /// A `status` message for the connection `conn_id`: as the last will, and at both ends of a connection.
    pub fn status(&self, status: Presence, conn_id: &str, now: ClockReading) -> Message {
        let ts = now.wall_at(now.elapsed);
        encode(self.id(), &self.boot_state.boot, None, ts, Body::Status { status, conn_id })
    }

    /// When [`Device::tick`] has something to do next (monotonic).
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

    /// Does what is due.
    pub fn tick(&mut self, now: ClockReading) -> Option<LifecycleRequest> {
        self.take_samples(now);
        if now.elapsed >= self.boot_state.next_send_at {
            self.send_telemetry(now);
            self.boot_state.next_send_at += self.config.send_interval();
            if self.boot_state.next_send_at <= now.elapsed {
                // The process was suspended: go on from here rather than catch up in a burst.
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

    /// Obeys a command, or says why not.
    pub fn command(&mut self, payload: &[u8], now: ClockReading) -> Option<LifecycleRequest> {
        let Some(command) = Command::parse(payload) else {
            info!(device = self.id(), "ignored a command without a readable cmd_id");
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
            "answered a command"
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

    /// Sends what would otherwise stay behind: samples taken, messages held back.
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

    /// When a heartbeat is due. None while disconnected: a heartbeat of the past tells nobody anything.
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

impl BootState {
    fn new(boot: String, now: ClockReading, first_send: Duration) -> Self {
        Self {
            boot,
            since: now.elapsed,
            next_seq: 0,
            connections: 0,
            connected: false,
            sampler: Sampler::new(now),
            next_send_at: now.elapsed + first_send,
            last_hello_at: now.elapsed,
        }
    }
}

#[cfg(test)]
mod tests;
