//! A connection to the broker that comes back by itself and carries nothing over.
//!
//! MQTT 5, since it has what the edge needs from the broker and 3.1.1 has not: a receive maximum (the
//! broker itself stops when too much is unacknowledged), subscribing without a replay of retained
//! messages, and acknowledgements that say why a publish was refused.

use std::time::Duration;

use rumqttc::{
    Outgoing,
    v5::{
        AsyncClient, ConnectionError, Event as RawEvent, EventLoop, Incoming, MqttOptions,
        StateError, mqttbytes::v5::DisconnectReasonCode,
    },
};
use tokio::time::sleep;
use tracing::{error, info};

use crate::{backoff::Backoff, outage::Outage};

/// The most that an MQTT packet can be. With less, the broker would drop larger messages without a word
/// on their way to the edge; so the edge takes all, and says so when it refuses one.
const MAX_PACKET_BYTES: u32 = 268_435_455;

/// Where the broker is: `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    host: String,
    port: u16,
}

impl std::str::FromStr for BrokerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() => Ok(Self {
                host: host.to_owned(),
                port: port.parse().map_err(|_| format!("\"{port}\" is no port"))?,
            }),
            _ => Err("write it as HOST:PORT, for example 127.0.0.1:1883".to_owned()),
        }
    }
}

impl std::fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl BrokerAddress {
    /// Options for a client of this broker.
    pub(crate) fn options(&self, client_id: &str, keep_alive: Duration) -> MqttOptions {
        let mut options = MqttOptions::new(client_id, &self.host, self.port);
        options.set_keep_alive(keep_alive).set_max_packet_size(Some(MAX_PACKET_BYTES));
        options
    }
}

/// What happens on a [`Session`].
#[derive(Debug)]
pub(crate) enum Event {
    /// A new connection. What was on its way over an earlier one is void.
    Connected,
    Incoming(Incoming),
    Outgoing(Outgoing),
    /// The connection is gone; a new one will be tried.
    Lost,
}

/// A client's connection to the broker.
pub(crate) struct Session {
    event_loop: EventLoop,
    client_id: String,
    backoff: Backoff,
    delay: Option<Duration>,
    outage: Outage,
}

impl Session {
    /// A session that connects when [`Session::next`] is first awaited. `requests` is how many requests
    /// may wait to be sent; the client's `try_` methods refuse more.
    pub(crate) fn new(options: MqttOptions, requests: usize) -> (AsyncClient, Self) {
        let client_id = options.client_id();
        let (client, event_loop) = AsyncClient::new(options, requests);
        let session = Self {
            event_loop,
            outage: Outage::of(format!("the connection of {client_id} to the MQTT broker")),
            client_id,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(2)),
            delay: None,
        };
        (client, session)
    }

    /// The next thing that happens. Not to be dropped before it is ready: the client library loses a
    /// packet when it is cancelled in the middle of writing one.
    pub(crate) async fn next(&mut self) -> Event {
        if let Some(delay) = self.delay.take() {
            sleep(delay).await;
        }
        match self.event_loop.poll().await {
            Ok(RawEvent::Incoming(Incoming::ConnAck(connack))) => {
                self.outage.worked();
                self.backoff.reset();
                info!(
                    resumed = connack.session_present,
                    "{} is connected to the MQTT broker", self.client_id
                );
                Event::Connected
            }
            Ok(RawEvent::Incoming(packet)) => Event::Incoming(packet),
            Ok(RawEvent::Outgoing(packet)) => Event::Outgoing(packet),
            Err(error) => {
                self.failed(&error);
                Event::Lost
            }
        }
    }

    /// Drops the connection, with everything that waits to be sent. [`Session::next`] makes a new one
    /// after a while.
    pub(crate) fn give_up(&mut self, reason: &dyn std::fmt::Display) {
        self.outage.failed(reason);
        self.delay = Some(self.backoff.next_delay());
        self.event_loop.clean();
        // The client library would hand out what it had read from the dead connection, and send again
        // what it had not got through. The first carries packet ids that mean something else now; of the
        // second, everybody concerned has been told that it failed.
        self.event_loop.state.events.clear();
        self.event_loop.state.collision = None;
        self.event_loop.pending.clear();
    }

    fn failed(&mut self, error: &ConnectionError) {
        if let ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        }) = error
        {
            error!(
                "another client connected as {}: is a second edge running? They will push each other out",
                self.client_id
            );
        }
        self.give_up(error);
    }
}

#[cfg(test)]
mod tests {
    use super::BrokerAddress;

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        let address: BrokerAddress = "127.0.0.1:1883".parse().unwrap();
        assert_eq!(address.to_string(), "127.0.0.1:1883");
        for text in ["127.0.0.1", ":1883", "127.0.0.1:mqtt", "127.0.0.1:65536", ""] {
            assert!(text.parse::<BrokerAddress>().is_err(), "{text}");
        }
    }
}
