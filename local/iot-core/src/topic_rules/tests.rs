//! Tests of the topic rules with a scripted broker and queue.

use std::{collections::HashSet, sync::Mutex};

use base64::{Engine, engine::general_purpose::STANDARD};
use rumqttc::v5::mqttbytes::v5::Connect;
use tokio::sync::Notify;

use super::*;
use crate::{
    mqtt::test_broker::{Peer, TestBroker},
    queue::{FailedEntry, QueueError},
};

/// A queue that accepts each message when the test releases it.
#[derive(Default)]
struct GatedQueue {
    arrived: Mutex<Vec<String>>,
    released: Mutex<HashSet<String>>,
    changed: Notify,
}

impl GatedQueue {
    /// Waits until a message with this payload has been sent to the queue.
    async fn wait_for_arrival(&self, payload: &str) {
        self.wait_until(|| self.arrived.lock().unwrap().iter().any(|arrived| arrived == payload))
            .await;
    }

    fn release(&self, payload: &str) {
        self.released.lock().unwrap().insert(payload.to_owned());
        self.changed.notify_waiters();
    }

    fn is_released(&self, payload: &str) -> bool {
        self.released.lock().unwrap().contains(payload)
    }

    async fn wait_until(&self, reached: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            if reached() {
                return;
            }
            changed.await;
        }
    }
}

impl SendBatch for Arc<GatedQueue> {
    async fn send(&self, bodies: &[&str]) -> Result<Vec<FailedEntry>, QueueError> {
        for body in bodies {
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            let payload = STANDARD.decode(body["payload"].as_str().unwrap()).unwrap();
            let payload = String::from_utf8(payload).unwrap();
            self.arrived.lock().unwrap().push(payload.clone());
            self.changed.notify_waiters();
            self.wait_until(|| self.is_released(&payload)).await;
        }
        Ok(Vec::new())
    }
}

struct TestForwarder {
    broker: TestBroker,
    queue: Arc<GatedQueue>,
    subscribed: Option<oneshot::Receiver<()>>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl TestForwarder {
    async fn start() -> Self {
        let (broker, address) = TestBroker::start().await;
        let queue = Arc::new(GatedQueue::default());
        let settings = Settings {
            broker: address,
            client_id: "iot-core".to_owned(),
            topic_filters: vec!["iot/+/telemetry".to_owned(), "iot/+/status".to_owned()],
            queue: Arc::clone(&queue),
            calls: 4,
        };
        let (subscribed, subscribed_receiver) = oneshot::channel();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(settings, Arc::default(), subscribed, shutdown.clone()));
        Self { broker, queue, subscribed: Some(subscribed_receiver), shutdown, task }
    }

    /// Accepts a connection and grants its subscriptions.
    async fn connection(&self) -> (Peer, Connect, Subscribe) {
        let (mut peer, connect) = self.broker.accept().await;
        let Packet::Subscribe(subscribe) = peer.next().await else {
            panic!("expected SUBSCRIBE");
        };
        let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
        peer.send(Packet::SubAck(SubAck {
            pkid: subscribe.pkid,
            return_codes: vec![granted; subscribe.filters.len()],
            properties: None,
        }))
        .await;
        (peer, connect, subscribe)
    }

    /// Returns the packet id of the next acknowledgement.
    async fn next_ack(peer: &mut Peer) -> u16 {
        match peer.next().await {
            Packet::PubAck(ack) => ack.pkid,
            packet => panic!("expected PUBACK, actual {packet:?}"),
        }
    }
}

#[tokio::test]
async fn session_is_persistent_and_retained_messages_are_not_requested() {
    let mut running = TestForwarder::start().await;
    let (_peer, connect, subscribe) = running.connection().await;
    assert!(!connect.clean_start);
    assert_eq!(connect.properties.unwrap().session_expiry_interval, Some(SESSION_NEVER_EXPIRES));
    let filters: Vec<_> = subscribe.filters.iter().map(|filter| filter.path.as_str()).collect();
    assert_eq!(filters, ["iot/+/telemetry", "iot/+/status"]);
    for filter in &subscribe.filters {
        assert_eq!(filter.qos, QoS::AtLeastOnce);
        assert_eq!(filter.retain_forward_rule, RetainForwardRule::Never);
    }
    running.subscribed.take().unwrap().await.unwrap();
}

#[tokio::test]
async fn message_is_acknowledged_after_the_queue_accepted_it() {
    let running = TestForwarder::start().await;
    let (mut peer, ..) = running.connection().await;
    peer.publish("iot/a/telemetry", "first", 7).await;
    running.queue.wait_for_arrival("first").await;
    let queue = Arc::clone(&running.queue);
    let opener = tokio::spawn(async move { queue.release("first") });
    assert_eq!(TestForwarder::next_ack(&mut peer).await, 7);
    assert!(running.queue.is_released("first"));
    opener.await.unwrap();
}

#[tokio::test]
async fn acknowledgements_are_sent_in_order_of_receipt() {
    let running = TestForwarder::start().await;
    let (mut peer, ..) = running.connection().await;
    peer.publish("iot/a/telemetry", "slow", 1).await;
    running.queue.wait_for_arrival("slow").await;
    peer.publish("iot/a/telemetry", "fast", 2).await;
    running.queue.release("fast");
    running.queue.wait_for_arrival("fast").await;
    running.queue.release("slow");
    assert_eq!(TestForwarder::next_ack(&mut peer).await, 1);
    assert_eq!(TestForwarder::next_ack(&mut peer).await, 2);
}

#[tokio::test]
async fn message_of_a_lost_connection_is_not_acknowledged() {
    let running = TestForwarder::start().await;
    let (mut peer, ..) = running.connection().await;
    peer.publish("iot/a/telemetry", "old", 1).await;
    running.queue.wait_for_arrival("old").await;
    drop(peer);

    let (mut peer, ..) = running.connection().await;
    peer.publish("iot/a/telemetry", "new", 2).await;
    running.queue.wait_for_arrival("new").await;
    running.queue.release("old");
    running.queue.release("new");
    assert_eq!(TestForwarder::next_ack(&mut peer).await, 2);
}

#[tokio::test]
async fn message_without_a_rule_is_acknowledged() {
    let running = TestForwarder::start().await;
    let (mut peer, ..) = running.connection().await;
    peer.publish("iot/a/command", "no rule", 1).await;
    let mut retained = Publish::new("iot/a/status", QoS::AtLeastOnce, "replay", None);
    (retained.pkid, retained.retain) = (2, true);
    peer.send(Packet::Publish(retained)).await;
    assert_eq!(TestForwarder::next_ack(&mut peer).await, 1);
    assert_eq!(TestForwarder::next_ack(&mut peer).await, 2);
    assert!(running.queue.arrived.lock().unwrap().is_empty());
}

#[tokio::test]
async fn messages_in_flight_at_shutdown_are_acknowledged_before_disconnect() {
    let running = TestForwarder::start().await;
    let (mut peer, ..) = running.connection().await;
    peer.publish("iot/a/telemetry", "last", 3).await;
    running.queue.wait_for_arrival("last").await;
    running.shutdown.cancel();
    running.queue.release("last");
    assert_eq!(TestForwarder::next_ack(&mut peer).await, 3);
    peer.expect_disconnect().await;
    running.task.await.unwrap().unwrap();
}
