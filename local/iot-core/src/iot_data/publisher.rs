//! Publication of messages with confirmation by the broker.

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

/// The timeout of a publication, shorter than that of the AWS SDKs, which retry after a 5xx.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of unacknowledged messages. Further ones wait, up to their timeout.
const MAX_IN_FLIGHT: usize = 100;

/// A message for the broker.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
}

/// The reason why a message was not, or may not have been, published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PublishError {
    /// It was not sent.
    #[error("there is no connection to the MQTT broker")]
    NotConnected,
    /// It was sent; the outcome is unknown.
    #[error("the connection to the MQTT broker broke before it acknowledged the message")]
    Interrupted,
    /// It was sent; the outcome is unknown.
    #[error("the MQTT broker did not acknowledge the message within {} s", PUBLISH_TIMEOUT.as_secs())]
    TimedOut,
    /// The broker rejected it.
    #[error("the MQTT broker rejected the message: {0:?}")]
    Rejected(PubAckReason),
}

type ResultSender = oneshot::Sender<Result<(), PublishError>>;

/// Publishes messages over its own connection.
#[derive(Debug, Clone)]
pub(super) struct Publisher {
    requests: mpsc::Sender<(Publication, ResultSender)>,
    connected: watch::Receiver<bool>,
}

impl Publisher {
    /// Creates a publisher and the task that it needs, which ends when the last clone is dropped.
    pub(super) fn new(broker: &BrokerAddress) -> (Self, impl Future<Output = ()> + Send + use<>) {
        // The session ends with the connection, so that a message that was reported as failed is
        // not sent later. There are no subscriptions to keep.
        let client_id = format!("iot-data-{}", Uuid::new_v4().simple());
        let connector = Connector::new(broker.clone(), client_id, 0, 1);
        let (requests, receiver) = mpsc::channel(MAX_IN_FLIGHT);
        let (connected, connected_receiver) = watch::channel(false);
        let exchange = PublisherTask { requests: receiver, pending: PendingAcks::new(), connected };
        let publisher = Self { requests, connected: connected_receiver };
        (publisher, exchange.run(connector))
    }

    /// Publishes a message; returns when the broker has acknowledged it (QoS 1) or when it was sent
    /// (QoS 0).
    pub(super) async fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        let exchange = async {
            let (result_sender, receiver) = oneshot::channel();
            self.requests
                .send((publication, result_sender))
                .await
                .map_err(|_| PublishError::NotConnected)?;
            // The sender was dropped: the connection ended with the message in flight.
            receiver.await.unwrap_or(Err(PublishError::Interrupted))
        };
        timeout(PUBLISH_TIMEOUT, exchange).await.unwrap_or(Err(PublishError::TimedOut))
    }

    /// Returns whether the broker is connected.
    pub(super) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }
}

/// The task behind the [`Publisher`]s.
struct PublisherTask {
    requests: mpsc::Receiver<(Publication, ResultSender)>,
    pending: PendingAcks<ResultSender>,
    connected: watch::Sender<bool>,
}

/// The reason why a connection ended.
enum ExitReason {
    ConnectionLost(MqttError),
    /// No [`Publisher`] exists any more.
    PublishersDropped,
}

impl PublisherTask {
    /// Runs until no [`Publisher`] exists any more.
    async fn run(mut self, mut connector: Connector) {
        while let Some(mut connection) = self.connect(&mut connector).await {
            connector.record_success();
            self.connected.send_replace(true);
            match self.serve(&mut connection).await {
                ExitReason::PublishersDropped => return connection.disconnect().await,
                ExitReason::ConnectionLost(error) => connector.record_failure(&error),
            }
            self.connected.send_replace(false);
            for result_sender in self.pending.drain() {
                send_result(result_sender, Err(PublishError::Interrupted));
            }
        }
    }

    /// Waits for a connection and fails all publications meanwhile. Returns `None` when no
    /// [`Publisher`] exists any more.
    async fn connect(&mut self, connector: &mut Connector) -> Option<Connection> {
        let mut connecting = pin!(connector.connect());
        loop {
            select! {
                connection = &mut connecting => return Some(connection),
                request = self.requests.recv() => {
                    let (_, result_sender) = request?;
                    send_result(result_sender, Err(PublishError::NotConnected));
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
                    Some((publication, result_sender)) => {
                        self.send(connection, publication, result_sender).await
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
            && let Some(result_sender) = self.pending.remove(ack.pkid)
        {
            send_result(result_sender, puback_result(ack.reason));
        }
    }

    async fn send(
        &mut self,
        connection: &mut Connection,
        publication: Publication,
        result_sender: ResultSender,
    ) -> Result<(), MqttError> {
        if result_sender.is_closed() {
            // Its publication has timed out and was reported as failed.
            return Ok(());
        }
        let mut publish =
            Publish::new(publication.topic, publication.qos, publication.payload, None);
        publish.retain = publication.retain;
        if publish.qos == QoS::AtMostOnce {
            connection.send([Packet::Publish(publish)]).await?;
            send_result(result_sender, Ok(()));
            return Ok(());
        }
        publish.pkid = self.pending.insert(result_sender);
        connection.send([Packet::Publish(publish)]).await
    }
}

/// Sends a result to a publication, which may have timed out.
fn send_result(result_sender: ResultSender, result: Result<(), PublishError>) {
    let _ = result_sender.send(result);
}

fn puback_result(reason: PubAckReason) -> Result<(), PublishError> {
    match reason {
        // As on AWS, a message without subscribers is no failure.
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
        reason => Err(PublishError::Rejected(reason)),
    }
}

#[cfg(test)]
mod tests;
