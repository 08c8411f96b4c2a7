//! Up: from MQTT to the queue, as IoT Core's topic rules do it.
//!
//! One task owns the connection to the broker. What arrives goes through [`rule::apply`] to the batches
//! ([`batch`]) and from there to the queue ([`send`]); what the queue has accepted comes back here and is
//! acknowledged to the broker ([`window`]). The session is persistent, so the broker keeps whatever is
//! not acknowledged: killing the edge at any point loses nothing, and repeats at most what was on its way.

mod batch;
mod rule;
mod send;
mod window;

use std::{pin::pin, sync::Arc};

use anyhow::bail;
use jiff::Timestamp;
use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{
        Filter, Packet, PubAck, Publish, RetainForwardRule, SubAck, Subscribe, SubscribeReasonCode,
    },
};
use tokio::{
    select,
    sync::{
        Semaphore,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::{
    batch::{Batcher, Message},
    rule::RuleOutcome,
    send::{SendBatch, Sender, Settled},
    window::{AckWindow, Position},
};
use crate::{
    SHUTDOWN_GRACE,
    counters::Counters,
    mqtt::{BrokerAddress, Connection, Connector, MqttError},
};

/// The most messages that the broker may have sent without seeing them acknowledged, as it is told
/// (MQTT 5's receive maximum). Mosquitto 2.0 keeps to it until the first acknowledgement, and from then on
/// sends up to as many again for each; hence [`MAX_IN_FLIGHT`].
const RECEIVE_MAXIMUM: u16 = 1_000;

/// How much is held before nothing more is read from the broker: it bounds the memory that an outage of
/// the queue takes.
const MAX_IN_FLIGHT: InFlight = InFlight { messages: 2_000, bytes: 64 << 20 };

/// MQTT 5's value for a session that does not expire.
const SESSION_NEVER_EXPIRES: u32 = u32::MAX;

/// What the uplink needs to know.
pub(crate) struct Settings<Q> {
    pub(crate) broker: BrokerAddress,
    /// The name of the session that the broker keeps.
    pub(crate) client_id: String,
    pub(crate) topic_filters: Vec<String>,
    pub(crate) queue: Q,
    /// How many calls to the queue may be in flight.
    pub(crate) calls: usize,
}

/// Runs until `shutdown`, and then until what is on its way has arrived, for a few seconds at most.
/// `subscribed` is told when the broker has taken the subscriptions for the first time.
///
/// # Errors
///
/// When the task that sends to the queue is gone: a new process must take over.
pub(crate) async fn run(
    settings: Settings<impl SendBatch>,
    counters: Arc<Counters>,
    subscribed: oneshot::Sender<()>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let connector =
        Connector::new(settings.broker, settings.client_id, SESSION_NEVER_EXPIRES, RECEIVE_MAXIMUM);
    let window = AckWindow::default();
    // Unbounded, but never long: see MAX_IN_FLIGHT.
    let (messages, received) = unbounded_channel();
    let (settled, settled_receiver) = unbounded_channel();
    let sender =
        Sender::new(settings.queue, window.connection_start(), settled, Arc::clone(&counters));
    let mut sending = JoinSet::new();
    sending.spawn(send_batches(received, sender, settings.calls));
    let forwarder = Forwarder {
        filters: settings.topic_filters,
        window,
        messages,
        settled: settled_receiver,
        in_flight: InFlight::default(),
        counters,
        subscribed: Some(subscribed),
    };
    select! {
        () = forwarder.run(connector, shutdown) => Ok(()),
        Some(ended) = sending.join_next() => {
            ended?;
            bail!("the task that sends to the queue has ended");
        }
    }
}

/// Forms batches and sends them, up to `calls` at a time.
async fn send_batches(
    messages: UnboundedReceiver<Message>,
    sender: Sender<impl SendBatch>,
    calls: usize,
) {
    let sender = Arc::new(sender);
    let slots = Arc::new(Semaphore::new(calls));
    let mut batches = Batcher::new(messages);
    let mut in_flight = JoinSet::new();
    // The slot first: what arrives while all are taken makes the next batch fuller.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let Some(batch) = batches.next().await else {
            break;
        };
        while in_flight.try_join_next().is_some() {}
        let sender = Arc::clone(&sender);
        in_flight.spawn(async move {
            sender.send(batch).await;
            drop(slot);
        });
    }
    in_flight.join_all().await;
}

/// Messages that are neither in the queue nor given up.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct InFlight {
    messages: usize,
    bytes: usize,
}

impl InFlight {
    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes -= bytes;
    }

    fn is_below(&self, limit: Self) -> bool {
        self.messages < limit.messages && self.bytes < limit.bytes
    }
}

struct Forwarder {
    filters: Vec<String>,
    window: AckWindow,
    messages: UnboundedSender<Message>,
    settled: UnboundedReceiver<Vec<Settled>>,
    in_flight: InFlight,
    counters: Arc<Counters>,
    subscribed: Option<oneshot::Sender<()>>,
}

impl Forwarder {
    async fn run(mut self, mut connector: Connector, shutdown: CancellationToken) {
        loop {
            let connected = shutdown.run_until_cancelled(self.connect(&mut connector));
            let Some(mut connection) = connected.await else {
                // Without a connection nothing can be acknowledged: the broker sends all of it again.
                return;
            };
            let exchange = self.serve(&mut connection, &mut connector);
            match shutdown.run_until_cancelled(exchange).await {
                Some(error) => connector.record_failure(&error),
                None => match timeout(SHUTDOWN_GRACE, self.drain(&mut connection)).await {
                    Ok(Err(error)) => connector.record_failure(&error),
                    Ok(Ok(())) | Err(_) => connection.disconnect().await,
                },
            }
            self.window.reset();
            if shutdown.is_cancelled() {
                return;
            }
        }
    }

    /// Waits for a connection.
    async fn connect(&mut self, connector: &mut Connector) -> Connection {
        let mut connecting = pin!(connector.connect());
        loop {
            select! {
                connection = &mut connecting => return connection,
                Some(messages) = self.settled.recv() => self.settle(messages),
            }
        }
    }

    /// Takes messages from the broker and acknowledges them, until the connection breaks. Dropped at
    /// shutdown, which at worst leaves an acknowledgement unsent.
    async fn serve(&mut self, connection: &mut Connection, connector: &mut Connector) -> MqttError {
        if let Err(error) = connection.send([self.subscription()]).await {
            return error;
        }
        loop {
            let has_room = self.in_flight.is_below(MAX_IN_FLIGHT);
            let result = select! {
                packet = connection.next(has_room) => match packet {
                    Ok(Packet::Publish(publish)) => {
                        self.receive(&publish);
                        Ok(())
                    }
                    Ok(Packet::SubAck(answer)) => check_suback(&answer).map(|()| {
                        connector.record_success();
                        self.notify_subscribed();
                    }),
                    Ok(_) => Ok(()),
                    Err(error) => Err(error),
                },
                Some(messages) = self.settled.recv() => {
                    self.settle(messages);
                    Ok(())
                }
            };
            let acknowledged = match result {
                Ok(()) => self.acknowledge(connection).await,
                Err(error) => Err(error),
            };
            if let Err(error) = acknowledged {
                return error;
            }
        }
    }

    /// Takes nothing more and acknowledges what is on its way. What has been read and not acknowledged
    /// when time is up, the broker keeps for the next edge.
    async fn drain(&mut self, connection: &mut Connection) -> Result<(), MqttError> {
        while self.in_flight.messages > 0 {
            let Some(messages) = self.settled.recv().await else {
                break;
            };
            self.settle(messages);
            self.acknowledge(connection).await?;
        }
        Ok(())
    }

    /// Subscribes on every connection, as the template may have changed since the last. Nothing is
    /// replayed for it: what is retained, devices have said at another time, and a topic rule does not
    /// see it either.
    fn subscription(&self) -> Packet {
        let filters = self.filters.iter().map(|filter| Filter {
            retain_forward_rule: RetainForwardRule::Never,
            ..Filter::new(filter, QoS::AtLeastOnce)
        });
        let mut subscribe = Subscribe::new_many(filters, None);
        subscribe.pkid = 1;
        Packet::Subscribe(subscribe)
    }

    fn notify_subscribed(&mut self) {
        if let Some(subscribed) = self.subscribed.take() {
            // Whoever waited may have been told to stop.
            let _ = subscribed.send(());
        }
    }

    fn receive(&mut self, publish: &Publish) {
        let position = (publish.qos != QoS::AtMostOnce).then(|| self.window.receive(publish.pkid));
        match rule::apply(publish, &self.filters, Timestamp::now().as_millisecond()) {
            RuleOutcome::Forward(body) => {
                self.counters.received.add(1);
                self.in_flight.add(body.len());
                // When the receiver is gone, so is this edge in a moment.
                let _ = self.messages.send(Message { body, position });
            }
            RuleOutcome::Ignore => self.complete(position),
            RuleOutcome::Reject { topic, bytes } => {
                warn!(topic, bytes, "dropped a message that is too large: IoT Core takes 128 KiB");
                self.counters.dropped.add(1);
                self.complete(position);
            }
        }
    }

    /// Notes what the senders are finished with.
    fn settle(&mut self, messages: Vec<Settled>) {
        for Settled { position, bytes } in messages {
            self.in_flight.remove(bytes);
            self.complete(position);
        }
    }

    /// Notes that a message needs nothing any more but its acknowledgement.
    fn complete(&mut self, position: Option<Position>) {
        if let Some(position) = position {
            self.window.complete(position);
        }
    }

    /// Sends the acknowledgements that are due.
    async fn acknowledge(&mut self, connection: &mut Connection) -> Result<(), MqttError> {
        let mut acks = std::iter::from_fn(|| self.window.next_ack())
            .map(|packet_id| Packet::PubAck(PubAck::new(packet_id, None)))
            .peekable();
        if acks.peek().is_none() {
            return Ok(());
        }
        connection.send(acks).await
    }
}

/// Whether the broker granted the subscriptions as asked.
fn check_suback(answer: &SubAck) -> Result<(), MqttError> {
    let wanted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
    match answer.return_codes.iter().find(|code| **code != wanted) {
        None => Ok(()),
        Some(code) => Err(MqttError::NotSubscribed(format!("{code:?}"))),
    }
}

#[cfg(test)]
mod tests;
