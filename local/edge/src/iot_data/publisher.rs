//! Publishing with certainty: an answer comes from the broker or not at all.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{Packet, PubAckReason, Publish},
};
use tokio::{
    select,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use uuid::Uuid;

use super::pending::Pending;
use crate::mqtt::{BrokerAddress, Connection, Connector, MqttError};

/// How long a publish may take. AWS's SDKs try again after 5xx, so sooner than their own patience ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most publishes that the broker has not acknowledged. Others wait, within their patience.
const MAX_IN_FLIGHT: usize = 100;

/// A message for the broker.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
}

/// Why a message was not published, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PublishError {
    /// It was not sent.
    #[error("there is no connection to the MQTT broker")]
    NotConnected,
    /// It was sent, and nobody knows what became of it.
    #[error("the connection to the MQTT broker broke before it acknowledged the message")]
    Interrupted,
    /// It was sent, and nobody knows what became of it.
    #[error("the MQTT broker did not acknowledge the message within {} s", PATIENCE.as_secs())]
    TimedOut,
    /// The broker would not have it.
    #[error("the MQTT broker refused the message: {0:?}")]
    Refused(PubAckReason),
}

type Answer = oneshot::Sender<Result<(), PublishError>>;

/// Publishes over a connection of its own.
#[derive(Debug, Clone)]
pub(super) struct Publisher {
    requests: mpsc::Sender<(Publication, Answer)>,
    connected: watch::Receiver<bool>,
}

impl Publisher {
    /// A publisher, and the task that must run for it to work; it ends when the last clone is dropped.
    pub(super) fn to(broker: &BrokerAddress) -> (Self, impl Future<Output = ()> + Send + use<>) {
        // A session that ends with its connection: whoever is told that his message failed must not see
        // it sent later behind his back. Nothing is subscribed, so nothing has to be received.
        let client_id = format!("iot-data-{}", Uuid::new_v4().simple());
        let connector = Connector::to(broker.clone(), client_id, 0, 1);
        let (requests, receiver) = mpsc::channel(MAX_IN_FLIGHT);
        let (connected, connected_receiver) = watch::channel(false);
        let exchange = Exchange { requests: receiver, pending: Pending::new(), connected };
        let publisher = Self { requests, connected: connected_receiver };
        (publisher, exchange.run(connector))
    }

    /// Publishes, and returns when the broker has the message: at QoS 1 when it says so, at QoS 0 when it
    /// was sent.
    pub(super) async fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        let exchange = async {
            let (answer, receiver) = oneshot::channel();
            self.requests
                .send((publication, answer))
                .await
                .map_err(|_| PublishError::NotConnected)?;
            // Without an answer, the connection was shut down with the message on its way.
            receiver.await.unwrap_or(Err(PublishError::Interrupted))
        };
        timeout(PATIENCE, exchange).await.unwrap_or(Err(PublishError::TimedOut))
    }

    /// Whether there is a connection to the broker.
    pub(super) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }
}

/// The other end of the [`Publisher`]s.
struct Exchange {
    requests: mpsc::Receiver<(Publication, Answer)>,
    pending: Pending<Answer>,
    connected: watch::Sender<bool>,
}

/// What came to an end.
enum End {
    Connection(MqttError),
    /// No [`Publisher`] is left.
    Publishers,
}

impl Exchange {
    /// Runs until no [`Publisher`] is left.
    async fn run(mut self, mut connector: Connector) {
        while let Some(mut connection) = self.connect(&mut connector).await {
            connector.works();
            self.connected.send_replace(true);
            match self.serve(&mut connection).await {
                End::Publishers => return connection.disconnect().await,
                End::Connection(error) => connector.lost(&error),
            }
            self.connected.send_replace(false);
            for answer in self.pending.abandon() {
                reply(answer, Err(PublishError::Interrupted));
            }
        }
    }

    /// Waits for a connection; who wants to publish meanwhile is told that there is none. None when no
    /// [`Publisher`] is left.
    async fn connect(&mut self, connector: &mut Connector) -> Option<Connection> {
        let mut connecting = pin!(connector.connect());
        loop {
            select! {
                connection = &mut connecting => return Some(connection),
                request = self.requests.recv() => {
                    let (_, answer) = request?;
                    reply(answer, Err(PublishError::NotConnected));
                }
            }
        }
    }

    async fn serve(&mut self, connection: &mut Connection) -> End {
        let limit = MAX_IN_FLIGHT.min(connection.receive_maximum());
        loop {
            let has_room = self.pending.len() < limit;
            let result = select! {
                packet = connection.next(true) => packet.map(|packet| self.receive(packet)),
                request = self.requests.recv(), if has_room => match request {
                    Some((publication, answer)) => {
                        self.send(connection, publication, answer).await
                    }
                    None => return End::Publishers,
                },
            };
            if let Err(error) = result {
                return End::Connection(error);
            }
        }
    }

    fn receive(&mut self, packet: Packet) {
        if let Packet::PubAck(ack) = packet
            && let Some(answer) = self.pending.acknowledged(ack.pkid)
        {
            reply(answer, verdict(ack.reason));
        }
    }

    async fn send(
        &mut self,
        connection: &mut Connection,
        publication: Publication,
        answer: Answer,
    ) -> Result<(), MqttError> {
        if answer.is_closed() {
            // Its sender has lost patience and was told that it failed.
            return Ok(());
        }
        let mut publish =
            Publish::new(publication.topic, publication.qos, publication.payload, None);
        publish.retain = publication.retain;
        if publish.qos == QoS::AtMostOnce {
            connection.send([Packet::Publish(publish)]).await?;
            reply(answer, Ok(()));
            return Ok(());
        }
        publish.pkid = self.pending.enter(answer);
        connection.send([Packet::Publish(publish)]).await
    }
}

/// Answers whoever waits; he may have lost patience.
fn reply(answer: Answer, result: Result<(), PublishError>) {
    let _ = answer.send(result);
}

fn verdict(reason: PubAckReason) -> Result<(), PublishError> {
    match reason {
        // Nobody listening is no failure, on AWS neither.
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
        reason => Err(PublishError::Refused(reason)),
    }
}

#[cfg(test)]
mod tests;
