//! A scripted broker for tests.

use futures::{SinkExt, StreamExt};
use rumqttc::v5::mqttbytes::{
    Error, QoS,
    v5::{Codec, ConnAck, Connect, ConnectReturnCode, Packet, Publish},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::Framed;

use super::BrokerAddress;

/// The listener of the broker.
pub(crate) struct TestBroker {
    listener: TcpListener,
}

/// The broker's side of a connection.
pub(crate) struct Peer {
    packets: Framed<TcpStream, Codec>,
}

impl TestBroker {
    pub(crate) async fn start() -> (Self, BrokerAddress) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        (Self { listener }, address)
    }

    /// Accepts a connection; returns the CONNECT packet of the client.
    pub(crate) async fn accept(&self) -> (Peer, Connect) {
        let (stream, _) = self.listener.accept().await.unwrap();
        let codec = Codec { max_incoming_size: None, max_outgoing_size: None };
        let mut peer = Peer { packets: Framed::new(stream, codec) };
        let Packet::Connect(connect, ..) = peer.next().await else {
            panic!("expected CONNECT");
        };
        let code = ConnectReturnCode::Success;
        peer.send(Packet::ConnAck(ConnAck { session_present: false, code, properties: None }))
            .await;
        (peer, connect)
    }
}

impl Peer {
    pub(crate) async fn next(&mut self) -> Packet {
        self.packets.next().await.unwrap().unwrap()
    }

    /// Reads a DISCONNECT. Without a reason code it consists of a header, which rumqttc writes but
    /// does not read.
    pub(crate) async fn expect_disconnect(&mut self) {
        let packet = self.packets.next().await;
        assert!(matches!(packet, Some(Err(Error::PayloadRequired))), "{packet:?}");
    }

    pub(crate) async fn send(&mut self, packet: Packet) {
        self.packets.send(packet).await.unwrap();
    }

    /// Sends a message with QoS 1.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &str, packet_id: u16) {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload.to_owned(), None);
        publish.pkid = packet_id;
        self.send(Packet::Publish(publish)).await;
    }
}
