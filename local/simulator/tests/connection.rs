//! A device with a broker that each test scripts.

// clippy.toml allows these in test functions, but not in their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rumqttc::mqttbytes::Error;
use rumqttc::{ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, QoS, SubAck};
use serde_json::{Value, json};
use simulator::config::{Broker, Configuration};
use simulator::connection::run;
use simulator::counters::Counters;
use simulator::device::{Device, Specification};
use simulator::faults::FaultRates;
use simulator::fleet_context::FleetContext;
use simulator::train::TractionSystem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longer than any step takes.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

struct ScriptedBroker {
    listener: TcpListener,
}

/// The broker side of one connection.
struct ClientConnection {
    stream: TcpStream,
    buffer: BytesMut,
    connect: Connect,
}

impl ScriptedBroker {
    async fn open() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn address(&self) -> Broker {
        self.listener.local_addr().unwrap().to_string().parse().unwrap()
    }

    /// Accepts the next connection.
    async fn accept(&self) -> ClientConnection {
        let accepted = tokio::time::timeout(TEST_TIMEOUT, self.listener.accept()).await;
        let (stream, _) = accepted.expect("no connection").unwrap();
        let connect = Connect::new("");
        let mut client = ClientConnection { stream, buffer: BytesMut::new(), connect };
        let Some(Packet::Connect(connect)) = client.next().await else {
            panic!("the first packet is not CONNECT")
        };
        client.connect = connect;
        client.send(Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false))).await;
        client
    }
}

impl ClientConnection {
    /// The next packet except pings; `None` when the connection is closed.
    async fn next(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.buffer, 1 << 20) {
                Ok(Packet::PingReq) => {}
                Ok(packet) => return Some(packet),
                Err(Error::InsufficientBytes(_)) => {
                    let read = self.stream.read_buf(&mut self.buffer);
                    let read = tokio::time::timeout(TEST_TIMEOUT, read).await.expect("no packet");
                    if read.unwrap_or(0) == 0 {
                        return None;
                    }
                }
                Err(error) => panic!("not MQTT: {error}"),
            }
        }
    }

    async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, 1 << 20).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next publish, without an acknowledgement.
    async fn publish(&mut self) -> Publish {
        match self.next().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("not a publish: {other:?}"),
        }
    }

    async fn acknowledge(&mut self, publish: &Publish) {
        self.send(Packet::PubAck(PubAck::new(publish.pkid))).await;
    }

    /// Acknowledges the beginning of a connection: the subscription, `status`, and the publishes up
    /// to the hello, which include buffered messages on a slow machine.
    async fn accept_session(&mut self) -> Vec<Publish> {
        let Some(Packet::Subscribe(subscribe)) = self.next().await else {
            panic!("no subscription")
        };
        assert_eq!(subscribe.filters[0].path, "iot/dc-meter-001/command");
        assert_eq!(subscribe.filters[0].qos, QoS::AtLeastOnce);
        let granted = vec![rumqttc::SubscribeReasonCode::Success(QoS::AtLeastOnce)];
        self.send(Packet::SubAck(SubAck::new(subscribe.pkid, granted))).await;
        let mut publishes = Vec::new();
        loop {
            let publish = self.publish().await;
            self.acknowledge(&publish).await;
            let is_hello = publish.topic == "iot/dc-meter-001/hello";
            publishes.push(publish);
            if is_hello {
                return publishes;
            }
        }
    }

    /// Acknowledges all publishes until the device closes the connection, and returns all packets.
    async fn until_closed(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while let Some(packet) = self.next().await {
            if let Packet::Publish(publish) = &packet {
                self.acknowledge(publish).await;
            }
            packets.push(packet);
        }
        packets
    }
}

fn value(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).unwrap()
}

struct RunningDevice {
    stop: watch::Sender<bool>,
    task: JoinHandle<usize>,
    counters: Arc<Counters>,
}

fn start(broker: Broker, restart_every: Option<Duration>) -> RunningDevice {
    let counters = Arc::new(Counters::default());
    let fleet_context = Arc::new(FleetContext::new(Arc::clone(&counters), restart_every));
    let mut config = Configuration::with_broker(broker);
    config.send_interval_s = 1;
    config.sampling_cadence_ms = 250;
    let spec = Specification {
        device_id: "dc-meter-001".to_owned(),
        system: TractionSystem::Dc1500V,
        fw_version: semver::Version::new(1, 0, 0),
        config,
        faults: FaultRates::default(),
        buffer: 100,
        seed: 1,
        count: None,
    };
    let now = fleet_context.clock.now();
    let device = Device::new(spec, "boot-1".to_owned(), 0.1, now, Arc::clone(&counters));
    let (stop, stopped) = watch::channel(false);
    let rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let task = tokio::spawn(run(device, fleet_context, stopped, rng));
    RunningDevice { stop, task, counters }
}

#[tokio::test]
async fn device_connects_with_last_will_and_disconnects_in_order() {
    let broker = ScriptedBroker::open().await;
    let device = start(broker.address(), None);
    let mut client = broker.accept().await;
    assert_eq!(client.connect.client_id, "dc-meter-001");
    let will = client.connect.last_will.clone().expect("no last will");
    assert_eq!((will.topic.as_str(), will.qos), ("iot/dc-meter-001/status", QoS::AtLeastOnce));
    assert!(will.retain);

    let first = client.accept_session().await;
    assert!(first[0].retain && !first[1].retain);
    let (will, online) = (value(&will.message), value(&first[0].payload));
    assert_eq!((&will["status"], &online["status"]), (&json!("offline"), &json!("online")));
    assert_eq!(will["conn_id"], online["conn_id"]);

    device.stop.send(true).unwrap();
    let last = client.until_closed().await;
    let [.., Packet::Publish(offline), Packet::Disconnect] = last.as_slice() else {
        panic!("no disconnection: {last:?}")
    };
    assert!(offline.retain);
    assert_eq!(value(&offline.payload)["status"], "offline");
    assert_eq!(device.task.await.unwrap(), 0);
    assert_eq!(device.counters.unacknowledged(), 0);
}

#[tokio::test]
async fn unacknowledged_messages_are_resent_first_and_unchanged() {
    let broker = ScriptedBroker::open().await;
    let device = start(broker.address(), None);
    let mut client = broker.accept().await;
    let first_will = client.connect.last_will.clone().unwrap();
    client.accept_session().await;
    let lost = [client.publish().await.payload, client.publish().await.payload];
    drop(client);

    let mut client = broker.accept().await;
    let will = client.connect.last_will.clone().unwrap();
    assert_ne!(value(&will.message)["conn_id"], value(&first_will.message)["conn_id"]);
    let Some(Packet::Subscribe(_)) = client.next().await else { panic!("no subscription") };
    client.publish().await;
    let again = [client.publish().await.payload, client.publish().await.payload];
    assert_eq!(again, lost);

    device.stop.send(true).unwrap();
    drop(client);
    let mut client = broker.accept().await;
    let packets = client.until_closed().await;
    let numbers: Vec<_> = packets
        .iter()
        .filter_map(|packet| match packet {
            Packet::Publish(publish) => value(&publish.payload)["seq"].as_u64(),
            _ => None,
        })
        .collect();
    assert!(numbers.is_sorted() && numbers[0] == value(&lost[0])["seq"], "{numbers:?}");
    assert_eq!(device.task.await.unwrap(), 0);
    assert!(device.counters.resent.get() >= 4);
}

#[tokio::test]
async fn reboot_is_acknowledged_before_disconnection() {
    let broker = ScriptedBroker::open().await;
    let device = start(broker.address(), None);
    let mut client = broker.accept().await;
    client.accept_session().await;
    let cmd_id = "0190c9a0-0000-7000-8000-000000000001";
    let reboot = json!({"v": 2, "cmd_id": cmd_id, "cmd": "reboot"}).to_string();
    let mut publish = Publish::new("iot/dc-meter-001/command", QoS::AtLeastOnce, reboot);
    publish.pkid = 7;
    client.send(Packet::Publish(publish)).await;
    let packets = client.until_closed().await;
    assert!(packets.iter().any(|p| matches!(p, Packet::PubAck(ack) if ack.pkid == 7)));
    let acks: Vec<_> = packets
        .iter()
        .filter_map(|packet| match packet {
            Packet::Publish(p) if p.topic == "iot/dc-meter-001/command/ack" => {
                Some(value(&p.payload))
            }
            _ => None,
        })
        .collect();
    assert_eq!(acks.len(), 1);
    assert_eq!((&acks[0]["cmd_id"], &acks[0]["result"]), (&json!(cmd_id), &json!("accepted")));
    assert_eq!(packets.last(), Some(&Packet::Disconnect));

    let mut client = broker.accept().await;
    let first = value(&client.accept_session().await[1].payload);
    assert_eq!(first["seq"], 0);
    assert_ne!(first["boot"], "boot-1");
    device.stop.send(true).unwrap();
    client.until_closed().await;
    assert_eq!(device.task.await.unwrap(), 0);
}

#[tokio::test]
async fn power_failure_closes_connection_without_disconnect() {
    let broker = ScriptedBroker::open().await;
    let device = start(broker.address(), Some(Duration::from_secs(1)));
    let mut client = broker.accept().await;
    client.accept_session().await;
    let packets = client.until_closed().await;
    assert!(!packets.contains(&Packet::Disconnect));
    assert!(packets.iter().all(|p| matches!(p, Packet::Publish(p) if !p.retain)), "{packets:?}");

    // Stopped without power, it connects again to deliver its outbox.
    device.stop.send(true).unwrap();
    let mut client = broker.accept().await;
    assert_eq!(client.until_closed().await.last(), Some(&Packet::Disconnect));
    assert_eq!(device.task.await.unwrap(), 0);
}
