//! A publisher and a broker that answers as the test says.

use rumqttc::v5::mqttbytes::v5::PubAck;
use tokio::task::JoinHandle;

use super::*;
use crate::mqtt::test_broker::{Peer, TestBroker};

async fn start() -> (Publisher, TestBroker, Peer) {
    let (broker, address) = TestBroker::start().await;
    let (publisher, connection) = Publisher::new(&address);
    tokio::spawn(connection);
    let (peer, connect) = broker.accept().await;
    assert!(connect.clean_start, "nothing may be sent again later");
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

/// The next message that the broker gets.
async fn next(peer: &mut Peer) -> Publish {
    match peer.next().await {
        Packet::Publish(publish) => publish,
        packet => panic!("{packet:?} instead of a message"),
    }
}

async fn acknowledge(peer: &mut Peer, publish: &Publish, reason: PubAckReason) {
    peer.send(Packet::PubAck(PubAck { pkid: publish.pkid, reason, properties: None })).await;
}

#[tokio::test]
async fn a_message_is_published_when_the_broker_says_so_for_that_message() {
    let (publisher, _broker, mut peer) = start().await;
    let mut sent = Vec::new();
    for payload in ["a", "b", "c"] {
        let answer = publish(&publisher, payload);
        sent.push((next(&mut peer).await, answer));
    }
    // In an order of its own, and with different outcomes.
    let outcomes = [
        (1, PubAckReason::NoMatchingSubscribers, Ok(())),
        (2, PubAckReason::Success, Ok(())),
        (0, PubAckReason::QuotaExceeded, Err(PublishError::Refused(PubAckReason::QuotaExceeded))),
    ];
    for (index, reason, expected) in outcomes {
        let (message, answer) = &mut sent[index];
        acknowledge(&mut peer, message, reason).await;
        assert_eq!(answer.await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_message_that_the_broker_may_not_have_got_failed_and_is_not_sent_again() {
    let (publisher, broker, mut peer) = start().await;
    let interrupted = publish(&publisher, "interrupted");
    next(&mut peer).await;
    drop(peer);
    assert_eq!(interrupted.await.unwrap(), Err(PublishError::Interrupted));
    assert_eq!(publish(&publisher, "refused").await.unwrap(), Err(PublishError::NotConnected));

    let (mut peer, _) = broker.accept().await;
    publisher.connected().wait_for(|connected| *connected).await.unwrap();
    let answer = publish(&publisher, "new");
    let message = next(&mut peer).await;
    assert_eq!(message.payload, "new");
    acknowledge(&mut peer, &message, PubAckReason::Success).await;
    assert_eq!(answer.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn at_qos_0_a_message_is_published_when_it_is_sent() {
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
async fn the_connection_ends_with_its_last_publisher() {
    let (publisher, _broker, mut peer) = start().await;
    drop(publisher);
    peer.expect_disconnect().await;
}
