//! Compares stored messages and points with the published ones.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

use super::model::{DeviceLoad, Point};

/// A difference between a published and a stored item.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The device.
    pub device_id: String,
    /// The message or point.
    pub item: Item,
    /// The kind of the difference.
    pub kind: DifferenceKind,
}

/// A message or a point.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// The archived message with this `seq`.
    Message(u64),
    /// An archived message without `seq`.
    UnidentifiedMessage,
    /// The list of the archived messages.
    FileList,
    /// The name of an archived message.
    File(String),
    /// The point at this instant.
    Point(Timestamp),
}

/// The kind of a difference.
#[derive(Debug, Clone, PartialEq)]
pub enum DifferenceKind {
    /// The item is not stored.
    Missing,
    /// The item is stored several times.
    Duplicated(usize),
    /// The item was not published.
    Unexpected,
    /// The stored item differs from the published one.
    Altered(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            DifferenceKind::Missing => "missing".to_owned(),
            DifferenceKind::Duplicated(times) => format!("{times} times"),
            DifferenceKind::Unexpected => "unexpected".to_owned(),
            DifferenceKind::Altered(_) => "altered".to_owned(),
        };
        write!(f, "{kind:<11}{}  ", self.device_id)?;
        match &self.item {
            Item::Message(seq) => write!(f, "archived message with seq {seq}")?,
            Item::UnidentifiedMessage => write!(f, "archived message")?,
            Item::FileList => write!(f, "list of archived messages")?,
            Item::File(name) => write!(f, "archived message {name}")?,
            Item::Point(time) => write!(f, "point at {time}")?,
        }
        match &self.kind {
            DifferenceKind::Altered(how) => write!(f, ": {how}"),
            _ => Ok(()),
        }
    }
}

/// Compares the archive: every message exactly once with its payload.
pub fn compare_archive(load: &DeviceLoad, archived: &[Value]) -> Vec<Difference> {
    let mut found: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
    let mut differences = Differences::of(load);
    for payload in archived {
        match payload.get("seq").and_then(Value::as_u64) {
            Some(seq) => found.entry(seq).or_default().push(payload),
            None => differences.add(Item::UnidentifiedMessage, DifferenceKind::Unexpected),
        }
    }
    for message in &load.messages {
        let seq = u64::from(message.seq);
        let item = Item::Message(seq);
        match found.remove(&seq).as_deref() {
            None => differences.add(item, DifferenceKind::Missing),
            Some([payload]) if **payload == message.json() => {}
            Some([payload]) => differences.add(item, DifferenceKind::Altered(payload.to_string())),
            Some(several) => differences.add(item, DifferenceKind::Duplicated(several.len())),
        }
    }
    for seq in found.into_keys() {
        differences.add(Item::Message(seq), DifferenceKind::Unexpected);
    }
    differences.all
}

/// Compares the list of archived messages: a distinct name for each message.
pub fn compare_file_names(load: &DeviceLoad, names: &[String]) -> Vec<Difference> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        *times.entry(name).or_default() += 1;
    }
    let mut differences = Differences::of(load);
    for (name, times) in &times {
        if *times > 1 {
            differences.add(Item::File((*name).to_owned()), DifferenceKind::Duplicated(*times));
        }
    }
    let (distinct, published) = (times.len(), load.messages.len());
    if distinct != published {
        let how = format!("expected {published} names, actual {distinct}");
        differences.add(Item::FileList, DifferenceKind::Altered(how));
    }
    differences.all
}

/// Compares the points: every point exactly once with its value.
pub fn compare_points(load: &DeviceLoad, points: &[Point]) -> Vec<Difference> {
    let mut found: BTreeMap<Timestamp, Vec<f64>> = BTreeMap::new();
    for point in points {
        found.entry(point.time).or_default().push(point.value);
    }
    let mut differences = Differences::of(load);
    for point in load.points() {
        let item = Item::Point(point.time);
        match found.remove(&point.time).as_deref() {
            None => differences.add(item, DifferenceKind::Missing),
            Some([value]) if *value == point.value => {}
            Some([value]) => {
                let how = format!("expected {}, actual {value}", point.value);
                differences.add(item, DifferenceKind::Altered(how));
            }
            Some(several) => differences.add(item, DifferenceKind::Duplicated(several.len())),
        }
    }
    for time in found.into_keys() {
        differences.add(Item::Point(time), DifferenceKind::Unexpected);
    }
    differences.all
}

struct Differences<'a> {
    device_id: &'a str,
    all: Vec<Difference>,
}

impl<'a> Differences<'a> {
    fn of(load: &'a DeviceLoad) -> Self {
        Self { device_id: &load.device_id, all: Vec::new() }
    }

    fn add(&mut self, item: Item, kind: DifferenceKind) {
        self.all.push(Difference { device_id: self.device_id.to_owned(), item, kind });
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::LoadSpec;
    use super::*;

    fn load() -> DeviceLoad {
        let spec = LoadSpec {
            prefix: "load",
            run: 1_800_000_000,
            clients: 1,
            messages: 5,
            measurements: 2,
        };
        spec.devices().remove(0)
    }

    fn archived() -> Vec<Value> {
        load().messages.iter().map(|message| message.json()).collect()
    }

    fn points() -> Vec<Point> {
        load().points().copied().collect()
    }

    fn names() -> Vec<String> {
        (0..5).map(|n| format!("d/telemetry/{n}.json")).collect()
    }

    fn to_text(differences: Vec<Difference>) -> Vec<String> {
        differences.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn order_of_results_is_irrelevant() {
        let (mut archived, mut points) = (archived(), points());
        archived.reverse();
        points.reverse();
        assert_eq!(compare_archive(&load(), &archived), []);
        assert_eq!(compare_points(&load(), &points), []);
        assert_eq!(compare_file_names(&load(), &names()), []);
    }

    #[test]
    fn missing_message_and_missing_point_are_reported() {
        let (mut archived, mut points) = (archived(), points());
        archived.remove(3);
        points.remove(9);
        assert_eq!(
            to_text(compare_archive(&load(), &archived)),
            ["missing    load-1800000000-0001  archived message with seq 3"]
        );
        assert_eq!(
            to_text(compare_points(&load(), &points)),
            ["missing    load-1800000000-0001  point at 2027-01-15T07:59:59.999Z"]
        );
    }

    #[test]
    fn identical_repeat_is_reported_as_duplicate() {
        let (mut archived, mut points, mut names) = (archived(), points(), names());
        archived.push(archived[1].clone());
        points.extend([points[0], points[0]]);
        names.push(names[4].clone());
        assert_eq!(
            to_text(compare_archive(&load(), &archived)),
            ["2 times    load-1800000000-0001  archived message with seq 1"]
        );
        assert_eq!(
            to_text(compare_points(&load(), &points)),
            ["3 times    load-1800000000-0001  point at 2027-01-15T07:59:59.99Z"]
        );
        assert_eq!(
            to_text(compare_file_names(&load(), &names)),
            ["2 times    load-1800000000-0001  archived message d/telemetry/4.json"]
        );
    }

    #[test]
    fn changed_payload_and_changed_value_are_reported() {
        let (mut archived, mut points) = (archived(), points());
        archived[0]["boot"] = "other".into();
        points[2].value += 1.0;
        assert!(matches!(compare_archive(&load(), &archived)[0].kind, DifferenceKind::Altered(_)));
        assert_eq!(
            to_text(compare_points(&load(), &points)),
            [
                "altered    load-1800000000-0001  point at 2027-01-15T07:59:59.992Z: expected 0.25, actual 1.25"
            ]
        );
    }

    #[test]
    fn unpublished_items_are_reported_as_unexpected() {
        let (mut archived, mut points, mut names) = (archived(), points(), names());
        archived.extend([serde_json::json!({"seq": 77}), Value::Null]);
        points.push(Point { time: Timestamp::UNIX_EPOCH, value: 0.0 });
        names.push("d/telemetry/5.json".to_owned());
        let kinds: Vec<_> =
            compare_archive(&load(), &archived).into_iter().map(|d| d.kind).collect();
        assert_eq!(kinds, [DifferenceKind::Unexpected, DifferenceKind::Unexpected]);
        assert_eq!(compare_points(&load(), &points)[0].kind, DifferenceKind::Unexpected);
        assert_eq!(
            to_text(compare_file_names(&load(), &names)),
            [
                "altered    load-1800000000-0001  list of archived messages: expected 5 names, actual 6"
            ]
        );
    }
}
