//! Publishing with certainty: an answer comes from the broker or not at all.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use rumqttc::{
    Outgoing,
    v5::{
        AsyncClient, Incoming,
        mqttbytes::{QoS, v5::PubAckReason},
    },
};
use tokio::{
    select,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use uuid::Uuid;

use super::pending::Pending;
use crate::{
    DISCONNECT_GRACE,
    mqtt::{BrokerAddress, Event, Session},
};

/// How long a publish may take. AWS's SDKs try again after 5xx, so sooner than their own patience ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most publishes that the broker has not acknowledged. Others wait, within their patience.
const MAX_IN_FLIGHT: u16 = 100;

const KEEP_ALIVE: Duration = Duration::from_secs(10);

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
        // it sent later behind his back.
        let client_id = format!("iot-data-{}", Uuid::new_v4().simple());
        let mut options = broker.options(&client_id, KEEP_ALIVE);
        options.set_clean_start(true).set_outgoing_inflight_upper_limit(MAX_IN_FLIGHT);
        let (client, session) = Session::new(options, usize::from(MAX_IN_FLIGHT) + 8);
        let (requests, receiver) = mpsc::channel(usize::from(MAX_IN_FLIGHT));
        let (connected, connected_receiver) = watch::channel(false);
        let connection =
            Connection { client, requests: receiver, pending: Pending::new(), connected };
        let publisher = Self { requests, connected: connected_receiver };
        (publisher, connection.run(session))
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

    pub(super) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Waits for a connection; false when there will be none.
    pub(super) async fn connected(&mut self) -> bool {
        self.connected.wait_for(|connected| *connected).await.is_ok()
    }
}

struct Connection {
    client: AsyncClient,
    requests: mpsc::Receiver<(Publication, Answer)>,
    pending: Pending<Answer>,
    connected: watch::Sender<bool>,
}

impl Connection {
    /// Runs until no [`Publisher`] is left.
    async fn run(mut self, mut session: Session) {
        loop {
            let event = {
                let mut next = pin!(session.next());
                loop {
                    select! {
                        event = &mut next => break Some(event),
                        request = self.requests.recv(), if self.has_room() => match request {
                            Some((publication, answer)) => self.submit(publication, answer),
                            None => break None,
                        },
                    }
                }
            };
            match event {
                Some(event) => self.handle(event, &mut session),
                None => break,
            }
        }
        self.disconnect(session).await;
    }

    /// Without a connection there always is: then the answer is immediate.
    fn has_room(&self) -> bool {
        !*self.connected.borrow() || self.pending.len() < usize::from(MAX_IN_FLIGHT)
    }

    fn submit(&mut self, publication: Publication, answer: Answer) {
        if answer.is_closed() {
            // Its sender has lost patience and was told that it failed.
            return;
        }
        if !*self.connected.borrow() {
            reply(answer, Err(PublishError::NotConnected));
            return;
        }
        let Publication { topic, payload, qos, retain } = publication;
        match self.client.try_publish(topic, qos, retain, payload) {
            Ok(()) => self.pending.submitted(answer),
            Err(_) => reply(answer, Err(PublishError::NotConnected)),
        }
    }

    fn handle(&mut self, event: Event, session: &mut Session) {
        match event {
            Event::Connected => {
                self.connected.send_replace(true);
            }
            Event::Lost => self.lost(),
            Event::Outgoing(Outgoing::Publish(packet_id)) => {
                if let Some(answer) = self.pending.written(packet_id) {
                    reply(answer, Ok(()));
                }
            }
            Event::Outgoing(Outgoing::AwaitAck(_)) => {
                // The client would reuse a packet id that is still in flight, which it does when a broker
                // acknowledges far out of order. A new connection is simpler than to tell them apart.
                session.give_up(&"packet ids ran out");
                self.lost();
            }
            Event::Incoming(Incoming::PubAck(ack)) => {
                if let Some(answer) = self.pending.acknowledged(ack.pkid) {
                    reply(answer, verdict(ack.reason));
                }
            }
            Event::Incoming(_) | Event::Outgoing(_) => {}
        }
    }

    fn lost(&mut self) {
        self.connected.send_replace(false);
        for answer in self.pending.abandon() {
            reply(answer, Err(PublishError::Interrupted));
        }
    }

    async fn disconnect(self, mut session: Session) {
        if !*self.connected.borrow() || self.client.try_disconnect().is_err() {
            return;
        }
        let written = async {
            while !matches!(
                session.next().await,
                Event::Outgoing(Outgoing::Disconnect) | Event::Lost
            ) {}
        };
        // Otherwise the broker notices that the socket is closed, which for a session like this is as good.
        let _ = timeout(DISCONNECT_GRACE, written).await;
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
