//! One MQTT connection that knows which of its publishes the broker has acknowledged.
//!
//! rumqttc answers a publish with nothing that its acknowledgement could be matched to. But it
//! handles requests in order and reports the packet id that it gave each one, so the n-th report
//! belongs to the n-th publish. It also loses unacknowledged publishes of a clean session when it
//! reconnects by itself; so a [`Link`] is one connection only, and [`Link::unacknowledged`] hands
//! them back to whoever opens the next.

use std::collections::VecDeque;

use futures::StreamExt;
use futures::stream::BoxStream;
use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, EventLoop, Incoming, MqttOptions, Outgoing,
    Publish, QoS,
};

/// How many publishes may be on the way. rumqttc numbers packets in a circle of `inflight` (100 by
/// default), so half a circle can never bite its tail.
pub const MAX_IN_FLIGHT: usize = 50;

/// The largest packet either way: IoT Core's 128 KB and room for a topic. rumqttc's own limit is
/// 10 KiB, and it fails the connection over a larger one.
const MAX_PACKET_BYTES: usize = 160 * 1024;

/// What happens on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum LinkEvent<T> {
    /// The broker has accepted the connection.
    Connected,
    /// The broker has taken this publish.
    Acknowledged(T),
    /// A message on a topic that was subscribed to.
    Received(Publish),
    /// The DISCONNECT is on the wire: the connection may be dropped.
    Closed,
}

/// A connection; `T` is what the caller wants back with an acknowledgement.
pub struct Link<T> {
    client: AsyncClient,
    events: BoxStream<'static, Result<Event, ConnectionError>>,
    /// In the order of publishing; the packet id is known as soon as rumqttc has sent it.
    in_flight: VecDeque<(Option<u16>, T)>,
}

impl<T> Link<T> {
    /// Begins to connect; [`LinkEvent::Connected`] tells when that is done.
    pub fn open(mut options: MqttOptions) -> Self {
        options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        // Room for a whole window, a subscription and a DISCONNECT: `try_` never finds it full.
        let (client, mut event_loop) = AsyncClient::new(options, MAX_IN_FLIGHT + 2);
        event_loop.network_options.set_tcp_nodelay(true);
        // A poll that is dropped half way may have taken a request that it has not sent. The stream
        // keeps the poll, so that dropping `next` is harmless.
        let events = futures::stream::unfold(event_loop, |mut event_loop: EventLoop| async move {
            let event = event_loop.poll().await;
            Some((event, event_loop))
        });
        Self { client, events: events.boxed(), in_flight: VecDeque::new() }
    }

    /// Whether [`Link::publish`] may be called.
    pub fn has_room(&self) -> bool {
        self.in_flight.len() < MAX_IN_FLIGHT
    }

    /// Whether every publish has been acknowledged.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Publishes with QoS 1.
    ///
    /// # Errors
    ///
    /// When [`Link::has_room`] says no, or the topic is none.
    pub fn publish(
        &mut self,
        topic: String,
        payload: &[u8],
        retain: bool,
        tag: T,
    ) -> Result<(), ClientError> {
        self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload)?;
        self.in_flight.push_back((None, tag));
        Ok(())
    }

    /// Subscribes with QoS 1. The broker handles packets in order, so a publish that follows finds the
    /// subscription in place.
    ///
    /// # Errors
    ///
    /// When the filter is none.
    pub fn subscribe(&self, filter: String) -> Result<(), ClientError> {
        self.client.try_subscribe(filter, QoS::AtLeastOnce)
    }

    /// Says goodbye: the broker keeps the last will to itself. [`LinkEvent::Closed`] follows.
    ///
    /// # Errors
    ///
    /// When it has been said already.
    pub fn disconnect(&self) -> Result<(), ClientError> {
        self.client.try_disconnect()
    }

    /// What happens next. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// When there is no connection (any more). The link is of no use then.
    pub async fn next(&mut self) -> Result<LinkEvent<T>, ConnectionError> {
        loop {
            // The stream never ends.
            let Some(event) = self.events.next().await else {
                return Err(ConnectionError::RequestsDone);
            };
            match event? {
                Event::Incoming(Incoming::ConnAck(_)) => return Ok(LinkEvent::Connected),
                Event::Incoming(Incoming::Publish(publish)) => {
                    return Ok(LinkEvent::Received(publish));
                }
                Event::Outgoing(Outgoing::Publish(id)) => {
                    if let Some((sent_as, _)) =
                        self.in_flight.iter_mut().find(|(sent_as, _)| sent_as.is_none())
                    {
                        *sent_as = Some(id);
                    }
                }
                Event::Incoming(Incoming::PubAck(ack)) => {
                    let which = self.in_flight.iter().position(|(id, _)| *id == Some(ack.pkid));
                    if let Some((_, tag)) = which.and_then(|i| self.in_flight.remove(i)) {
                        return Ok(LinkEvent::Acknowledged(tag));
                    }
                }
                Event::Outgoing(Outgoing::Disconnect) => return Ok(LinkEvent::Closed),
                _ => {}
            }
        }
    }

    /// Drops the connection without a goodbye and hands back what the broker has not acknowledged,
    /// in the order of publishing.
    pub fn unacknowledged(self) -> Vec<T> {
        self.in_flight.into_iter().map(|(_, tag)| tag).collect()
    }
}
