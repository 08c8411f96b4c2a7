//! A device without its network: what it says, when, and what it does when told something.
//!
//! Everything is a function of the state and the [`Moment`] passed in; what is to be published piles
//! up in the [`Outbox`], and [`crate::connection`] carries it to a broker.

mod sampler;

use std::sync::Arc;
use std::time::Duration;

use sampler::Sampler;
use semver::Version;
use tracing::info;
use uuid::Uuid;

use crate::clock::Moment;
use crate::command::{Answer, Command, CommandLog, Deed, judge};
use crate::config::Configuration;
use crate::counters::Counters;
use crate::faults::{FaultInjector, FaultRates};
use crate::message::{Body, Hello, Message, Presence, seal};
use crate::ota::{Outcome, Upgrade};
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
pub enum Need {
    /// Deliver what is in the outbox, then start again.
    Restart,
    /// Connect to the brokers of the new configuration.
    Reconnect,
    /// Nothing any more: it has sent as many messages as it was asked for.
    Rest,
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
    power: PowerOn,
    telemetry_made: u64,
}

/// What begins anew with each power-on.
#[derive(Debug)]
struct PowerOn {
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
        now: Moment,
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
            power: PowerOn::new(boot, now, first_send),
            telemetry_made: 0,
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
    pub fn power_on(&mut self, boot: String, now: Moment) {
        self.counters.restarts.add(1);
        self.power = PowerOn::new(boot, now, self.config.send_interval());
        self.abandon_upgrade("power was lost during the upgrade", now);
    }

    /// A connection is up: the device says hello.
    pub fn connected(&mut self, now: Moment) {
        self.power.connections += 1;
        self.power.connected = true;
        self.say_hello(now);
    }

    /// The connection is gone, and these were not acknowledged.
    pub fn disconnected(&mut self, unacknowledged: Vec<Message>) {
        self.power.connected = false;
        self.outbox.put_back(unacknowledged);
    }

    /// A `status` message for the connection `conn_id`: as the last will, and at both ends of a connection.
    pub fn status(&self, status: Presence, conn_id: &str, now: Moment) -> Message {
        let ts = now.wall_at(now.elapsed);
        seal(self.id(), &self.power.boot, None, ts, Body::Status { status, conn_id })
    }

    /// When [`Device::tick`] has something to do next (monotonic).
    pub fn next_tick(&self) -> Duration {
        let full_at = self.power.sampler.full_at(&self.meter, self.config.sampling_cadence());
        let mut next = self.power.next_send_at.min(full_at);
        if let Some(heartbeat) = self.heartbeat_at() {
            next = next.min(heartbeat);
        }
        if let Some(upgrade) = &self.upgrade {
            next = next.min(upgrade.next_at());
        }
        next
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Moment) -> Option<Need> {
        self.take_samples(now);
        if now.elapsed >= self.power.next_send_at {
            self.send_telemetry(now);
            self.power.next_send_at += self.config.send_interval();
            if self.power.next_send_at <= now.elapsed {
                // The process was suspended: go on from here rather than catch up in a burst.
                self.power.next_send_at = now.elapsed + self.config.send_interval();
            }
        }
        if self.heartbeat_at().is_some_and(|due| now.elapsed >= due) {
            self.say_hello(now);
        }
        if self.is_done() {
            return Some(Need::Rest);
        }
        self.advance_upgrade(now)
    }

    /// Obeys a command, or says why not.
    pub fn command(&mut self, payload: &[u8], now: Moment) -> Option<Need> {
        let Some(command) = Command::parse(payload) else {
            info!(device = self.id(), "ignored a command without a readable cmd_id");
            self.counters.ignored.add(1);
            return None;
        };
        if command.has_expired(now.wall) {
            info!(device = self.id(), cmd = command.name(), "ignored an expired command");
            self.counters.ignored.add(1);
            return None;
        }
        if let Some(answer) = self.log.answer(command.cmd_id).cloned() {
            self.counters.repeated.add(1);
            self.acknowledge(command.cmd_id, &answer, now);
            return None;
        }
        let upgrading = self.upgrade.as_ref().map(Upgrade::target);
        let verdict = judge(&command, &self.config, upgrading);
        let answer = verdict.answer;
        info!(
            device = self.id(),
            cmd = command.name(),
            result = ?answer.result,
            detail = answer.detail.as_deref(),
            "answered a command"
        );
        let counter =
            if verdict.deed.is_some() { &self.counters.obeyed } else { &self.counters.refused };
        counter.add(1);
        self.acknowledge(command.cmd_id, &answer, now);
        self.log.remember(command.cmd_id, answer);
        verdict.deed.and_then(|deed| self.carry_out(deed, command.cmd_id, now))
    }

    /// Sends what would otherwise stay behind: samples taken, messages held back.
    pub fn flush(&mut self, now: Moment) {
        self.take_samples(now);
        self.send_telemetry(now);
        let held = self.faults.release();
        self.enqueue(held);
    }

    fn carry_out(&mut self, deed: Deed, cmd_id: Uuid, now: Moment) -> Option<Need> {
        match deed {
            Deed::Configure(next) => self.configure(next, now),
            Deed::Upgrade(target) => {
                self.upgrade = Some(Upgrade::start(cmd_id, target, now.elapsed));
                None
            }
            Deed::SayHello => {
                self.say_hello(now);
                None
            }
            Deed::Reboot => {
                self.abandon_upgrade("interrupted by a reboot", now);
                Some(Need::Restart)
            }
            Deed::FactoryReset => {
                self.abandon_upgrade("interrupted by a factory reset", now);
                self.config = self.spec.config.clone();
                Some(Need::Restart)
            }
        }
    }

    fn configure(&mut self, next: Configuration, now: Moment) -> Option<Need> {
        self.take_samples(now);
        let moves = next.brokers != self.config.brokers;
        self.config = next;
        self.power.sampler.change_cadence(self.config.sampling_cadence(), now);
        self.power.next_send_at = now.elapsed + self.config.send_interval();
        moves.then_some(Need::Reconnect)
    }

    fn advance_upgrade(&mut self, now: Moment) -> Option<Need> {
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
        self.say(body, now);
        match outcome {
            Outcome::Continues => None,
            Outcome::GivenUp => {
                self.upgrade = None;
                None
            }
            Outcome::Installed => {
                self.upgrade = None;
                self.fw_version = target;
                Some(Need::Restart)
            }
        }
    }

    fn abandon_upgrade(&mut self, why: &str, now: Moment) {
        if let Some(upgrade) = self.upgrade.take() {
            let body = Body::OtaStatus {
                cmd_id: upgrade.cmd_id(),
                ota_state: "failed",
                progress_pct: None,
                fw_version_target: upgrade.target(),
                detail: Some(why),
            };
            self.say(body, now);
        }
    }

    fn acknowledge(&mut self, cmd_id: Uuid, answer: &Answer, now: Moment) {
        let detail = answer.detail.as_deref();
        self.say(Body::CommandAck { cmd_id, result: answer.result, detail }, now);
    }

    fn say_hello(&mut self, now: Moment) {
        self.power.last_hello_at = now.elapsed;
        let fw_version = self.fw_version.clone();
        let hello = Hello {
            fw_version: &fw_version,
            uptime_s: now.elapsed.saturating_sub(self.power.since).as_secs(),
            broker_connections: self.power.connections,
            buf_usage_pct: self.outbox.usage_pct(),
            temp_internal: self.meter.temperature().value,
        };
        self.say(Body::Hello(hello), now);
    }

    /// When a heartbeat is due. None while disconnected: a heartbeat of the past tells nobody anything.
    fn heartbeat_at(&self) -> Option<Duration> {
        let interval = self.config.heartbeat().filter(|_| self.power.connected)?;
        Some(self.power.last_hello_at + interval)
    }

    fn take_samples(&mut self, now: Moment) {
        let cadence = self.config.sampling_cadence();
        self.power.sampler.take(&mut self.meter, cadence, now);
        while self.power.sampler.is_full(&self.meter) {
            self.send_telemetry(now);
            self.power.sampler.take(&mut self.meter, cadence, now);
        }
    }

    fn send_telemetry(&mut self, now: Moment) {
        let measurements = self.power.sampler.drain(&mut self.meter, now);
        if !measurements.is_empty() && !self.is_done() {
            self.telemetry_made += 1;
            self.say(Body::Telemetry { measurements: &measurements }, now);
        }
    }

    fn is_done(&self) -> bool {
        self.spec.count.is_some_and(|count| self.telemetry_made >= count)
    }

    fn say(&mut self, body: Body<'_>, now: Moment) {
        let seq = self.power.next_seq;
        self.power.next_seq = seq.wrapping_add(1);
        let ts = now.wall_at(now.elapsed);
        let message = seal(&self.spec.device_id, &self.power.boot, Some(seq), ts, body);
        self.counters.made.add(1);
        let leaving = self.faults.pass(message);
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

impl PowerOn {
    fn new(boot: String, now: Moment, first_send: Duration) -> Self {
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
