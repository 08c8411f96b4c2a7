//! One connection of a device: its last will, its first and last messages, and messages in flight.

use std::time::Duration;

use rumqttc::{ClientError, ConnectionError, LastWill, MqttOptions, Publish, QoS, Transport};
use tokio::time::timeout;
use tracing::debug;
use uuid::Uuid;

use crate::clock::ClockReading;
use crate::config::Broker;
use crate::counters::Counters;
use crate::device::Device;
use crate::link::{Link, LinkEvent};
use crate::message::{Kind, Message, Presence, command_topic};

/// The broker detects a lost device after up to one and a half times this interval.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The time that a device waits for the end of its disconnection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A new random id of a power-on or connection. Not seeded: a restart of the simulator is a new
/// power-on.
pub fn random_id() -> String {
    let mut id = Uuid::new_v4().simple().to_string();
    id.truncate(12);
    id
}

/// A connection, and the id in its `status` messages.
pub(crate) struct Session {
    link: Link<InFlight>,
    conn_id: String,
}

/// A publish in flight.
enum InFlight {
    /// Not repeated on the next connection.
    Status,
    /// Repeated on the next connection.
    Message(Message),
}

/// An event of a connection.
pub(crate) enum SessionEvent {
    /// The broker has accepted the connection.
    Connected,
    /// The broker has acknowledged a message of the outbox.
    Delivered,
    /// A message to the device.
    Received(Publish),
}

impl Session {
    /// Begins to connect, with a last will.
    pub(crate) fn open(
        device: &Device,
        broker: Broker,
        transport: Transport,
        now: ClockReading,
    ) -> Self {
        let conn_id = random_id();
        let will = device.status(Presence::Offline, &conn_id, now);
        let topic = will.kind.topic(device.id());
        let will = LastWill::new(topic, will.payload, QoS::AtLeastOnce, true);
        let mut options = MqttOptions::new(device.id(), broker.host, broker.port);
        options.set_keep_alive(KEEP_ALIVE).set_last_will(will).set_transport(transport);
        Self { link: Link::open(options), conn_id }
    }

    /// The next event. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<SessionEvent, ConnectionError> {
        loop {
            match self.link.next().await? {
                LinkEvent::Connected => return Ok(SessionEvent::Connected),
                LinkEvent::Acknowledged(InFlight::Message(_)) => {
                    return Ok(SessionEvent::Delivered);
                }
                LinkEvent::Received(publish) => return Ok(SessionEvent::Received(publish)),
                LinkEvent::Acknowledged(InFlight::Status) | LinkEvent::Closed => {}
            }
        }
    }

    /// Subscribes to commands and then publishes `online`, at which the platform publishes pending
    /// commands.
    pub(crate) fn announce_online(
        &mut self,
        device: &Device,
        now: ClockReading,
    ) -> Result<(), ClientError> {
        self.link.subscribe(command_topic(device.id()))?;
        let online = device.status(Presence::Online, &self.conn_id, now);
        self.publish(device.id(), online, |_| InFlight::Status)
    }

    /// Publishes the outbox, up to the limit of publishes in flight.
    pub(crate) fn publish_outbox(&mut self, device: &mut Device, counters: &Counters) {
        while self.link.has_room()
            && let Some(queued) = device.outbox().pop()
        {
            let message = queued.message.clone();
            if let Err(error) = self.publish(device.id(), message, InFlight::Message) {
                debug!(device = device.id(), %error, "cannot publish now");
                device.outbox().requeue(vec![queued.message]);
                break;
            }
            if queued.sent_before { &counters.resent } else { &counters.sent }.add(1);
        }
    }

    /// Whether the broker has acknowledged every publish.
    pub(crate) fn is_idle(&self) -> bool {
        self.link.is_idle()
    }

    /// Publishes `offline` and disconnects. If that fails, the broker publishes the last will.
    pub(crate) async fn disconnect(&mut self, device: &Device, now: ClockReading) {
        let offline = device.status(Presence::Offline, &self.conn_id, now);
        let disconnection = async {
            self.publish(device.id(), offline, |_| InFlight::Status).ok()?;
            while !self.link.is_idle() {
                self.link.next().await.ok()?;
            }
            self.link.disconnect().ok()?;
            while !matches!(self.link.next().await.ok()?, LinkEvent::Closed) {}
            Some(())
        };
        if timeout(DISCONNECT_TIMEOUT, disconnection).await.ok().flatten().is_none() {
            debug!(device = device.id(), "closed without a DISCONNECT");
        }
    }

    /// Drops the connection, and returns the undelivered messages.
    pub(crate) fn abort(self) -> Vec<Message> {
        let in_flight = self.link.unacknowledged().into_iter();
        in_flight
            .filter_map(|tag| match tag {
                InFlight::Message(message) => Some(message),
                InFlight::Status => None,
            })
            .collect()
    }

    fn publish(
        &mut self,
        device_id: &str,
        message: Message,
        tag: fn(Message) -> InFlight,
    ) -> Result<(), ClientError> {
        // A later subscriber needs the status; it would receive any other retained message twice.
        let retain = message.kind == Kind::Status;
        let (topic, payload) = (message.kind.topic(device_id), message.payload.clone());
        self.link.publish(topic, &payload, retain, tag(message))
    }
}
