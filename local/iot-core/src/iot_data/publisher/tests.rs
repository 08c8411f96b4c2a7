//! Tests of a publisher with a scripted broker.

use rumqttc::v5::mqttbytes::v5::PubAck;
use tokio::task::JoinHandle;

use super::*;
use crate::mqtt::test_broker::{Peer, TestBroker};

async fn start() -> (Publisher, TestBroker, Peer) {
    let (broker, address) = TestBroker::start().await;
    let (publisher, connection) = Publisher::new(&address);
    tokio::spawn(connection);
    let (peer, connect) = broker.accept().await;
    assert!(connect.clean_start, "messages must not be sent later");
    publisher.connected().wait_for(|connected| *connected).await.unwrap();
    (publisher, broker, peer)
}

fn publish(publisher: &Publisher, payload: &str) -> JoinHandle<Result<(), PublishError>> {
    let publisher = publisher.clone();
    let publication = Publication {
        topic: "iot/a/command".to_owned(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: QoS::AtLeastOnce,
        retain: false,
    };
    tokio::spawn(async move { publisher.publish(publication).await })
}

/// Returns the next message that the broker receives.
async fn next(peer: &mut Peer) -> Publish {
    match peer.next().await {
        Packet::Publish(publish) => publish,
        packet => panic!("expected PUBLISH, actual {packet:?}"),
    }
}

async fn acknowledge(peer: &mut Peer, publish: &Publish, reason: PubAckReason) {
    peer.send(Packet::PubAck(PubAck { pkid: publish.pkid, reason, properties: None })).await;
}

#[tokio::test]
async fn publication_completes_with_its_own_acknowledgement() {
    let (publisher, _broker, mut peer) = start().await;
    let mut sent = Vec::new();
    for payload in ["a", "b", "c"] {
        let result = publish(&publisher, payload);
        sent.push((next(&mut peer).await, result));
    }
    // Acknowledged in another order and with different reasons.
    let outcomes = [
        (1, PubAckReason::NoMatchingSubscribers, Ok(())),
        (2, PubAckReason::Success, Ok(())),
        (0, PubAckReason::QuotaExceeded, Err(PublishError::Rejected(PubAckReason::QuotaExceeded))),
    ];
    for (index, reason, expected) in outcomes {
        let (message, result) = &mut sent[index];
        acknowledge(&mut peer, message, reason).await;
        assert_eq!(result.await.unwrap(), expected);
    }
}

#[tokio::test]
async fn unacknowledged_message_fails_and_is_not_sent_again() {
    let (publisher, broker, mut peer) = start().await;
    let interrupted = publish(&publisher, "interrupted");
    next(&mut peer).await;
    drop(peer);
    assert_eq!(interrupted.await.unwrap(), Err(PublishError::Interrupted));
    assert_eq!(publish(&publisher, "unsent").await.unwrap(), Err(PublishError::NotConnected));

    let (mut peer, _) = broker.accept().await;
    publisher.connected().wait_for(|connected| *connected).await.unwrap();
    let result = publish(&publisher, "new");
    let message = next(&mut peer).await;
    assert_eq!(message.payload, "new");
    acknowledge(&mut peer, &message, PubAckReason::Success).await;
    assert_eq!(result.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn publication_at_qos_0_completes_when_sent() {
    let (publisher, _broker, mut peer) = start().await;
    let publication = Publication {
        topic: "iot/a/command".to_owned(),
        payload: Bytes::from_static(b"fire and forget"),
        qos: QoS::AtMostOnce,
        retain: true,
    };
    assert_eq!(publisher.publish(publication).await, Ok(()));
    let message = next(&mut peer).await;
    assert_eq!((message.qos, message.retain), (QoS::AtMostOnce, true));
}

#[tokio::test]
async fn connection_ends_with_its_last_publisher() {
    let (publisher, _broker, mut peer) = start().await;
    drop(publisher);
    peer.expect_disconnect().await;
}
