//! Topic rules from MQTT to the queue, as IoT Core implements them.
//!
//! One task owns the connection to the broker. Messages pass [`rule::apply`], are collected in
//! batches ([`batch`]) and sent to the queue ([`send`]). Those that the queue has accepted are
//! acknowledged to the broker ([`window`]). The session is persistent, so the broker keeps all
//! messages that are not acknowledged: a crash loses no message and repeats at most those in
//! flight.

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

/// The MQTT 5 receive maximum: how many unacknowledged messages the broker may send. Mosquitto 2.0
/// respects it until the first acknowledgement, and then sends up to as many again for each; hence
/// [`MAX_IN_FLIGHT`].
const RECEIVE_MAXIMUM: u16 = 1_000;

/// The amount of messages in flight at which reading from the broker stops. It limits the memory
/// that an outage of the queue takes.
const MAX_IN_FLIGHT: InFlight = InFlight { messages: 2_000, bytes: 64 << 20 };

/// The MQTT 5 value for a session that does not expire.
const SESSION_NEVER_EXPIRES: u32 = u32::MAX;

/// The settings of the topic rules.
pub(crate) struct Settings<Q> {
    pub(crate) broker: BrokerAddress,
    /// The client id of the persistent session.
    pub(crate) client_id: String,
    pub(crate) topic_filters: Vec<String>,
    pub(crate) queue: Q,
    /// The maximum number of concurrent calls to the queue.
    pub(crate) calls: usize,
}

/// Runs until `shutdown`; then completes the messages in flight, for a few seconds.
///
/// `subscribed` receives a value when the broker has granted the subscriptions for the first time.
///
/// # Errors
///
/// If the task that sends to the queue ends early.
pub(crate) async fn run(
    settings: Settings<impl SendBatch>,
    counters: Arc<Counters>,
    subscribed: oneshot::Sender<()>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let connector =
        Connector::new(settings.broker, settings.client_id, SESSION_NEVER_EXPIRES, RECEIVE_MAXIMUM);
    let window = AckWindow::default();
    // Unbounded, but limited by MAX_IN_FLIGHT.
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
    // The slot is acquired first, so that the next batch grows while all slots are taken.
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

/// The number and size of messages that are neither in the queue nor given up.
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
                // Messages cannot be acknowledged without a connection; the broker sends them
                // again.
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

    /// Receives and acknowledges messages until the connection breaks. If dropped at shutdown, at
    /// most acknowledgements remain unsent.
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
                    Ok(Packet::SubAck(suback)) => check_suback(&suback).map(|()| {
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

    /// Stops reading and acknowledges the messages in flight. The broker keeps messages that remain
    /// unacknowledged for the next process.
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

    /// Subscribes on each connection, because the template may have changed. Retained messages are
    /// not requested: they are old, and topic rules on AWS do not receive them either.
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
            // The receiver may have been dropped at shutdown.
            let _ = subscribed.send(());
        }
    }

    fn receive(&mut self, publish: &Publish) {
        let position = (publish.qos != QoS::AtMostOnce).then(|| self.window.receive(publish.pkid));
        match rule::apply(publish, &self.filters, Timestamp::now().as_millisecond()) {
            RuleOutcome::Forward(body) => {
                self.counters.received.add(1);
                self.in_flight.add(body.len());
                // Without a receiver the process is about to end.
                let _ = self.messages.send(Message { body, position });
            }
            RuleOutcome::Ignore => self.complete(position),
            RuleOutcome::Reject { topic, bytes } => {
                warn!(
                    topic,
                    bytes, "discarded a message larger than the 128 KiB that IoT Core accepts"
                );
                self.counters.dropped.add(1);
                self.complete(position);
            }
        }
    }

    /// Removes settled messages from those in flight.
    fn settle(&mut self, messages: Vec<Settled>) {
        for Settled { position, bytes } in messages {
            self.in_flight.remove(bytes);
            self.complete(position);
        }
    }

    /// Marks a message as ready to be acknowledged.
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

/// Checks whether the broker granted the subscriptions.
fn check_suback(suback: &SubAck) -> Result<(), MqttError> {
    let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
    match suback.return_codes.iter().find(|code| **code != granted) {
        None => Ok(()),
        Some(code) => Err(MqttError::NotSubscribed(format!("{code:?}"))),
    }
}

#[cfg(test)]
mod tests;
