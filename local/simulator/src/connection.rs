//! A device on its network: connects, carries its outbox to the broker, hands it its commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::{Rng, RngExt};
use rumqttc::{ConnectionError, LastWill, MqttOptions, QoS};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::Broker;
use crate::counters::Counters;
use crate::device::{Device, Need};
use crate::link::{Link, LinkEvent};
use crate::message::{Kind, Message, Presence, command_topic};

/// What all devices of a process share.
#[derive(Debug)]
pub struct Surroundings {
    /// The time.
    pub clock: Clock,
    /// What happened.
    pub counters: Arc<Counters>,
    /// How long a device runs, about, until its power is cut.
    pub restart_every: Option<Duration>,
    /// Whether the last attempt to connect, of whichever device, failed.
    broker_is_away: AtomicBool,
}

impl Surroundings {
    /// Surroundings in which the clock starts now.
    pub fn new(counters: Arc<Counters>, restart_every: Option<Duration>) -> Self {
        let broker_is_away = AtomicBool::new(false);
        Self { clock: Clock::start(), counters, restart_every, broker_is_away }
    }

    fn note_failure(&self, broker: &Broker, error: &ConnectionError) {
        // Thousands of devices lose a broker at once: one of them may say so.
        if !self.broker_is_away.swap(true, Ordering::Relaxed) {
            warn!(
                "no connection to the MQTT broker at {broker} ({error}): is it running? Trying again"
            );
        }
    }

    fn note_success(&self, broker: &Broker) {
        if self.broker_is_away.swap(false, Ordering::Relaxed) {
            info!("connected to the MQTT broker at {broker}");
        }
    }
}

/// The broker may take one and a half times as long to notice that a device is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// From a reboot's goodbye to its hello.
const REBOOT: Duration = Duration::from_secs(2);
/// How long a device without power stays away.
const OUTAGE: Duration = Duration::from_secs(3);
/// How long a device that leaves waits for acknowledgements.
const DRAIN: Duration = Duration::from_secs(5);
/// How long it then waits for its goodbye to be taken.
const GOODBYE: Duration = Duration::from_secs(2);
/// Between two attempts to connect: doubling from the first to the second, and scattered.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// A new random id, for a power-on or a connection. Never seeded: a simulator that is started again
/// is another power-on.
pub fn fresh_id() -> String {
    let mut id = Uuid::new_v4().simple().to_string();
    id.truncate(12);
    id
}

/// Runs a device until `stop` becomes true or it rests, and answers how many messages it could not deliver.
pub async fn run(
    device: Device,
    surroundings: Arc<Surroundings>,
    mut stop: watch::Receiver<bool>,
    chance: impl Rng + Send,
) -> usize {
    let mut connection = Connection {
        device,
        surroundings,
        chance,
        line: Line::Down { retry_at: Instant::now() },
        broker: 0,
        failures: 0,
    };
    loop {
        let away = match connection.until_it_leaves(&mut stop).await {
            End::Stopped => return connection.device.outbox().len(),
            End::Moved => {
                connection.broker = 0;
                continue;
            }
            End::Restarting => REBOOT,
            End::PowerCut => OUTAGE,
        };
        // Stopped while it is away, it comes back at once, delivers what it has, and leaves.
        let _ = timeout(away, stopped(&mut stop)).await;
        let now = connection.surroundings.clock.now();
        connection.device.power_on(fresh_id(), now);
    }
}

/// Resolves once the simulator is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: then nobody is left to run for.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Why a device left its broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped,
    Moved,
    Restarting,
    PowerCut,
}

enum Line {
    Down { retry_at: Instant },
    Connecting(Call),
    Up(Call),
}

/// A connection and what it needs to say who it is.
struct Call {
    link: Link<Cargo>,
    conn_id: String,
}

/// What is on the way.
enum Cargo {
    /// Worth nothing once its connection is gone.
    Status,
    /// To be sent again.
    Counted(Message),
}

struct Connection<R> {
    device: Device,
    surroundings: Arc<Surroundings>,
    chance: R,
    line: Line,
    /// Which of the device's brokers it tries.
    broker: usize,
    /// Attempts in a row.
    failures: u32,
}

impl<R: Rng> Connection<R> {
    async fn until_it_leaves(&mut self, stop: &mut watch::Receiver<bool>) -> End {
        let power_cut = self.power_cut();
        let mut leaving: Option<(End, Instant)> = None;
        let end = loop {
            self.hand_over();
            let mut give_up = far_future();
            if let Some((end, deadline)) = leaving {
                if self.has_delivered() {
                    break end;
                }
                give_up = deadline;
            }
            let stopping = leaving.is_some_and(|(end, _)| end == End::Stopped);
            let wake = self.wake_at(leaving.is_some());
            let need = tokio::select! {
                () = stopped(stop), if !stopping => {
                    self.device.flush(self.surroundings.clock.now());
                    leaving = Some((End::Stopped, Instant::now() + DRAIN));
                    None
                }
                () = sleep_until(give_up) => break leaving.map_or(End::Stopped, |(end, _)| end),
                () = sleep_until(power_cut), if leaving.is_none() => {
                    self.hang_up();
                    return End::PowerCut;
                }
                event = next_event(&mut self.line) => self.handle(event, leaving.is_some()),
                () = sleep_until(wake) => self.wake(leaving.is_some()),
            };
            if leaving.is_none()
                && let Some(need) = need
            {
                let end = match need {
                    Need::Restart => End::Restarting,
                    Need::Reconnect => End::Moved,
                    Need::Rest => End::Stopped,
                };
                if end != End::Moved {
                    self.device.flush(self.surroundings.clock.now());
                }
                leaving = Some((end, Instant::now() + DRAIN));
            }
        };
        self.say_goodbye().await;
        end
    }

    fn power_cut(&mut self) -> Instant {
        match self.surroundings.restart_every {
            // Scattered, or the whole fleet goes dark at once.
            Some(period) => Instant::now() + period.mul_f64(self.chance.random_range(0.75..1.25)),
            None => far_future(),
        }
    }

    /// When there is something to do by the clock.
    fn wake_at(&self, leaving: bool) -> Instant {
        let tick = if leaving {
            far_future()
        } else {
            self.surroundings.clock.instant(self.device.next_tick())
        };
        match self.line {
            Line::Down { retry_at } => tick.min(retry_at),
            Line::Connecting(_) | Line::Up(_) => tick,
        }
    }

    fn wake(&mut self, leaving: bool) -> Option<Need> {
        if let Line::Down { retry_at } = self.line
            && retry_at <= Instant::now()
        {
            self.line = Line::Connecting(self.call());
        }
        if leaving { None } else { self.device.tick(self.surroundings.clock.now()) }
    }

    fn current_broker(&self) -> Broker {
        let mut brokers = self.device.brokers();
        let which = self.broker % brokers.len().max(1);
        brokers.swap_remove(which)
    }

    fn call(&self) -> Call {
        let Broker { host, port } = self.current_broker();
        let conn_id = fresh_id();
        let now = self.surroundings.clock.now();
        let will = self.device.status(Presence::Offline, &conn_id, now.wall_at(now.elapsed));
        let topic = will.kind.topic(self.device.id());
        let mut options = MqttOptions::new(self.device.id(), host, port);
        options.set_keep_alive(KEEP_ALIVE).set_last_will(LastWill::new(
            topic,
            will.payload,
            QoS::AtLeastOnce,
            true,
        ));
        Call { link: Link::open(options), conn_id }
    }

    fn handle(
        &mut self,
        event: Result<LinkEvent<Cargo>, ConnectionError>,
        leaving: bool,
    ) -> Option<Need> {
        match event {
            Ok(LinkEvent::Up) => self.came_up(),
            Ok(LinkEvent::Acknowledged(Cargo::Counted(_))) => {
                self.surroundings.counters.acknowledged.add(1);
            }
            Ok(LinkEvent::Acknowledged(Cargo::Status) | LinkEvent::Closed) => {}
            Ok(LinkEvent::Received(publish)) => {
                if !leaving && publish.topic == command_topic(self.device.id()) {
                    let now = self.surroundings.clock.now();
                    return self.device.command(&publish.payload, now);
                }
            }
            Err(error) => self.went_down(&error),
        }
        None
    }

    fn came_up(&mut self) {
        let line = std::mem::replace(&mut self.line, Line::Down { retry_at: far_future() });
        let (Line::Connecting(mut call) | Line::Up(mut call)) = line else {
            return;
        };
        self.failures = 0;
        self.surroundings.note_success(&self.current_broker());
        self.surroundings.counters.connected.add(1);
        let now = self.surroundings.clock.now();
        // Subscribed before online: the platform publishes pending commands when it sees that.
        let subscribed = call.link.subscribe(command_topic(self.device.id()));
        let online = self.device.status(Presence::Online, &call.conn_id, now.wall_at(now.elapsed));
        let published = publish(&mut call.link, self.device.id(), &online, Cargo::Status);
        if let Err(error) = subscribed.and(published) {
            debug!(device = self.device.id(), %error, "a fresh connection took no requests");
        }
        self.line = Line::Up(call);
        self.device.connected(now);
    }

    fn went_down(&mut self, error: &ConnectionError) {
        let broker = self.current_broker();
        debug!(device = self.device.id(), %broker, %error, "no connection");
        self.surroundings.note_failure(&broker, error);
        if self.hang_up() {
            self.surroundings.counters.connections_lost.add(1);
        } else {
            self.broker = self.broker.wrapping_add(1);
        }
        let (first, longest) = BACKOFF;
        let pause = longest.min(first * 2_u32.saturating_pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        let retry_at = Instant::now() + pause.mul_f64(self.chance.random_range(0.5..1.0));
        self.line = Line::Down { retry_at };
    }

    /// Drops the connection as it is, and answers whether it was up.
    fn hang_up(&mut self) -> bool {
        let line = std::mem::replace(&mut self.line, Line::Down { retry_at: Instant::now() });
        let (call, was_up) = match line {
            Line::Down { .. } => return false,
            Line::Connecting(call) => (call, false),
            Line::Up(call) => (call, true),
        };
        if was_up {
            self.surroundings.counters.connected.sub(1);
        }
        let unacknowledged =
            call.link.unacknowledged().into_iter().filter_map(|cargo| match cargo {
                Cargo::Counted(message) => Some(message),
                Cargo::Status => None,
            });
        self.device.disconnected(unacknowledged.collect());
        was_up
    }

    /// Hands as much of the outbox to the broker as may be on the way.
    fn hand_over(&mut self) {
        let Line::Up(call) = &mut self.line else {
            return;
        };
        let id = self.device.id().to_owned();
        while call.link.has_room()
            && let Some(queued) = self.device.outbox().pop()
        {
            let cargo = Cargo::Counted(queued.message.clone());
            if let Err(error) = publish(&mut call.link, &id, &queued.message, cargo) {
                debug!(device = id, %error, "the connection takes no publish now");
                self.device.outbox().put_back(vec![queued.message]);
                break;
            }
            let counters = &self.surroundings.counters;
            if queued.sent_before { &counters.resent } else { &counters.sent }.add(1);
        }
    }

    fn has_delivered(&mut self) -> bool {
        let idle = match &self.line {
            Line::Down { .. } | Line::Connecting(_) => true,
            Line::Up(call) => call.link.is_idle(),
        };
        idle && self.device.outbox().is_empty()
    }

    async fn say_goodbye(&mut self) {
        if let Line::Up(call) = &mut self.line {
            let now = self.surroundings.clock.now();
            let offline =
                self.device.status(Presence::Offline, &call.conn_id, now.wall_at(now.elapsed));
            let goodbye = async {
                publish(&mut call.link, self.device.id(), &offline, Cargo::Status).ok()?;
                while !call.link.is_idle() {
                    call.link.next().await.ok()?;
                }
                call.link.disconnect().ok()?;
                while !matches!(call.link.next().await.ok()?, LinkEvent::Closed) {}
                Some(())
            };
            // Without it the last will says the same.
            if timeout(GOODBYE, goodbye).await.ok().flatten().is_none() {
                debug!(device = self.device.id(), "left without a goodbye");
            }
        }
        self.hang_up();
    }
}

async fn next_event(line: &mut Line) -> Result<LinkEvent<Cargo>, ConnectionError> {
    match line {
        Line::Down { .. } => std::future::pending().await,
        Line::Connecting(call) | Line::Up(call) => call.link.next().await,
    }
}

fn publish(
    link: &mut Link<Cargo>,
    device_id: &str,
    message: &Message,
    cargo: Cargo,
) -> Result<(), rumqttc::ClientError> {
    // Retained, a status tells whoever subscribes later; anything else would come as news twice.
    let retain = message.kind == Kind::Status;
    link.publish(message.kind.topic(device_id), &message.payload, retain, cargo)
}

/// A year is for ever here, and still an instant that the timer can count.
fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(365 * 86_400)
}
