//! One connection of one device: who calls, what it says first and last, what is on the way.

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

/// The broker may take one and a half times as long to notice that a device is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long a device waits for its goodbye to be taken.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A new random id, for a power-on or a connection. Never seeded: a simulator that is started again
/// is another power-on.
pub fn random_id() -> String {
    let mut id = Uuid::new_v4().simple().to_string();
    id.truncate(12);
    id
}

/// A connection, and the id by which its `status` messages name it.
pub(crate) struct Session {
    link: Link<InFlight>,
    conn_id: String,
}

/// What is on the way.
enum InFlight {
    /// Worth nothing once its connection is gone.
    Status,
    /// To be sent again.
    Message(Message),
}

/// What happens on a connection.
pub(crate) enum SessionEvent {
    /// The broker has accepted it.
    Connected,
    /// The broker has taken a message out of the device's outbox.
    Delivered,
    /// Somebody tells the device something.
    Received(Publish),
}

impl Session {
    /// Begins to connect, with the last will that this connection leaves.
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

    /// What happens next. Dropping the future loses nothing.
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

    /// What a device says first. Subscribed before online: the platform publishes pending commands
    /// when it sees that.
    pub(crate) fn announce_online(
        &mut self,
        device: &Device,
        now: ClockReading,
    ) -> Result<(), ClientError> {
        self.link.subscribe(command_topic(device.id()))?;
        let online = device.status(Presence::Online, &self.conn_id, now);
        self.publish(device.id(), online, |_| InFlight::Status)
    }

    /// Hands as much of the outbox to the broker as may be on the way.
    pub(crate) fn publish_outbox(&mut self, device: &mut Device, counters: &Counters) {
        while self.link.has_room()
            && let Some(queued) = device.outbox().pop()
        {
            let message = queued.message.clone();
            if let Err(error) = self.publish(device.id(), message, InFlight::Message) {
                debug!(device = device.id(), %error, "the connection takes no publish now");
                device.outbox().requeue(vec![queued.message]);
                break;
            }
            if queued.sent_before { &counters.resent } else { &counters.sent }.add(1);
        }
    }

    /// Whether the broker has taken all that was handed over.
    pub(crate) fn is_idle(&self) -> bool {
        self.link.is_idle()
    }

    /// Says offline, and closes the connection properly. Where that fails, the last will says it.
    pub(crate) async fn disconnect(&mut self, device: &Device, now: ClockReading) {
        let offline = device.status(Presence::Offline, &self.conn_id, now);
        let goodbye = async {
            self.publish(device.id(), offline, |_| InFlight::Status).ok()?;
            while !self.link.is_idle() {
                self.link.next().await.ok()?;
            }
            self.link.disconnect().ok()?;
            while !matches!(self.link.next().await.ok()?, LinkEvent::Closed) {}
            Some(())
        };
        if timeout(DISCONNECT_TIMEOUT, goodbye).await.ok().flatten().is_none() {
            debug!(device = device.id(), "left without a goodbye");
        }
    }

    /// Drops the connection as it is, and hands back what was not delivered.
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
        // Retained, a status tells whoever subscribes later; anything else would be news twice.
        let retain = message.kind == Kind::Status;
        let (topic, payload) = (message.kind.topic(device_id), message.payload.clone());
        self.link.publish(topic, &payload, retain, tag(message))
    }
}
