//! A device on its network: connects, carries its outbox to the broker, hands it its commands.

use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};
use rumqttc::ConnectionError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use crate::call::{Call, CallEvent, fresh_id};
use crate::config::Broker;
use crate::device::{Device, Need};
use crate::message::command_topic;
use crate::surroundings::Surroundings;

/// From a reboot's goodbye to its hello.
const REBOOT: Duration = Duration::from_secs(2);
/// How long a device without power stays away.
const OUTAGE: Duration = Duration::from_secs(3);
/// How long a device that leaves waits for acknowledgements.
const DRAIN: Duration = Duration::from_secs(5);
/// Between two attempts to connect: doubling from the first to the second, and scattered.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Runs a device until `stop` becomes true or it rests, and answers how many messages it could not
/// deliver.
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

impl From<Need> for End {
    fn from(need: Need) -> Self {
        match need {
            Need::Restart => Self::Restarting,
            Need::Reconnect => Self::Moved,
            Need::Rest => Self::Stopped,
        }
    }
}

enum Line {
    Down { retry_at: Instant },
    Connecting(Call),
    Up(Call),
}

impl Line {
    async fn next(&mut self) -> Result<CallEvent, ConnectionError> {
        match self {
            Self::Down { .. } => std::future::pending().await,
            Self::Connecting(call) | Self::Up(call) => call.next().await,
        }
    }
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
        // Once it leaves: why, and how long it may go on delivering.
        let mut leaving: Option<(End, Instant)> = None;
        let end = loop {
            if let Line::Up(call) = &mut self.line {
                call.hand_over(&mut self.device, &self.surroundings.counters);
            }
            if let Some((end, _)) = leaving
                && self.has_delivered()
            {
                break end;
            }
            let give_up = leaving.map_or_else(far_future, |(_, deadline)| deadline);
            let stopping = leaving.is_some_and(|(end, _)| end == End::Stopped);
            let wake = self.wake_at(leaving.is_some());
            let reason = tokio::select! {
                () = stopped(stop), if !stopping => Some(End::Stopped),
                () = sleep_until(power_cut), if leaving.is_none() => {
                    self.hang_up();
                    return End::PowerCut;
                }
                event = self.line.next() => self.handle(event, leaving.is_some()).map(End::from),
                () = sleep_until(wake) => self.wake(leaving.is_some()).map(End::from),
                () = sleep_until(give_up) => break leaving.map_or(End::Stopped, |(end, _)| end),
            };
            if let Some(end) = reason {
                if end != End::Moved {
                    self.device.flush(self.surroundings.clock.now());
                }
                leaving = Some((end, Instant::now() + DRAIN));
            }
        };
        if let Line::Up(call) = &mut self.line {
            call.goodbye(&self.device, self.surroundings.clock.now()).await;
        }
        self.hang_up();
        end
    }

    fn power_cut(&mut self) -> Instant {
        match self.surroundings.restart_every {
            // Scattered, or the whole fleet goes dark at once.
            Some(period) => Instant::now() + period.mul_f64(self.chance.random_range(0.75..1.25)),
            None => far_future(),
        }
    }

    /// When there is something to do by the clock. A device that leaves measures no more.
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
        let now = self.surroundings.clock.now();
        if let Line::Down { retry_at } = self.line
            && retry_at <= Instant::now()
        {
            let transport = self.surroundings.identities.transport(self.device.id());
            let broker = self.current_broker();
            self.line = Line::Connecting(Call::open(&self.device, broker, transport, now));
        }
        if leaving { None } else { self.device.tick(now) }
    }

    fn current_broker(&self) -> Broker {
        let mut brokers = self.device.brokers();
        let which = self.broker % brokers.len().max(1);
        brokers.swap_remove(which)
    }

    /// A device that leaves obeys no more.
    fn handle(&mut self, event: Result<CallEvent, ConnectionError>, leaving: bool) -> Option<Need> {
        match event {
            Ok(CallEvent::Up) => self.came_up(),
            Ok(CallEvent::Delivered) => self.surroundings.counters.acknowledged.add(1),
            Ok(CallEvent::Received(publish)) => {
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
        if let Err(error) = call.greet(&self.device, now) {
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
        self.device.disconnected(call.hang_up());
        was_up
    }

    fn has_delivered(&mut self) -> bool {
        let idle = match &self.line {
            Line::Down { .. } | Line::Connecting(_) => true,
            Line::Up(call) => call.is_idle(),
        };
        idle && self.device.outbox().is_empty()
    }
}

/// A year is for ever here, and still an instant that the timer can count.
fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(365 * 86_400)
}
