//! A connection to the broker.
//!
//! The packets are rumqttc's, the loop around them is not: its event loop reads up to ten packets for each
//! acknowledgement that it writes, so under load acknowledgements fall behind without bound, and it cannot
//! stop reading while it goes on writing, which is what an outage of the queue asks for. With the codec
//! alone, all there is of a connection is one value, and nothing is carried from one to the next.
//!
//! MQTT 5, since it has what the edge needs from the broker and 3.1.1 has not: subscribing without a
//! replay of retained messages, acknowledgements that say why a publish was refused, and a limit for what
//! is unacknowledged.

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

/// The most that an MQTT packet can be. With less, the broker would drop larger messages without a word
/// on their way to the edge; so the edge takes all, and says so when it refuses one.
const MAX_PACKET_BYTES: u32 = 268_435_455;

/// How long the broker may take to answer a CONNECT, and to take what is sent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Where the broker is, and who one says to be there: `HOST:PORT` or `NAME:PASSWORD@HOST:PORT`. Neither
/// [`Display`](fmt::Display) nor `Debug` tells the password.
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
                let (name, password) =
                    login.split_once(':').ok_or("write who it is as NAME:PASSWORD@")?;
                (Some(Login::new(name, password)), address)
            }
            None => (None, text),
        };
        match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() => Ok(Self {
                host: host.to_owned(),
                port: port.parse().map_err(|_| format!("\"{port}\" is no port"))?,
                login,
            }),
            _ => Err("write it as HOST:PORT, for example 127.0.0.1:1883".to_owned()),
        }
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why there is no connection, or no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MqttError {
    #[error("cannot connect to {broker}: {source}")]
    Connect { broker: BrokerAddress, source: io::Error },
    #[error("the broker does not accept the connection: {0:?}")]
    Refused(ConnectReturnCode),
    #[error("the broker ended the connection: {0:?}")]
    Disconnected(DisconnectReasonCode),
    #[error("the broker closed the connection")]
    Closed,
    #[error("the broker did not answer in time")]
    TimedOut,
    #[error("the broker did not grant a subscription: {0}")]
    NotSubscribed(String),
    #[error("the broker sent what cannot be understood: {0}")]
    Protocol(#[from] mqttbytes::Error),
}

/// Makes connections, one after the other is lost.
#[derive(Debug)]
pub(crate) struct Connector {
    broker: BrokerAddress,
    connect: Connect,
    outage: Outage,
    retry: Backoff,
    delay: Option<Duration>,
}

impl Connector {
    /// Connects as `client_id` whose session the broker keeps for `session_expiry` seconds after the
    /// connection ends, and to which it may send `receive_maximum` messages unacknowledged.
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

    /// A connection, as soon as the broker grants one.
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

    /// Notes that a connection does what it is for.
    pub(crate) fn record_success(&mut self) {
        self.outage.record_success();
        self.retry.reset();
    }

    /// Notes that a connection is lost; the next one is made after a while.
    pub(crate) fn record_failure(&mut self, error: &MqttError) {
        if matches!(error, MqttError::Disconnected(DisconnectReasonCode::SessionTakenOver)) {
            error!(
                "another client connected as {}: is a second edge running? They push each other out",
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
    /// How many pings were sent since anything came from the broker, while somebody listened.
    unanswered_pings: u8,
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
                Packet::ConnAck(answer) if answer.code == ConnectReturnCode::Success => {
                    info!(
                        session = if answer.session_present { "resumed" } else { "new" },
                        "{client_id} is connected to the MQTT broker"
                    );
                    let limit = answer.properties.and_then(|properties| properties.receive_max);
                    Ok((packets, limit.unwrap_or(u16::MAX)))
                }
                Packet::ConnAck(answer) => Err(MqttError::Refused(answer.code)),
                _ => Err(mqttbytes::Error::IncorrectPacketFormat.into()),
            }
        };
        let (packets, receive_maximum) =
            timeout(CONNECT_TIMEOUT, opening).await.map_err(|_| MqttError::TimedOut)??;
        let mut pings = interval(KEEP_ALIVE);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.reset();
        Ok(Self { packets, pings, unanswered_pings: 0, receive_maximum })
    }

    /// How many messages at QoS 1 the broker takes before it has acknowledged the first.
    pub(crate) fn receive_maximum(&self) -> usize {
        self.receive_maximum.into()
    }

    /// The next packet, if `reading`; otherwise this goes on for ever. Either way the broker is pinged
    /// meanwhile. Dropping the future before it is ready loses nothing.
    pub(crate) async fn next(&mut self, reading: bool) -> Result<Packet, MqttError> {
        loop {
            let packet = select! {
                packet = self.packets.next(), if reading => packet.ok_or(MqttError::Closed)??,
                _ = self.pings.tick() => {
                    self.ping(reading).await?;
                    continue;
                }
            };
            self.unanswered_pings = 0;
            match packet {
                Packet::PingResp(_) => {}
                Packet::Disconnect(reason) => {
                    return Err(MqttError::Disconnected(reason.reason_code));
                }
                packet => return Ok(packet),
            }
        }
    }

    /// Keeps the broker from thinking that the edge is gone, and finds out whether the broker is, unless
    /// nobody listens to what it says.
    async fn ping(&mut self, reading: bool) -> Result<(), MqttError> {
        match (reading, self.unanswered_pings) {
            // Two: the answer to the last one may be there and not yet read.
            (true, 2..) => return Err(MqttError::TimedOut),
            (true, _) => self.unanswered_pings += 1,
            (false, _) => self.unanswered_pings = 0,
        }
        self.send([Packet::PingReq(PingReq)]).await
    }

    /// Sends packets together.
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

    /// Says good-bye.
    pub(crate) async fn disconnect(mut self) {
        let reason = DisconnectReasonCode::NormalDisconnection;
        // If the broker cannot be told, it sees the socket close, which comes to the same here.
        let _ = self.send([Packet::Disconnect(Disconnect::new(reason))]).await;
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
