//! A connection to the broker.
//!
//! The packets are those of rumqttc, but not the event loop. That loop reads up to ten packets for
//! each acknowledgement that it writes, so acknowledgements lag without bound under load. It also
//! cannot stop reading while it writes, which an outage of the queue requires. With the codec
//! alone, one value holds the state of a connection, and no state is carried to the next one.
//!
//! The emulator needs MQTT 5 for subscriptions without retained messages, reason codes of rejected
//! messages, and a limit of unacknowledged messages.

#[cfg(test)]
pub(crate) mod test_broker;

use std::{fmt, io, str::FromStr, time::Duration};

use futures::{SinkExt, StreamExt};
use rumqttc::v5::mqttbytes::{
    self,
    v5::{
        Codec, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode,
        Login, Packet, PingReq,
    },
};
use tokio::{
    net::TcpStream,
    select,
    time::{Interval, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::codec::Framed;
use tracing::{error, info};

use crate::{backoff::Backoff, outage::Outage};

/// The maximum size of an MQTT packet. With a smaller one, the broker would discard larger messages
/// silently; the emulator accepts all and logs what it rejects.
const MAX_PACKET_BYTES: u32 = 268_435_455;

/// The timeout of a CONNECT and of a write.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The address of the broker and the login: `HOST:PORT` or `NAME:PASSWORD@HOST:PORT`. Neither
/// [`Display`](fmt::Display) nor `Debug` prints the password.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    host: String,
    port: u16,
    login: Option<Login>,
}

impl fmt::Debug for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BrokerAddress").field(&self.to_string()).finish()
    }
}

impl FromStr for BrokerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (login, address) = match text.rsplit_once('@') {
            Some((login, address)) => {
                let (name, password) = login.split_once(':').ok_or("expected NAME:PASSWORD@")?;
                (Some(Login::new(name, password)), address)
            }
            None => (None, text),
        };
        match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() => Ok(Self {
                host: host.to_owned(),
                port: port.parse().map_err(|_| format!("\"{port}\" is not a port"))?,
                login,
            }),
            _ => Err("expected HOST:PORT, for example 127.0.0.1:1883".to_owned()),
        }
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The reason why a connection failed or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MqttError {
    #[error("cannot connect to {broker}: {source}")]
    Connect { broker: BrokerAddress, source: io::Error },
    #[error("the broker rejected the connection: {0:?}")]
    Rejected(ConnectReturnCode),
    #[error("the broker ended the connection: {0:?}")]
    Disconnected(DisconnectReasonCode),
    #[error("the broker closed the connection")]
    Closed,
    #[error("the broker did not respond in time")]
    TimedOut,
    #[error("the broker did not grant a subscription: {0}")]
    NotSubscribed(String),
    #[error("the broker sent an invalid packet: {0}")]
    Protocol(#[from] mqttbytes::Error),
}

/// Creates a connection whenever the previous one is lost.
#[derive(Debug)]
pub(crate) struct Connector {
    broker: BrokerAddress,
    connect: Connect,
    outage: Outage,
    retry: Backoff,
    delay: Option<Duration>,
}

impl Connector {
    /// Creates a connector for `client_id`.
    ///
    /// The broker keeps the session for `session_expiry` seconds after a connection and sends up to
    /// `receive_maximum` unacknowledged messages.
    pub(crate) fn new(
        broker: BrokerAddress,
        client_id: String,
        session_expiry: u32,
        receive_maximum: u16,
    ) -> Self {
        let properties = ConnectProperties {
            session_expiry_interval: Some(session_expiry),
            receive_maximum: Some(receive_maximum),
            max_packet_size: Some(MAX_PACKET_BYTES),
            ..ConnectProperties::new()
        };
        Self {
            outage: Outage::new(format!("the connection of {client_id} to the MQTT broker")),
            broker,
            connect: Connect {
                keep_alive: KEEP_ALIVE.as_secs() as u16,
                client_id,
                clean_start: session_expiry == 0,
                properties: Some(properties),
            },
            retry: Backoff::new(Duration::from_millis(100), Duration::from_secs(2)),
            delay: None,
        }
    }

    /// Connects, retrying until the broker accepts.
    pub(crate) async fn connect(&mut self) -> Connection {
        loop {
            if let Some(delay) = self.delay.take() {
                sleep(delay).await;
            }
            match Connection::open(&self.broker, self.connect.clone()).await {
                Ok(connection) => return connection,
                Err(error) => self.record_failure(&error),
            }
        }
    }

    /// Records that a connection works, which resets the backoff.
    pub(crate) fn record_success(&mut self) {
        self.outage.record_success();
        self.retry.reset();
    }

    /// Records that a connection was lost; the next one is made after a delay.
    pub(crate) fn record_failure(&mut self, error: &MqttError) {
        if matches!(error, MqttError::Disconnected(DisconnectReasonCode::SessionTakenOver)) {
            error!(
                "another client connected as {} and replaced this one: is a second emulator running?",
                self.connect.client_id
            );
        }
        self.outage.record_failure(error);
        self.delay = Some(self.retry.next_delay());
    }
}

/// An open connection.
pub(crate) struct Connection {
    packets: Framed<TcpStream, Codec>,
    pings: Interval,
    /// The number of pings since the last packet from the broker, counted while reading.
    pings_without_response: u8,
    receive_maximum: u16,
}

impl Connection {
    async fn open(broker: &BrokerAddress, connect: Connect) -> Result<Self, MqttError> {
        let client_id = connect.client_id.clone();
        let io = |source| MqttError::Connect { broker: broker.clone(), source };
        let opening = async {
            let stream =
                TcpStream::connect((broker.host.as_str(), broker.port)).await.map_err(io)?;
            stream.set_nodelay(true).map_err(io)?;
            let mut packets = Framed::new(
                stream,
                Codec { max_incoming_size: Some(MAX_PACKET_BYTES), max_outgoing_size: None },
            );
            packets.send(Packet::Connect(connect, None, broker.login.clone())).await?;
            match packets.next().await.ok_or(MqttError::Closed)?? {
                Packet::ConnAck(connack) if connack.code == ConnectReturnCode::Success => {
                    info!(
                        session = if connack.session_present { "resumed" } else { "new" },
                        "{client_id} is connected to the MQTT broker"
                    );
                    let limit = connack.properties.and_then(|properties| properties.receive_max);
                    Ok((packets, limit.unwrap_or(u16::MAX)))
                }
                Packet::ConnAck(connack) => Err(MqttError::Rejected(connack.code)),
                _ => Err(mqttbytes::Error::IncorrectPacketFormat.into()),
            }
        };
        let (packets, receive_maximum) =
            timeout(CONNECT_TIMEOUT, opening).await.map_err(|_| MqttError::TimedOut)??;
        let mut pings = interval(KEEP_ALIVE);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.reset();
        Ok(Self { packets, pings, pings_without_response: 0, receive_maximum })
    }

    /// Returns the number of messages with QoS 1 that the broker accepts before it acknowledges the
    /// first.
    pub(crate) fn receive_maximum(&self) -> usize {
        self.receive_maximum.into()
    }

    /// Returns the next packet if `reading`, and otherwise never returns. In both cases the broker
    /// is pinged. The future can be dropped without loss.
    pub(crate) async fn next(&mut self, reading: bool) -> Result<Packet, MqttError> {
        loop {
            let packet = select! {
                packet = self.packets.next(), if reading => packet.ok_or(MqttError::Closed)??,
                _ = self.pings.tick() => {
                    self.ping(reading).await?;
                    continue;
                }
            };
            self.pings_without_response = 0;
            match packet {
                Packet::PingResp(_) => {}
                Packet::Disconnect(reason) => {
                    return Err(MqttError::Disconnected(reason.reason_code));
                }
                packet => return Ok(packet),
            }
        }
    }

    /// Keeps the connection alive, and detects a broker that does not respond while packets are
    /// read.
    async fn ping(&mut self, reading: bool) -> Result<(), MqttError> {
        match (reading, self.pings_without_response) {
            // The response to the last ping may have arrived and not been read yet.
            (true, 2..) => return Err(MqttError::TimedOut),
            (true, _) => self.pings_without_response += 1,
            (false, _) => self.pings_without_response = 0,
        }
        self.send([Packet::PingReq(PingReq)]).await
    }

    /// Sends packets in one write.
    pub(crate) async fn send(
        &mut self,
        packets: impl IntoIterator<Item = Packet>,
    ) -> Result<(), MqttError> {
        let sending = async {
            for packet in packets {
                self.packets.feed(packet).await?;
            }
            self.packets.flush().await
        };
        Ok(timeout(CONNECT_TIMEOUT, sending).await.map_err(|_| MqttError::TimedOut)??)
    }

    /// Sends a DISCONNECT.
    pub(crate) async fn disconnect(mut self) {
        let reason = DisconnectReasonCode::NormalDisconnection;
        // If this fails, the broker sees that the socket closes, with the same result.
        let _ = self.send([Packet::Disconnect(Disconnect::new(reason))]).await;
    }
}

#[cfg(test)]
mod tests {
    use super::BrokerAddress;

    #[test]
    fn broker_address_needs_host_and_port() {
        let address: BrokerAddress = "127.0.0.1:1883".parse().unwrap();
        assert_eq!(address.to_string(), "127.0.0.1:1883");
        for text in ["127.0.0.1", ":1883", "127.0.0.1:mqtt", "127.0.0.1:65536", ""] {
            assert!(text.parse::<BrokerAddress>().is_err(), "{text}");
        }
    }
}
