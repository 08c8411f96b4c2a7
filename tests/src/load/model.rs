//! The published messages, and thereby the expected results: a function of the run number, so that
//! the same bytes can be published again.

use jiff::Timestamp;
use serde_json::{Value, json};

/// The metric of every measurement: not a known metric, from which the platform would derive
/// others.
pub const METRIC: &str = "load";

/// The parameters of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadSpec {
    /// The prefix of the device ids.
    pub prefix: &'static str,
    /// Seconds since the epoch: part of the device ids, and the end of the time range of the
    /// points.
    pub run: u32,
    /// Devices, each with its own connection.
    pub clients: usize,
    /// The total number of messages.
    pub messages: usize,
    /// Measurements per message, 1 to 200.
    pub measurements: usize,
}

/// The messages of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceLoad {
    /// The device id, which is also the client id.
    pub device_id: String,
    /// The messages in the order of publication.
    pub messages: Vec<LoadMessage>,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadMessage {
    /// The sequence number.
    pub seq: u32,
    /// The payload.
    pub payload: Vec<u8>,
    /// The points of the message.
    pub points: Vec<Point>,
}

/// One value of [`METRIC`] at one instant of one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The time in whole milliseconds, distinct for each point of a device.
    pub time: Timestamp,
    /// The value, distinct for each point of a run.
    pub value: f64,
}

impl LoadSpec {
    /// The messages of each device.
    pub fn devices(&self) -> Vec<DeviceLoad> {
        (0..self.clients).map(|client| self.device(client)).collect()
    }

    /// The number of messages of a client: the total is distributed evenly, the remainder to the
    /// first ones.
    fn messages_of(&self, client: usize) -> usize {
        (self.messages + self.clients - 1 - client) / self.clients
    }

    fn device(&self, client: usize) -> DeviceLoad {
        let device_id = format!("{}-{}-{:04}", self.prefix, self.run, client + 1);
        let messages =
            (0..self.messages_of(client)).map(|n| self.message(&device_id, client, n)).collect();
        DeviceLoad { device_id, messages }
    }

    fn message(&self, device_id: &str, client: usize, n: usize) -> LoadMessage {
        let all = self.messages_of(client) * self.measurements;
        let points: Vec<_> = (n * self.measurements..(n + 1) * self.measurements)
            .map(|k| Point {
                // The last point is a millisecond before the run, so that none is in the future.
                time: self.instant(all - k),
                // Eighths are exact in binary, and so unchanged by any conversion to text.
                value: (k * self.clients + client) as f64 / 8.0,
            })
            .collect();
        let measurements: Vec<_> =
            points.iter().map(|p| json!({"ts": p.time, "type": METRIC, "val": p.value})).collect();
        let seq = u32::try_from(n).unwrap_or(u32::MAX);
        let payload = json!({
            "v": 2,
            "device_id": device_id,
            "ts": points.last().map(|p| p.time),
            "seq": seq,
            "boot": self.run,
            "msg_type": "telemetry",
            "measurements": measurements,
        });
        LoadMessage { seq, payload: payload.to_string().into_bytes(), points }
    }

    /// The instant `before_ms` milliseconds before the run.
    fn instant(&self, before_ms: usize) -> Timestamp {
        let before = i64::try_from(before_ms).unwrap_or(i64::MAX);
        let ms = i64::from(self.run) * 1_000 - before;
        Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MIN)
    }
}

impl DeviceLoad {
    /// The topic of the messages.
    pub fn topic(&self) -> String {
        format!("iot/{}/telemetry", self.device_id)
    }

    /// All points, oldest first.
    pub fn points(&self) -> impl Iterator<Item = &Point> {
        self.messages.iter().flat_map(|message| &message.points)
    }

    /// The shortest query range [start, stop) that contains all points. `None` without points.
    pub fn range(&self) -> Option<(Timestamp, Timestamp)> {
        let (first, last) = (self.points().next()?, self.points().last()?);
        Some((first.time, Timestamp::from_millisecond(last.time.as_millisecond() + 1).ok()?))
    }
}

impl LoadMessage {
    /// The payload as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SPEC: LoadSpec =
        LoadSpec { prefix: "load", run: 1_800_000_000, clients: 3, messages: 10, measurements: 4 };

    #[test]
    fn messages_and_points_are_distinct() {
        let devices = SPEC.devices();
        let counts: Vec<_> = devices.iter().map(|d| d.messages.len()).collect();
        assert_eq!(counts, [4, 3, 3]);
        let payloads: HashSet<_> =
            devices.iter().flat_map(|d| &d.messages).map(|m| &m.payload).collect();
        assert_eq!(payloads.len(), 10);
        let points: HashSet<_> =
            devices.iter().flat_map(|d| d.points().map(|p| (&d.device_id, p.time))).collect();
        assert_eq!(points.len(), 40);
        let values: HashSet<_> =
            devices.iter().flat_map(DeviceLoad::points).map(|p| p.value.to_bits()).collect();
        assert_eq!(values.len(), 40);
    }

    #[test]
    fn range_contains_all_points() {
        let device = &SPEC.devices()[0];
        let (start, stop) = device.range().unwrap();
        assert!(device.points().all(|p| start <= p.time && p.time < stop));
        assert_eq!(stop.as_second(), 1_800_000_000);
        assert_eq!(stop.as_millisecond() - start.as_millisecond(), 16);
    }

    #[test]
    fn run_number_determines_the_payloads() {
        assert_eq!(SPEC.devices(), SPEC.devices());
        let other = LoadSpec { run: SPEC.run + 1, ..SPEC };
        assert_ne!(SPEC.devices()[0].messages[0].payload, other.devices()[0].messages[0].payload);
    }

    #[test]
    fn message_follows_the_protocol() {
        let message = &SPEC.devices()[1].messages[2];
        let json = message.json();
        assert_eq!(json["device_id"], "load-1800000000-0002");
        assert_eq!(json["seq"], 2);
        assert_eq!(json["measurements"].as_array().unwrap().len(), 4);
        assert_eq!(json["ts"], json["measurements"][3]["ts"]);
    }
}
