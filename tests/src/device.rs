//! An MQTT client that publishes the messages of a test.

use anyhow::{Context as _, Result};
use rumqttc::{AsyncClient, Event, LastWill, MqttOptions, Outgoing, Packet, Publish, QoS};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::wait::NO_PROGRESS;

/// A connection to the broker. Dropping it closes the connection without `DISCONNECT`, so that the
/// broker publishes the last will.
pub struct Device {
    client: AsyncClient,
    acks: UnboundedReceiver<()>,
    messages: UnboundedReceiver<Publish>,
    event_loop: JoinHandle<()>,
}

impl Device {
    /// Connects under a client id.
    pub async fn connect(mqtt_port: u16, client_id: &str) -> Result<Self> {
        Self::connect_with(mqtt_port, client_id, None).await
    }

    /// Connects with a last will: topic and payload, QoS 1, retained.
    pub async fn connect_with_will(
        mqtt_port: u16,
        client_id: &str,
        topic: &str,
        payload: &str,
    ) -> Result<Self> {
        let will = LastWill::new(topic, payload.to_owned(), QoS::AtLeastOnce, true);
        Self::connect_with(mqtt_port, client_id, Some(will)).await
    }

    async fn connect_with(mqtt_port: u16, client_id: &str, will: Option<LastWill>) -> Result<Self> {
        let mut options = MqttOptions::new(client_id, "127.0.0.1", mqtt_port);
        options.set_keep_alive(NO_PROGRESS);
        options.set_max_packet_size(1 << 20, 1 << 20);
        if let Some(will) = will {
            options.set_last_will(will);
        }
        let (client, mut events) = AsyncClient::new(options, 100);
        let (connected_tx, mut connected) = unbounded_channel();
        let (ack_tx, acks) = unbounded_channel();
        let (message_tx, messages) = unbounded_channel();
        let event_loop = tokio::spawn(async move {
            // Ends with the first error: the device does not reconnect.
            while let Ok(event) = events.poll().await {
                // The receivers are dropped only with the device.
                let _ = match event {
                    Event::Incoming(Packet::ConnAck(_)) => connected_tx.send(()),
                    Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_) | Packet::SubAck(_)) => {
                        ack_tx.send(())
                    }
                    Event::Incoming(Packet::Publish(publish)) => {
                        let _ = message_tx.send(publish);
                        Ok(())
                    }
                    Event::Outgoing(Outgoing::Disconnect) => break,
                    _ => Ok(()),
                };
            }
        });
        timeout(NO_PROGRESS, connected.recv())
            .await?
            .context("the broker refused the connection")?;
        Ok(Self { client, acks, messages, event_loop })
    }

    /// Publishes at QoS 1 and waits for the acknowledgement.
    pub async fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>) -> Result<()> {
        self.publish_with(topic, payload, QoS::AtLeastOnce, false).await
    }

    /// Publishes at QoS 1 or 2 and waits for the last acknowledgement.
    pub async fn publish_with(
        &mut self,
        topic: &str,
        payload: impl Into<Vec<u8>>,
        qos: QoS,
        retain: bool,
    ) -> Result<()> {
        self.client.publish(topic, qos, retain, payload).await?;
        self.wait_for_ack().await
    }

    /// Subscribes at QoS 1.
    pub async fn subscribe(&mut self, topic: &str) -> Result<()> {
        self.client.subscribe(topic, QoS::AtLeastOnce).await?;
        self.wait_for_ack().await
    }

    /// The next message on a subscribed topic.
    pub async fn next_message(&mut self) -> Result<Publish> {
        timeout(NO_PROGRESS, self.messages.recv()).await?.context("the connection is closed")
    }

    /// Sends `DISCONNECT`, so that the broker discards the last will.
    pub async fn disconnect(self) -> Result<()> {
        self.client.disconnect().await?;
        // The event loop ends after `DISCONNECT` was sent.
        timeout(NO_PROGRESS, self.event_loop).await?.context("the event loop panicked")
    }

    async fn wait_for_ack(&mut self) -> Result<()> {
        timeout(NO_PROGRESS, self.acks.recv()).await?.context("the connection is closed")
    }

    /// Closes the connection without `DISCONNECT`.
    pub fn abort_connection(self) {
        self.event_loop.abort();
    }
}
