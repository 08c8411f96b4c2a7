//! An MQTT client that publishes at the rate of the broker's acknowledgements.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rumqttc::MqttOptions;
use simulator::config::Broker;
use simulator::link::{Link, LinkEvent};
use tokio::time::{sleep, timeout};

use crate::wait::NO_PROGRESS;

/// Consecutive attempts to connect.
const MAX_CONNECT_ATTEMPTS: usize = 20;
/// The time between two attempts.
const RECONNECT_DELAY: Duration = Duration::from_millis(250);

/// A connection to the broker that is reopened when it is lost.
pub struct Publisher {
    broker: Broker,
    client_id: String,
    link: Link<Vec<u8>>,
    reconnects: u64,
}

impl Publisher {
    /// Connects under a client id.
    ///
    /// # Errors
    ///
    /// If the broker does not respond.
    pub async fn connect(broker: &Broker, client_id: &str) -> Result<Self> {
        let link = connect(broker, client_id).await?;
        Ok(Self { broker: broker.clone(), client_id: client_id.to_owned(), link, reconnects: 0 })
    }

    /// Publishes with QoS 1, in order, and returns when the broker has acknowledged every message.
    /// `acknowledged` counts the acknowledgements. Unacknowledged messages of a lost connection are
    /// published again, so that the broker may receive them twice.
    ///
    /// # Errors
    ///
    /// If the broker does not respond.
    pub async fn publish_all(
        &mut self,
        topic: &str,
        payloads: impl IntoIterator<Item = Vec<u8>>,
        acknowledged: &AtomicU64,
    ) -> Result<()> {
        let mut payloads = payloads.into_iter();
        let mut unacknowledged = VecDeque::new();
        loop {
            while self.link.has_room()
                && let Some(payload) = unacknowledged.pop_front().or_else(|| payloads.next())
            {
                self.link.publish(topic.to_owned(), &payload, false, payload.clone())?;
            }
            if self.link.is_idle() {
                return Ok(());
            }
            let event = timeout(NO_PROGRESS, self.link.next()).await;
            match event.with_context(|| format!("no acknowledgement from {}", self.broker))? {
                Ok(LinkEvent::Acknowledged(_)) => {
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {}
                Err(_) => {
                    self.reconnects += 1;
                    let link = connect(&self.broker, &self.client_id).await?;
                    let lost = std::mem::replace(&mut self.link, link);
                    for payload in lost.unacknowledged().into_iter().rev() {
                        unacknowledged.push_front(payload);
                    }
                }
            }
        }
    }

    /// The number of lost connections.
    pub fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// Closes the connection with `DISCONNECT`.
    pub async fn close(mut self) {
        // All messages are acknowledged, so an error loses none.
        if self.link.disconnect().is_ok() {
            let closed = async {
                while !matches!(self.link.next().await, Ok(LinkEvent::Closed) | Err(_)) {}
            };
            let _ = timeout(RECONNECT_DELAY, closed).await;
        }
    }
}

async fn connect(broker: &Broker, client_id: &str) -> Result<Link<Vec<u8>>> {
    let mut last = None;
    for _ in 0..MAX_CONNECT_ATTEMPTS {
        let options = MqttOptions::new(client_id, broker.host.clone(), broker.port);
        let mut link = Link::open(options);
        match timeout(NO_PROGRESS, link.next()).await {
            Ok(Ok(LinkEvent::Connected)) => return Ok(link),
            Ok(Err(error)) => last = Some(error),
            Ok(Ok(_)) | Err(_) => {}
        }
        sleep(RECONNECT_DELAY).await;
    }
    let reason = last.map_or_else(|| "no response".to_owned(), |error| error.to_string());
    bail!("cannot connect to the MQTT broker at {broker}: {reason}")
}
