//! Publication of commands through iot-data, with responses that the emulators do not give.

use bytes::Bytes;
use meter_aws::{Clients, IotCommandPublisher};
use meter_domain::command::CommandKind;
use meter_store::{CommandPublisher, PublishError, error_chain};
use meter_testing::fixtures::id;
use serde_json::json;

use crate::fake_server::FakeServer;

#[tokio::test]
async fn command_is_published_to_the_device_topic_at_qos_1() {
    let fake_server = FakeServer::start(|_, _| (200, json!({}))).await;
    let topic = IotCommandPublisher::new(&Clients::for_emulator(&fake_server.url).await);
    let payload = Bytes::from_static(br#"{"cmd":"reboot"}"#);
    topic.publish(&id("urn:m_1"), CommandKind::Reboot, payload).await.unwrap();
    let call = fake_server.calls().remove(0);
    assert_eq!(call.operation, "/topics/iot%2Furn%3Am_1%2Fcommand");
    assert_eq!((call.query.as_str(), call.body), ("qos=1", json!({"cmd": "reboot"})));
}

#[tokio::test]
async fn failed_publication_returns_its_cause() {
    let fake_server = FakeServer::start(|_, _| (503, json!({"message": "no broker"}))).await;
    let topic = IotCommandPublisher::new(&Clients::for_emulator(&fake_server.url).await);
    let error =
        topic.publish(&id("m"), CommandKind::RequestStatus, Bytes::new()).await.unwrap_err();
    assert!(error_chain(&error).contains("no broker"), "{}", error_chain(&error));
}

#[tokio::test]
async fn reboot_is_sent_once_and_its_error_is_rejected_or_unknown() {
    for (status, is_rejected) in
        [(400, true), (403, true), (429, true), (503, true), (500, false), (504, false)]
    {
        let fake_server = FakeServer::start(move |_, _| (status, json!({"message": "no"}))).await;
        let topic = IotCommandPublisher::new(&Clients::for_emulator(&fake_server.url).await);
        let error = topic.publish(&id("m"), CommandKind::Reboot, Bytes::new()).await.unwrap_err();
        assert_eq!(matches!(error, PublishError::Rejected(_)), is_rejected, "{status}: {error:?}");
        assert_eq!(fake_server.calls().len(), 1, "{status}");
    }
    let fake_server = FakeServer::start(|_, _| (500, json!({"message": "no"}))).await;
    let topic = IotCommandPublisher::new(&Clients::for_emulator(&fake_server.url).await);
    let sent = topic.publish(&id("m"), CommandKind::RequestStatus, Bytes::new()).await;
    assert!(sent.is_err() && fake_server.calls().len() > 1, "idempotent commands are retried");
}

#[tokio::test]
async fn refused_connection_is_rejected_and_broken_connection_is_unknown() {
    let publish = async |url: &str| {
        let topic = IotCommandPublisher::new(&Clients::for_emulator(url).await);
        topic.publish(&id("m"), CommandKind::Reboot, Bytes::new()).await.unwrap_err()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (connection, _) = listener.accept().await.unwrap();
        connection.readable().await.unwrap();
    });
    let error = publish(&url).await;
    assert!(matches!(error, PublishError::OutcomeUnknown(_)), "{error:?}");
    server.await.unwrap();
    let error = publish(&url).await;
    assert!(matches!(error, PublishError::Rejected(_)), "{error:?}");
}
