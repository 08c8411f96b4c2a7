//! The connection of a device: connects with backoff, publishes the outbox, and passes commands on.

use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};
use rumqttc::ConnectionError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use crate::config::Broker;
use crate::device::{Device, LifecycleRequest};
use crate::fleet_context::FleetContext;
use crate::message::command_topic;
use crate::session::{Session, SessionEvent, random_id};

/// The time between the DISCONNECT of a reboot and the next connection.
const REBOOT_DURATION: Duration = Duration::from_secs(2);
/// The time that a device without power is offline.
const POWER_OUTAGE_DURATION: Duration = Duration::from_secs(3);
/// The time that a stopping device waits for acknowledgements.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// The first and the longest delay between attempts to connect; it doubles, with jitter.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Runs a device until `stop` becomes true or the device has sent all of its messages, and returns
/// the number of undelivered messages.
pub async fn run(
    device: Device,
    fleet_context: Arc<FleetContext>,
    mut stop: watch::Receiver<bool>,
    rng: impl Rng + Send,
) -> usize {
    let mut connection = Connection {
        device,
        fleet_context,
        rng,
        state: ConnectionState::Disconnected { retry_at: Instant::now() },
        broker: 0,
        failures: 0,
    };
    loop {
        let away = match connection.run_until_disconnect(&mut stop).await {
            DisconnectReason::Stopped => return connection.device.outbox().len(),
            DisconnectReason::BrokerChanged => {
                connection.broker = 0;
                continue;
            }
            DisconnectReason::Restarting => REBOOT_DURATION,
            DisconnectReason::PowerCut => POWER_OUTAGE_DURATION,
        };
        // If it is stopped while offline, it connects at once and delivers its outbox.
        let _ = timeout(away, stopped(&mut stop)).await;
        let now = connection.fleet_context.clock.now();
        connection.device.power_on(random_id(), now);
    }
}

/// Returns when the simulator is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender was dropped, which also ends the simulation.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The reason of a disconnection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DisconnectReason {
    Stopped,
    BrokerChanged,
    Restarting,
    PowerCut,
}

impl From<LifecycleRequest> for DisconnectReason {
    fn from(request: LifecycleRequest) -> Self {
        match request {
            LifecycleRequest::Restart => Self::Restarting,
            LifecycleRequest::Reconnect => Self::BrokerChanged,
            LifecycleRequest::Stop => Self::Stopped,
        }
    }
}

enum ConnectionState {
    Disconnected { retry_at: Instant },
    Connecting(Session),
    Connected(Session),
}

impl ConnectionState {
    async fn next(&mut self) -> Result<SessionEvent, ConnectionError> {
        match self {
            Self::Disconnected { .. } => std::future::pending().await,
            Self::Connecting(session) | Self::Connected(session) => session.next().await,
        }
    }
}

struct Connection<R> {
    device: Device,
    fleet_context: Arc<FleetContext>,
    rng: R,
    state: ConnectionState,
    /// The index of the broker to connect to.
    broker: usize,
    /// Consecutive failed attempts.
    failures: u32,
}

impl<R: Rng> Connection<R> {
    async fn run_until_disconnect(&mut self, stop: &mut watch::Receiver<bool>) -> DisconnectReason {
        let power_cut = self.next_power_cut();
        // While it stops: the reason, and the deadline of delivery.
        let mut leaving: Option<(DisconnectReason, Instant)> = None;
        let end = loop {
            if let ConnectionState::Connected(session) = &mut self.state {
                session.publish_outbox(&mut self.device, &self.fleet_context.counters);
            }
            if let Some((end, _)) = leaving
                && self.is_drained()
            {
                break end;
            }
            let give_up = leaving.map_or_else(far_future, |(_, deadline)| deadline);
            let stopping = leaving.is_some_and(|(end, _)| end == DisconnectReason::Stopped);
            let wake = self.next_wake(leaving.is_some());
            let reason = tokio::select! {
                () = stopped(stop), if !stopping => Some(DisconnectReason::Stopped),
                () = sleep_until(power_cut), if leaving.is_none() => {
                    self.abort();
                    return DisconnectReason::PowerCut;
                }
                event = self.state.next() => self.on_event(event, leaving.is_some()).map(DisconnectReason::from),
                () = sleep_until(wake) => self.on_timer(leaving.is_some()).map(DisconnectReason::from),
                () = sleep_until(give_up) => break leaving.map_or(DisconnectReason::Stopped, |(end, _)| end),
            };
            if let Some(end) = reason {
                if end != DisconnectReason::BrokerChanged {
                    self.device.flush(self.fleet_context.clock.now());
                }
                leaving = Some((end, Instant::now() + DRAIN_TIMEOUT));
            }
        };
        if let ConnectionState::Connected(session) = &mut self.state {
            session.disconnect(&self.device, self.fleet_context.clock.now()).await;
        }
        self.abort();
        end
    }

    fn next_power_cut(&mut self) -> Instant {
        match self.fleet_context.restart_every {
            // With jitter, so that the fleet does not go offline at once.
            Some(period) => Instant::now() + period.mul_f64(self.rng.random_range(0.75..1.25)),
            None => far_future(),
        }
    }

    /// The time of the next timer. A stopping device takes no samples.
    fn next_wake(&self, leaving: bool) -> Instant {
        let tick = if leaving {
            far_future()
        } else {
            self.fleet_context.clock.instant(self.device.next_tick())
        };
        match self.state {
            ConnectionState::Disconnected { retry_at } => tick.min(retry_at),
            ConnectionState::Connecting(_) | ConnectionState::Connected(_) => tick,
        }
    }

    fn on_timer(&mut self, leaving: bool) -> Option<LifecycleRequest> {
        let now = self.fleet_context.clock.now();
        if let ConnectionState::Disconnected { retry_at } = self.state
            && retry_at <= Instant::now()
        {
            let transport = self.fleet_context.identities.transport(self.device.id());
            let broker = self.current_broker();
            self.state =
                ConnectionState::Connecting(Session::open(&self.device, broker, transport, now));
        }
        if leaving { None } else { self.device.tick(now) }
    }

    fn current_broker(&self) -> Broker {
        let mut brokers = self.device.brokers();
        let which = self.broker % brokers.len().max(1);
        brokers.swap_remove(which)
    }

    /// A stopping device executes no commands.
    fn on_event(
        &mut self,
        event: Result<SessionEvent, ConnectionError>,
        leaving: bool,
    ) -> Option<LifecycleRequest> {
        match event {
            Ok(SessionEvent::Connected) => self.on_connected(),
            Ok(SessionEvent::Delivered) => self.fleet_context.counters.acknowledged.add(1),
            Ok(SessionEvent::Received(publish)) => {
                if !leaving && publish.topic == command_topic(self.device.id()) {
                    let now = self.fleet_context.clock.now();
                    return self.device.command(&publish.payload, now);
                }
            }
            Err(error) => self.on_disconnected(&error),
        }
        None
    }

    fn on_connected(&mut self) {
        let state = std::mem::replace(
            &mut self.state,
            ConnectionState::Disconnected { retry_at: far_future() },
        );
        let (ConnectionState::Connecting(mut session) | ConnectionState::Connected(mut session)) =
            state
        else {
            return;
        };
        self.failures = 0;
        self.fleet_context.record_connect_success(&self.current_broker());
        self.fleet_context.counters.connected.add(1);
        let now = self.fleet_context.clock.now();
        if let Err(error) = session.announce_online(&self.device, now) {
            debug!(device = self.device.id(), %error, "cannot announce the connection");
        }
        self.state = ConnectionState::Connected(session);
        self.device.connected(now);
    }

    fn on_disconnected(&mut self, error: &ConnectionError) {
        let broker = self.current_broker();
        debug!(device = self.device.id(), %broker, %error, "connection failed");
        self.fleet_context.record_connect_failure(&broker, error);
        if self.abort() {
            self.fleet_context.counters.connections_lost.add(1);
        } else {
            self.broker = self.broker.wrapping_add(1);
        }
        let (first, longest) = BACKOFF;
        let pause = longest.min(first * 2_u32.saturating_pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        let retry_at = Instant::now() + pause.mul_f64(self.rng.random_range(0.5..1.0));
        self.state = ConnectionState::Disconnected { retry_at };
    }

    /// Drops the connection, and returns whether it was established.
    fn abort(&mut self) -> bool {
        let state = std::mem::replace(
            &mut self.state,
            ConnectionState::Disconnected { retry_at: Instant::now() },
        );
        let (session, was_up) = match state {
            ConnectionState::Disconnected { .. } => return false,
            ConnectionState::Connecting(session) => (session, false),
            ConnectionState::Connected(session) => (session, true),
        };
        if was_up {
            self.fleet_context.counters.connected.sub(1);
        }
        self.device.disconnected(session.abort());
        was_up
    }

    fn is_drained(&mut self) -> bool {
        let idle = match &self.state {
            ConnectionState::Disconnected { .. } | ConnectionState::Connecting(_) => true,
            ConnectionState::Connected(session) => session.is_idle(),
        };
        idle && self.device.outbox().is_empty()
    }
}

/// A year from now: effectively never, and still a valid instant of a timer.
fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(365 * 86_400)
}
