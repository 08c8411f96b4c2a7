//! One MQTT connection that matches acknowledgements to publishes.
//!
//! rumqttc returns no packet id for a publish. But it handles requests in order and reports the
//! packet id of each one, so the n-th report belongs to the n-th publish. When it reconnects, it
//! loses the unacknowledged publishes of a clean session. So a [`Link`] is a single connection, and
//! [`Link::unacknowledged`] returns them for the next one.

use std::collections::VecDeque;

use futures::StreamExt;
use futures::stream::BoxStream;
use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, EventLoop, Incoming, MqttOptions, Outgoing,
    Publish, QoS,
};

/// The maximum number of publishes in flight. rumqttc reuses packet ids after `inflight` (100 by
/// default) packets, so half of that never reaches an id in use.
pub const MAX_IN_FLIGHT: usize = 50;

/// The maximum packet size: the 128 KB of IoT Core and a topic. rumqttc closes the connection at a
/// larger packet; its default is 10 KiB.
const MAX_PACKET_BYTES: usize = 160 * 1024;

/// An event of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum LinkEvent<T> {
    /// The broker has accepted the connection.
    Connected,
    /// The broker has acknowledged this publish.
    Acknowledged(T),
    /// A message of a subscription.
    Received(Publish),
    /// The DISCONNECT is sent: the connection can be dropped.
    Closed,
}

/// A connection; `T` is returned with the acknowledgement of a publish.
pub struct Link<T> {
    client: AsyncClient,
    events: BoxStream<'static, Result<Event, ConnectionError>>,
    /// In the order of publishing; the packet id is set when rumqttc has sent the packet.
    in_flight: VecDeque<(Option<u16>, T)>,
}

impl<T> Link<T> {
    /// Begins to connect; [`LinkEvent::Connected`] follows.
    pub fn open(mut options: MqttOptions) -> Self {
        options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        // Room for all publishes in flight, a subscription and a DISCONNECT: `try_` never fails.
        let (client, mut event_loop) = AsyncClient::new(options, MAX_IN_FLIGHT + 2);
        event_loop.network_options.set_tcp_nodelay(true);
        // A dropped poll may have taken a request without sending it. The stream keeps the poll, so
        // that `next` is cancel-safe.
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
    /// When [`Link::has_room`] is false, or the topic is invalid.
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

    /// Subscribes with QoS 1. The broker handles packets in order, so the subscription is active
    /// before any later publish.
    ///
    /// # Errors
    ///
    /// When the filter is invalid.
    pub fn subscribe(&self, filter: String) -> Result<(), ClientError> {
        self.client.try_subscribe(filter, QoS::AtLeastOnce)
    }

    /// Sends DISCONNECT, so that the broker discards the last will. [`LinkEvent::Closed`] follows.
    ///
    /// # Errors
    ///
    /// When it was sent already.
    pub fn disconnect(&self) -> Result<(), ClientError> {
        self.client.try_disconnect()
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    ///
    /// When the connection failed or ended. The link cannot be used any more.
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

    /// Drops the connection without DISCONNECT and returns the unacknowledged publishes in their
    /// order.
    pub fn unacknowledged(self) -> Vec<T> {
        self.in_flight.into_iter().map(|(_, tag)| tag).collect()
    }
}
