//! Golden test of the names that a deployed system keeps: attributes and keys of items, archive
//! objects, the device state, Timestream records, settings, metrics and fields of queue messages.
//!
//! A change of the golden file is a change of stored data or of an operator interface, and needs a
//! migration. `UPDATE_GOLDEN=1 cargo nextest run --workspace -E 'binary(stored_names)'` regenerates
//! the file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

#[path = "stored_names/archive_lines.rs"]
mod archive_lines;
#[path = "stored_names/device_state.rs"]
mod device_state;
#[path = "stored_names/dynamodb_items.rs"]
mod dynamodb_items;
#[path = "stored_names/examples.rs"]
mod examples;
#[path = "stores/fake_server.rs"]
#[expect(dead_code, reason = "shared with the tests of the stores, which use all of it")]
mod fake_server;
#[path = "stored_names/sources.rs"]
mod sources;
#[path = "stored_names/timestream_records.rs"]
mod timestream_records;

use std::collections::BTreeSet;
use std::path::Path;

#[tokio::test]
async fn stored_names_match_the_golden_file() {
    let sections = [
        ("DynamoDB requests", dynamodb_items::lines().await),
        ("Archive objects and lines", archive_lines::lines()),
        ("Device state", device_state::lines()),
        ("Timestream records", timestream_records::lines().await),
        ("Settings", sources::settings()),
        ("CloudWatch metrics", sources::metrics()),
        ("Queue message fields", sources::queue_message_fields()),
    ];
    let mut actual = String::new();
    for (title, lines) in sections {
        assert!(!lines.is_empty(), "no names in section {title}");
        actual += &format!("# {title}\n\n");
        for line in lines {
            actual += &line;
            actual.push('\n');
        }
        actual.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stored_names.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    let (expected_lines, actual_lines): (BTreeSet<_>, BTreeSet<_>) =
        (expected.lines().collect(), actual.lines().collect());
    let removed: Vec<_> = expected_lines.difference(&actual_lines).collect();
    let added: Vec<_> = actual_lines.difference(&expected_lines).collect();
    assert!(expected == actual, "removed from {}: {removed:#?}\nadded: {added:#?}", path.display());
}
