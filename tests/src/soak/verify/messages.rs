//! The archived messages and the points of a device.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::super::model::ExpectedMessage;
use super::device::DeviceVerifier;
use super::parse;

const ALL_TIME: &str = "start=1900-01-01T00:00:00Z&stop=2200-01-01T00:00:00Z";

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "mid")]
    message_id: String,
    device_id: String,
    category: String,
    topic: String,
    received_at: Timestamp,
    payload: Value,
}

#[derive(Deserialize)]
struct File {
    filename: String,
    size: usize,
}

#[derive(Deserialize)]
struct Point {
    time: Timestamp,
    metric: String,
    value: f64,
    #[serde(default)]
    unit: Option<String>,
}

impl DeviceVerifier<'_> {
    /// Verifies that every message is archived and listed once with its payload.
    pub(super) async fn verify_archive(&mut self) -> Result<()> {
        let path = self.path("/raw-data");
        let lines = self.api.lines(&path).await?;
        let lines = lines.into_iter().map(|line| parse::<Line>(line, &path));
        let mut lines: Vec<Line> = lines.collect::<Result<_>>()?;
        let files: Vec<File> = self.list("/raw-data").await?;
        self.report.totals.messages.add(self.device.messages.len(), lines.len());

        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for message in &self.device.messages {
            let Some(place) = lines.iter().position(|line| matches_line(message, line)) else {
                let payload = &message.payload;
                self.add_difference(format!(
                    "archived message is missing: {} {payload}",
                    message.topic
                ));
                continue;
            };
            let line = lines.swap_remove(place);
            if line.device_id != self.profile.id
                || line.category != message.category
                || line.topic != message.topic
                || !message.received_at.contains(&line.received_at)
            {
                let (topic, at) = (&line.topic, line.received_at);
                self.add_difference(format!(
                    "archived message {}: unexpected topic {topic} or receipt at {at}",
                    line.message_id
                ));
            }
            let ts = message.message_id.as_ref().map_or(line.received_at, |(ts, _)| *ts);
            names.insert(
                file_name(&self.profile.id, message.category, ts, &line.message_id),
                message.size,
            );
        }
        for line in lines {
            self.add_difference(format!(
                "archived message is unexpected: {} {}",
                line.message_id, line.payload
            ));
        }
        for File { filename, size } in files {
            match names.remove(&filename) {
                Some(expected) if expected == size => {}
                Some(expected) => self.add_difference(format!(
                    "size of {filename}: expected {expected}, actual {size}"
                )),
                None => self.add_difference(format!("{filename} is unexpected or listed twice")),
            }
        }
        for name in names.into_keys() {
            self.add_difference(format!("{name} is missing in the list"));
        }
        Ok(())
    }

    /// Verifies that every point is stored once with the value of the highest precedence.
    pub(super) async fn verify_points(&mut self) -> Result<()> {
        let found: Vec<Point> = self.list(&format!("/metrics?{ALL_TIME}")).await?;
        self.report.totals.points.add(self.device.points.len(), found.len());
        let row = |time: &Timestamp, metric: &str, value: f64, unit: Option<&str>| {
            format!("{time} {metric} {value} {}", unit.unwrap_or("-"))
        };
        let expected: Vec<String> = self
            .device
            .points
            .iter()
            .map(|(key, point)| row(&key.time, key.metric, point.value, point.unit))
            .collect();
        let found: Vec<String> = found
            .iter()
            .map(|point| row(&point.time, &point.metric, point.value, point.unit.as_deref()))
            .collect();
        if expected != found {
            let (missing, surplus) =
                (missing_rows(&expected, &found), missing_rows(&found, &expected));
            self.add_difference(format!("points: missing {missing:?}, unexpected {surplus:?}"));
        }
        let latest: Vec<Point> = self.list("/metrics/latest").await?;
        let latest: BTreeMap<_, _> = latest
            .iter()
            .map(|p| (p.metric.as_str(), row(&p.time, &p.metric, p.value, p.unit.as_deref())))
            .collect();
        let expected = self.device.latest();
        let expected: BTreeMap<_, _> = expected
            .into_iter()
            .map(|(metric, (key, p))| (metric, row(&key.time, metric, p.value, p.unit)))
            .collect();
        self.report.compare(&self.profile.id, "latest points", &expected, &latest);
        Ok(())
    }
}

fn matches_line(message: &ExpectedMessage, line: &Line) -> bool {
    match &message.message_id {
        Some((_, message_id)) => line.message_id == *message_id && line.payload == message.payload,
        None => message.received_at.contains(&line.received_at) && line.payload == message.payload,
    }
}

fn file_name(device: &str, category: &str, ts: Timestamp, message_id: &str) -> String {
    let time = ts.strftime("%Y%m%dT%H%M%S.%9f");
    format!("{device}/{category}/{time}Z-{message_id}.json")
}

/// The rows of `a` that are not in `b`, with their multiplicity.
fn missing_rows(a: &[String], b: &[String]) -> Vec<String> {
    let mut left: HashMap<&String, usize> = HashMap::new();
    for row in b {
        *left.entry(row).or_default() += 1;
    }
    let missing = a.iter().filter(|row| match left.get_mut(*row) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    missing.cloned().collect()
}
