//! One connection of one device: who calls, what it says first and last, what is on the way.

use std::time::Duration;

use rumqttc::{ClientError, ConnectionError, LastWill, MqttOptions, Publish, QoS, Transport};
use tokio::time::timeout;
use tracing::debug;
use uuid::Uuid;

use crate::clock::Moment;
use crate::config::Broker;
use crate::counters::Counters;
use crate::device::Device;
use crate::link::{Link, LinkEvent};
use crate::message::{Kind, Message, Presence, command_topic};

/// The broker may take one and a half times as long to notice that a device is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long a device waits for its goodbye to be taken.
const GOODBYE: Duration = Duration::from_secs(2);

/// A new random id, for a power-on or a connection. Never seeded: a simulator that is started again
/// is another power-on.
pub fn fresh_id() -> String {
    let mut id = Uuid::new_v4().simple().to_string();
    id.truncate(12);
    id
}

/// A connection, and the id by which its `status` messages name it.
pub(crate) struct Call {
    link: Link<Cargo>,
    conn_id: String,
}

/// What is on the way.
enum Cargo {
    /// Worth nothing once its connection is gone.
    Status,
    /// To be sent again.
    Counted(Message),
}

/// What happens on a connection.
pub(crate) enum CallEvent {
    /// The broker has accepted it.
    Up,
    /// The broker has taken a message out of the device's outbox.
    Delivered,
    /// Somebody tells the device something.
    Received(Publish),
}

impl Call {
    /// Begins to connect, with the last will that this connection leaves.
    pub(crate) fn open(device: &Device, broker: Broker, transport: Transport, now: Moment) -> Self {
        let conn_id = fresh_id();
        let will = device.status(Presence::Offline, &conn_id, now);
        let topic = will.kind.topic(device.id());
        let will = LastWill::new(topic, will.payload, QoS::AtLeastOnce, true);
        let mut options = MqttOptions::new(device.id(), broker.host, broker.port);
        options.set_keep_alive(KEEP_ALIVE).set_last_will(will).set_transport(transport);
        Self { link: Link::open(options), conn_id }
    }

    /// What happens next. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<CallEvent, ConnectionError> {
        loop {
            match self.link.next().await? {
                LinkEvent::Up => return Ok(CallEvent::Up),
                LinkEvent::Acknowledged(Cargo::Counted(_)) => return Ok(CallEvent::Delivered),
                LinkEvent::Received(publish) => return Ok(CallEvent::Received(publish)),
                LinkEvent::Acknowledged(Cargo::Status) | LinkEvent::Closed => {}
            }
        }
    }

    /// What a device says first. Subscribed before online: the platform publishes pending commands
    /// when it sees that.
    pub(crate) fn greet(&mut self, device: &Device, now: Moment) -> Result<(), ClientError> {
        self.link.subscribe(command_topic(device.id()))?;
        let online = device.status(Presence::Online, &self.conn_id, now);
        self.publish(device.id(), online, |_| Cargo::Status)
    }

    /// Hands as much of the outbox to the broker as may be on the way.
    pub(crate) fn hand_over(&mut self, device: &mut Device, counters: &Counters) {
        while self.link.has_room()
            && let Some(queued) = device.outbox().pop()
        {
            let message = queued.message.clone();
            if let Err(error) = self.publish(device.id(), message, Cargo::Counted) {
                debug!(device = device.id(), %error, "the connection takes no publish now");
                device.outbox().put_back(vec![queued.message]);
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
    pub(crate) async fn goodbye(&mut self, device: &Device, now: Moment) {
        let offline = device.status(Presence::Offline, &self.conn_id, now);
        let goodbye = async {
            self.publish(device.id(), offline, |_| Cargo::Status).ok()?;
            while !self.link.is_idle() {
                self.link.next().await.ok()?;
            }
            self.link.disconnect().ok()?;
            while !matches!(self.link.next().await.ok()?, LinkEvent::Closed) {}
            Some(())
        };
        if timeout(GOODBYE, goodbye).await.ok().flatten().is_none() {
            debug!(device = device.id(), "left without a goodbye");
        }
    }

    /// Drops the connection as it is, and hands back what was not delivered.
    pub(crate) fn hang_up(self) -> Vec<Message> {
        let on_the_way = self.link.unacknowledged().into_iter();
        on_the_way
            .filter_map(|cargo| match cargo {
                Cargo::Counted(message) => Some(message),
                Cargo::Status => None,
            })
            .collect()
    }

    fn publish(
        &mut self,
        device_id: &str,
        message: Message,
        cargo: fn(Message) -> Cargo,
    ) -> Result<(), ClientError> {
        // Retained, a status tells whoever subscribes later; anything else would be news twice.
        let retain = message.kind == Kind::Status;
        let (topic, payload) = (message.kind.topic(device_id), message.payload.clone());
        self.link.publish(topic, &payload, retain, cargo(message))
    }
}
