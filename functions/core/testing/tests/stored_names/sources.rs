//! Names that are found by running the settings, and by searching sources and the template.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use meter_aws::settings::{ArchiveBucket, IngestQueue, Tables};
use meter_http::settings::Api;
use meter_runtime::settings::{Alerting, Commands, Ingest, Metrics, Presence, Settings, load_from};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// The environment variables that the settings read.
pub(crate) fn settings() -> Vec<String> {
    let names = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        names.borrow_mut().insert(name.to_owned());
        // Selects the metric store with settings of its own.
        (name == "METRIC_STORE").then(|| "timestream".to_owned())
    };
    fn read<S: Settings>(lookup: &dyn Fn(&str) -> Option<String>) {
        let _ = load_from::<S>(lookup);
    }
    read::<(Tables, ArchiveBucket, IngestQueue, Api)>(&lookup);
    read::<(Ingest, Metrics, Presence, Alerting, Commands)>(&lookup);
    names.into_inner().into_iter().collect()
}

/// The metrics in the sources of the functions, with their units.
pub(crate) fn metrics() -> Vec<String> {
    let mut metrics = BTreeSet::new();
    for text in sources() {
        let code: String = text.split_whitespace().collect();
        for (before, unit) in [("metrics.count(\"", "Count"), (",(\"", "Count"), ("[(\"", "Count")]
        {
            for rest in code.split(before).skip(1) {
                let Some((name, rest)) = rest.split_once('"') else { continue };
                if before.starts_with("metrics") || rest.starts_with(",self.") {
                    metrics.insert(format!("{name} {unit}"));
                }
            }
        }
        for rest in code.split("metrics.add(\"").skip(1) {
            let Some((name, rest)) = rest.split_once('"') else { continue };
            let unit = rest.strip_prefix(",Unit::").and_then(|rest| rest.split_once(','));
            metrics.insert(format!("{name} {}", unit.unwrap().0));
        }
    }
    let namespace = meter_runtime::observability::NAMESPACE;
    let lines = metrics.into_iter().map(|metric| format!("{namespace} {metric}"));
    lines.collect()
}

/// The sources of all functions without tests; observability.rs has only examples of metrics.
fn sources() -> Vec<String> {
    let mut texts = Vec::new();
    let mut folders = vec![repository().join("functions")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                let is_source =
                    !["tests", "testing", "fuzz", "node_modules", "target"].contains(&&name[..]);
                folders.extend(is_source.then_some(path));
            } else if name.ends_with(".rs") && name != "tests.rs" && name != "observability.rs" {
                texts.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    texts
}

/// The fields that the IoT rules put into a queue message, and those that ingest reads.
pub(crate) fn queue_message_fields() -> Vec<String> {
    let template = fs::read_to_string(repository().join("template.yaml")).unwrap();
    let words: Vec<_> = template.split([' ', ',', '\n']).filter(|word| !word.is_empty()).collect();
    let mut fields = BTreeSet::new();
    for pair in words.windows(2) {
        if let ["AS", name] = pair {
            fields.insert(format!("rule {name}"));
        }
    }
    for text in sources() {
        let Some((_, rest)) = text.split_once("struct ForwardedMessage {") else { continue };
        let (body, _) = rest.split_once('}').unwrap();
        let lines = body.lines().map(str::trim);
        let fields_of_struct = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
        fields.extend(fields_of_struct.map(|line| format!("ingest {line}")));
    }
    fields.into_iter().collect()
}
