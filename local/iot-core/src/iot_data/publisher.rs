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

use super::pending::PendingAcks;
use crate::mqtt::{BrokerAddress, Connection, Connector, MqttError};

/// How long a publish may take. AWS's SDKs try again after 5xx, so sooner than their own patience ends.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

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
    #[error("the MQTT broker did not acknowledge the message within {} s", PUBLISH_TIMEOUT.as_secs())]
    TimedOut,
    /// The broker would not have it.
    #[error("the MQTT broker refused the message: {0:?}")]
    Refused(PubAckReason),
}

type ResultSender = oneshot::Sender<Result<(), PublishError>>;

/// Publishes over a connection of its own.
#[derive(Debug, Clone)]
pub(super) struct Publisher {
    requests: mpsc::Sender<(Publication, ResultSender)>,
    connected: watch::Receiver<bool>,
}

impl Publisher {
    /// A publisher, and the task that must run for it to work; it ends when the last clone is dropped.
    pub(super) fn new(broker: &BrokerAddress) -> (Self, impl Future<Output = ()> + Send + use<>) {
        // A session that ends with its connection: whoever is told that his message failed must not see
        // it sent later behind his back. Nothing is subscribed, so nothing has to be received.
        let client_id = format!("iot-data-{}", Uuid::new_v4().simple());
        let connector = Connector::new(broker.clone(), client_id, 0, 1);
        let (requests, receiver) = mpsc::channel(MAX_IN_FLIGHT);
        let (connected, connected_receiver) = watch::channel(false);
        let exchange = PublisherTask { requests: receiver, pending: PendingAcks::new(), connected };
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
        timeout(PUBLISH_TIMEOUT, exchange).await.unwrap_or(Err(PublishError::TimedOut))
    }

    /// Whether there is a connection to the broker.
    pub(super) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }
}

/// The other end of the [`Publisher`]s.
struct PublisherTask {
    requests: mpsc::Receiver<(Publication, ResultSender)>,
    pending: PendingAcks<ResultSender>,
    connected: watch::Sender<bool>,
}

/// What came to an end.
enum ExitReason {
    ConnectionLost(MqttError),
    /// No [`Publisher`] is left.
    PublishersDropped,
}

impl PublisherTask {
    /// Runs until no [`Publisher`] is left.
    async fn run(mut self, mut connector: Connector) {
        while let Some(mut connection) = self.connect(&mut connector).await {
            connector.record_success();
            self.connected.send_replace(true);
            match self.serve(&mut connection).await {
                ExitReason::PublishersDropped => return connection.disconnect().await,
                ExitReason::ConnectionLost(error) => connector.record_failure(&error),
            }
            self.connected.send_replace(false);
            for answer in self.pending.drain() {
                send_result(answer, Err(PublishError::Interrupted));
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
                    send_result(answer, Err(PublishError::NotConnected));
                }
            }
        }
    }

    async fn serve(&mut self, connection: &mut Connection) -> ExitReason {
        let limit = MAX_IN_FLIGHT.min(connection.receive_maximum());
        loop {
            let has_room = self.pending.len() < limit;
            let result = select! {
                packet = connection.next(true) => packet.map(|packet| self.receive(packet)),
                request = self.requests.recv(), if has_room => match request {
                    Some((publication, answer)) => {
                        self.send(connection, publication, answer).await
                    }
                    None => return ExitReason::PublishersDropped,
                },
            };
            if let Err(error) = result {
                return ExitReason::ConnectionLost(error);
            }
        }
    }

    fn receive(&mut self, packet: Packet) {
        if let Packet::PubAck(ack) = packet
            && let Some(answer) = self.pending.remove(ack.pkid)
        {
            send_result(answer, puback_result(ack.reason));
        }
    }

    async fn send(
        &mut self,
        connection: &mut Connection,
        publication: Publication,
        answer: ResultSender,
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
            send_result(answer, Ok(()));
            return Ok(());
        }
        publish.pkid = self.pending.insert(answer);
        connection.send([Packet::Publish(publish)]).await
    }
}

/// Answers whoever waits; he may have lost patience.
fn send_result(answer: ResultSender, result: Result<(), PublishError>) {
    let _ = answer.send(result);
}

fn puback_result(reason: PubAckReason) -> Result<(), PublishError> {
    match reason {
        // Nobody listening is no failure, on AWS neither.
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
        reason => Err(PublishError::Refused(reason)),
    }
}

#[cfg(test)]
mod tests;
