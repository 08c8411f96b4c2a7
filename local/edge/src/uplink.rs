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
    batch::{Batches, Message},
    rule::Verdict,
    send::{SendBatch, Sender, Settled},
    window::{AckWindow, Place},
};
use crate::{
    SHUTDOWN_GRACE,
    activity::Activity,
    mqtt::{BrokerAddress, Connection, Connector, MqttError},
};

/// The most messages that the broker may have sent without seeing them acknowledged, as it is told
/// (MQTT 5's receive maximum). Mosquitto 2.0 keeps to it until the first acknowledgement, and from then on
/// sends up to as many again for each; hence [`MAX_HELD`].
const RECEIVE_MAXIMUM: u16 = 1_000;

/// How much is held before nothing more is read from the broker: it bounds the memory that an outage of
/// the queue takes.
const MAX_HELD: Held = Held { messages: 2_000, bytes: 64 << 20 };

/// MQTT 5's value for a session that does not expire.
const NEVER: u32 = u32::MAX;

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
    activity: Arc<Activity>,
    subscribed: oneshot::Sender<()>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let connector = Connector::to(settings.broker, settings.client_id, NEVER, RECEIVE_MAXIMUM);
    let window = AckWindow::default();
    // Unbounded, but never long: see MAX_HELD.
    let (messages, received) = unbounded_channel();
    let (settled, settled_receiver) = unbounded_channel();
    let sender = Sender::to(settings.queue, window.horizon(), settled, Arc::clone(&activity));
    let mut sending = JoinSet::new();
    sending.spawn(send_all(received, sender, settings.calls));
    let uplink = Uplink {
        filters: settings.topic_filters,
        window,
        messages,
        settled: settled_receiver,
        held: Held::default(),
        activity,
        subscribed: Some(subscribed),
    };
    select! {
        () = uplink.run(connector, shutdown) => Ok(()),
        Some(ended) = sending.join_next() => {
            ended?;
            bail!("the task that sends to the queue has ended");
        }
    }
}

/// Forms batches and sends them, up to `calls` at a time.
async fn send_all(
    messages: UnboundedReceiver<Message>,
    sender: Sender<impl SendBatch>,
    calls: usize,
) {
    let sender = Arc::new(sender);
    let slots = Arc::new(Semaphore::new(calls));
    let mut batches = Batches::of(messages);
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
struct Held {
    messages: usize,
    bytes: usize,
}

impl Held {
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

struct Uplink {
    filters: Vec<String>,
    window: AckWindow,
    messages: UnboundedSender<Message>,
    settled: UnboundedReceiver<Vec<Settled>>,
    held: Held,
    activity: Arc<Activity>,
    subscribed: Option<oneshot::Sender<()>>,
}

impl Uplink {
    async fn run(mut self, mut connector: Connector, shutdown: CancellationToken) {
        loop {
            let connected = shutdown.run_until_cancelled(self.connect(&mut connector));
            let Some(mut connection) = connected.await else {
                // Without a connection nothing can be acknowledged: the broker sends all of it again.
                return;
            };
            let exchange = self.exchange(&mut connection, &mut connector);
            match shutdown.run_until_cancelled(exchange).await {
                Some(error) => connector.lost(&error),
                None => match timeout(SHUTDOWN_GRACE, self.drain(&mut connection)).await {
                    Ok(Err(error)) => connector.lost(&error),
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
    async fn exchange(
        &mut self,
        connection: &mut Connection,
        connector: &mut Connector,
    ) -> MqttError {
        if let Err(error) = connection.send([self.subscription()]).await {
            return error;
        }
        loop {
            let has_room = self.held.is_below(MAX_HELD);
            let result = select! {
                packet = connection.next(has_room) => match packet {
                    Ok(Packet::Publish(publish)) => {
                        self.receive(&publish);
                        Ok(())
                    }
                    Ok(Packet::SubAck(answer)) => granted(&answer).map(|()| {
                        connector.works();
                        self.is_subscribed();
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
        while self.held.messages > 0 {
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

    fn is_subscribed(&mut self) {
        if let Some(subscribed) = self.subscribed.take() {
            // Whoever waited may have been told to stop.
            let _ = subscribed.send(());
        }
    }

    fn receive(&mut self, publish: &Publish) {
        let place = (publish.qos != QoS::AtMostOnce).then(|| self.window.receive(publish.pkid));
        match rule::apply(publish, &self.filters, Timestamp::now().as_millisecond()) {
            Verdict::Send(body) => {
                self.activity.received.add(1);
                self.held.add(body.len());
                // When the receiver is gone, so is this edge in a moment.
                let _ = self.messages.send(Message { body, place });
            }
            Verdict::Ignore => self.accept(place),
            Verdict::Refuse { topic, bytes } => {
                warn!(topic, bytes, "dropped a message that is too large: IoT Core takes 128 KiB");
                self.activity.dropped.add(1);
                self.accept(place);
            }
        }
    }

    /// Notes what the senders are finished with.
    fn settle(&mut self, messages: Vec<Settled>) {
        for Settled { place, bytes } in messages {
            self.held.remove(bytes);
            self.accept(place);
        }
    }

    /// Notes that a message needs nothing any more but its acknowledgement.
    fn accept(&mut self, place: Option<Place>) {
        if let Some(place) = place {
            self.window.accept(place);
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
fn granted(answer: &SubAck) -> Result<(), MqttError> {
    let wanted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
    match answer.return_codes.iter().find(|code| **code != wanted) {
        None => Ok(()),
        Some(code) => Err(MqttError::NotSubscribed(format!("{code:?}"))),
    }
}

#[cfg(test)]
mod tests;
