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

use std::{pin::pin, sync::Arc, time::Duration};

use anyhow::Context;
use jiff::Timestamp;
use rumqttc::{
    Outgoing,
    v5::{
        AsyncClient, Incoming, MqttOptions,
        mqttbytes::{
            QoS,
            v5::{Filter, Publish, RetainForwardRule, SubAck, SubscribeReasonCode},
        },
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
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::{
    batch::{Batches, Message},
    rule::Verdict,
    send::{Sender, Settled},
    window::{AckWindow, Place},
};
use crate::{
    DISCONNECT_GRACE, SHUTDOWN_GRACE,
    activity::Activity,
    mqtt::{BrokerAddress, Event, Session},
    queue::Queue,
};

/// The most messages that the broker may have sent without seeing them acknowledged (MQTT 5's receive
/// maximum). It bounds the memory of an outage of the queue: the broker stops sending and keeps the rest.
const RECEIVE_MAXIMUM: u16 = 1_000;

/// The most QoS 0 messages that are held. Nothing makes the broker wait with those, so an outage of the
/// queue loses what is beyond; that is what QoS 0 means.
const MAX_HELD_AT_QOS_0: usize = 1_000;

const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// MQTT 5's value for a session that does not expire.
const NEVER: u32 = u32::MAX;

/// What the uplink needs to know.
pub(crate) struct Settings {
    pub(crate) broker: BrokerAddress,
    /// The name of the session that the broker keeps.
    pub(crate) client_id: String,
    pub(crate) topic_filters: Vec<String>,
    pub(crate) queue: Queue,
    /// How many calls to the queue may be in flight.
    pub(crate) calls: usize,
}

impl Settings {
    fn mqtt_options(&self) -> MqttOptions {
        let mut options = self.broker.options(&self.client_id, KEEP_ALIVE);
        options
            .set_clean_start(false)
            .set_session_expiry_interval(Some(NEVER))
            .set_receive_maximum(Some(RECEIVE_MAXIMUM))
            .set_outgoing_inflight_upper_limit(1)
            .set_manual_acks(true);
        options
    }
}

/// Runs until `shutdown`, and then until what is on its way has arrived, for a few seconds at most.
/// `subscribed` is told when the broker has taken the subscriptions for the first time.
///
/// # Errors
///
/// When the task that sends to the queue is gone: a new process must take over.
pub(crate) async fn run(
    settings: Settings,
    activity: Arc<Activity>,
    subscribed: oneshot::Sender<()>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    // There is room for an acknowledgement of all that the broker may have outstanding, so `try_ack`
    // never fails for want of it.
    let requests = usize::from(RECEIVE_MAXIMUM) + 8;
    let (client, mut session) = Session::new(settings.mqtt_options(), requests);
    let window = AckWindow::default();
    // Unbounded, but never long: see RECEIVE_MAXIMUM and MAX_HELD_AT_QOS_0.
    let (messages, received) = unbounded_channel();
    let (settled, mut settled_receiver) = unbounded_channel();
    let sender = Sender::to(settings.queue, window.horizon(), settled, Arc::clone(&activity));
    let mut sending = JoinSet::new();
    sending.spawn(send_all(received, sender, settings.calls));

    let mut uplink = Uplink {
        client,
        filters: settings.topic_filters,
        window,
        messages,
        on_their_way: 0,
        qos_0: Arc::new(Semaphore::new(MAX_HELD_AT_QOS_0)),
        activity,
        subscribed: Some(subscribed),
        connected: false,
        draining: false,
    };
    let (session, settled) = (&mut session, &mut settled_receiver);
    uplink.drive(session, settled, shutdown.cancelled(), |_| false).await?;
    uplink.draining = true;
    let arrived = |uplink: &Uplink| uplink.on_their_way == 0;
    uplink.drive(session, settled, sleep(SHUTDOWN_GRACE), arrived).await?;
    if uplink.connected && uplink.client.try_disconnect().is_ok() {
        let gone = |uplink: &Uplink| !uplink.connected;
        uplink.drive(session, settled, sleep(DISCONNECT_GRACE), gone).await?;
    }
    Ok(())
}

/// Forms batches and sends them, up to `calls` at a time.
async fn send_all(messages: UnboundedReceiver<Message>, sender: Sender<Queue>, calls: usize) {
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

struct Uplink {
    client: AsyncClient,
    filters: Vec<String>,
    window: AckWindow,
    messages: UnboundedSender<Message>,
    /// How many messages are neither in the queue nor given up.
    on_their_way: usize,
    qos_0: Arc<Semaphore>,
    activity: Arc<Activity>,
    subscribed: Option<oneshot::Sender<()>>,
    connected: bool,
    /// Nothing new is taken any more.
    draining: bool,
}

impl Uplink {
    /// Handles what comes from the broker and from the queue, until `stop` or until `done`.
    async fn drive(
        &mut self,
        session: &mut Session,
        settled: &mut UnboundedReceiver<Settled>,
        stop: impl Future<Output = ()>,
        done: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let mut stop = pin!(stop);
        while !done(self) {
            let event = {
                let mut next = pin!(session.next());
                loop {
                    select! {
                        event = &mut next => break event,
                        Some(places) = settled.recv() => {
                            self.settle(places)?;
                            if done(self) {
                                return Ok(());
                            }
                        }
                        () = &mut stop => return Ok(()),
                    }
                }
            };
            match event {
                Event::Connected => {
                    self.connected = true;
                    self.subscribe()?;
                }
                Event::Incoming(Incoming::Publish(publish)) => self.receive(&publish)?,
                Event::Incoming(Incoming::SubAck(answer)) => match refusal(&answer) {
                    None => self.is_subscribed(),
                    Some(reason) => {
                        session.give_up(&reason);
                        self.lost();
                    }
                },
                Event::Lost => self.lost(),
                Event::Outgoing(Outgoing::Disconnect) => self.connected = false,
                Event::Incoming(_) | Event::Outgoing(_) => {}
            }
        }
        Ok(())
    }

    /// Subscribes on every connection, as the template may have changed since the last. Nothing is
    /// replayed for it: what is retained, devices have said at another time, and a topic rule does not
    /// see it either.
    fn subscribe(&self) -> anyhow::Result<()> {
        let filters = self.filters.iter().map(|filter| Filter {
            retain_forward_rule: RetainForwardRule::Never,
            ..Filter::new(filter, QoS::AtLeastOnce)
        });
        self.client.try_subscribe_many(filters).context("no room for a SUBSCRIBE")
    }

    fn is_subscribed(&mut self) {
        if let Some(subscribed) = self.subscribed.take() {
            // Whoever waited may have been told to stop.
            let _ = subscribed.send(());
        }
    }

    fn lost(&mut self) {
        self.connected = false;
        self.window.reset();
    }

    fn receive(&mut self, publish: &Publish) -> anyhow::Result<()> {
        if self.draining {
            // Not acknowledged, so the broker has it for the next edge.
            return Ok(());
        }
        let place = (publish.qos != QoS::AtMostOnce).then(|| self.window.receive(publish.pkid));
        match rule::apply(publish, &self.filters, Timestamp::now().as_millisecond()) {
            Verdict::Send(body) => self.pass_on(body, place),
            Verdict::Ignore => self.accept(place),
            Verdict::Refuse { topic, bytes } => {
                warn!(topic, bytes, "dropped a message that is too large: IoT Core takes 128 KiB");
                self.activity.dropped.add(1);
                self.accept(place)
            }
        }
    }

    fn pass_on(&mut self, body: String, place: Option<Place>) -> anyhow::Result<()> {
        let share = match place {
            Some(_) => None,
            None => match Arc::clone(&self.qos_0).try_acquire_owned() {
                Ok(share) => Some(share),
                Err(_) => {
                    self.activity.dropped.add(1);
                    return Ok(());
                }
            },
        };
        self.activity.received.add(1);
        self.on_their_way += 1;
        self.messages
            .send(Message { body, place, _share: share })
            .context("the task that sends to the queue is gone")
    }

    /// Notes what the senders are finished with.
    fn settle(&mut self, places: Settled) -> anyhow::Result<()> {
        self.on_their_way -= places.len();
        for place in places.into_iter().flatten() {
            self.window.accept(place);
        }
        self.acknowledge()
    }

    /// Notes that a message needs no sender.
    fn accept(&mut self, place: Option<Place>) -> anyhow::Result<()> {
        if let Some(place) = place {
            self.window.accept(place);
        }
        self.acknowledge()
    }

    fn acknowledge(&mut self) -> anyhow::Result<()> {
        while let Some(packet_id) = self.window.next_ack() {
            let publish = Publish { qos: QoS::AtLeastOnce, pkid: packet_id, ..Publish::default() };
            self.client.try_ack(&publish).context("no room for a PUBACK")?;
        }
        Ok(())
    }
}

/// Why the broker did not grant the subscriptions as asked.
fn refusal(answer: &SubAck) -> Option<String> {
    let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
    let refused = answer.return_codes.iter().find(|code| **code != granted)?;
    Some(format!("the broker did not grant a subscription: {refused:?}"))
}
