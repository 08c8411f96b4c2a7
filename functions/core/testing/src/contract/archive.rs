use bytes::Bytes;
use meter_domain::archive::Location;
use meter_store::{Archive, ArchiveListing, StoreError, WriteError};

use super::{Ports, contracts};

contracts! {
    object_reads_back_whole_and_by_member
    missing_object_reads_as_none
    member_outside_the_object_is_corrupt
    repeated_put_replaces_an_object
    replace_with_outdated_version_conflicts
    repeated_remove_of_an_object_succeeds
    keys_are_listed_in_byte_order_page_by_page
}

const KEY: &str = "archive/dt=2026-01-01/hh=00/0a1b.ndjson.gz";

fn at(member: Option<(u64, u64)>) -> Location {
    Location { object: KEY.to_owned(), member }
}

async fn put(ports: &impl Ports, body: &'static [u8]) {
    let body = Bytes::from_static(body);
    ports.archive().put(KEY, "application/gzip", body).await.unwrap();
}

async fn object_reads_back_whole_and_by_member(ports: &impl Ports) {
    put(ports, b"\0\x01abcdef\xff").await;
    let get = async |member| ports.archive().get(&at(member)).await.unwrap().unwrap();
    assert_eq!(&get(None).await[..], b"\0\x01abcdef\xff");
    assert_eq!(&get(Some((2, 3))).await[..], b"abc");
    assert_eq!(&get(Some((8, 1))).await[..], b"\xff");
}

async fn missing_object_reads_as_none(ports: &impl Ports) {
    assert_eq!(ports.archive().get(&at(None)).await.unwrap(), None);
    assert_eq!(ports.archive().get(&at(Some((0, 4)))).await.unwrap(), None);
}

async fn member_outside_the_object_is_corrupt(ports: &impl Ports) {
    put(ports, b"abcdef").await;
    for member in [(4, 3), (6, 1), (100, 1), (0, 0)] {
        let result = ports.archive().get(&at(Some(member))).await;
        assert!(matches!(result, Err(StoreError::Corrupt { .. })), "{member:?}: {result:?}");
    }
}

async fn repeated_put_replaces_an_object(ports: &impl Ports) {
    put(ports, b"first").await;
    put(ports, b"").await;
    let stored = ports.archive().get(&at(None)).await.unwrap().unwrap();
    assert!(stored.is_empty());
}

async fn replace_with_outdated_version_conflicts(ports: &impl Ports) {
    let archive = ports.archive();
    assert_eq!(archive.get_versioned(KEY).await.unwrap(), None);
    put(ports, b"first").await;
    let read = archive.get_versioned(KEY).await.unwrap().unwrap();
    assert_eq!(&read.body[..], b"first");
    let replace = async |body: &'static [u8], read| {
        archive.replace(KEY, "application/gzip", Bytes::from_static(body), read).await
    };
    replace(b"second", &read).await.unwrap();
    let late = replace(b"third", &read).await;
    assert!(matches!(late, Err(WriteError::Conflict)), "{late:?}");
    let second = archive.get_versioned(KEY).await.unwrap().unwrap();
    assert_eq!(&second.body[..], b"second");
    archive.remove(KEY).await.unwrap();
    let deleted = replace(b"fourth", &second).await;
    assert!(matches!(deleted, Err(WriteError::Conflict)), "{deleted:?}");
    assert_eq!(archive.get_versioned(KEY).await.unwrap(), None);
}

async fn repeated_remove_of_an_object_succeeds(ports: &impl Ports) {
    put(ports, b"x").await;
    ports.archive().remove(KEY).await.unwrap();
    ports.archive().remove(KEY).await.unwrap();
    assert_eq!(ports.archive().get(&at(None)).await.unwrap(), None);
}

async fn keys_are_listed_in_byte_order_page_by_page(ports: &impl Ports) {
    let archive = ports.archive();
    let keys_in = async |prefix: &str, after: &str| {
        let (mut all, mut after) = (Vec::new(), after.to_owned());
        loop {
            let (keys, more) = archive.list_keys(prefix, &after).await.unwrap();
            all.extend(keys);
            match all.last() {
                Some(last) if more => after.clone_from(last),
                _ => return all,
            }
        }
    };
    assert!(keys_in("", "").await.is_empty());
    // More than S3 returns in one page.
    let mut keys: Vec<String> = (0..1_050).map(|n| format!("b/{n:04}")).collect();
    keys.extend(["a/x", "b", "b-1", "b=", "c/é"].map(str::to_owned));
    for key in &keys {
        archive.put(key, "text/plain", Bytes::from_static(b"x")).await.unwrap();
    }
    keys.sort();
    assert_eq!(keys_in("", "").await, keys);
    let in_b: Vec<_> = keys.iter().filter(|key| key.starts_with("b/")).cloned().collect();
    assert_eq!(keys_in("b/", "").await, in_b);
    assert_eq!(keys_in("b/", "b/").await, in_b, "`after` equal to the prefix excludes nothing");
    assert_eq!(keys_in("b/", "b/1048").await, in_b[1_049..]);
    // The key to continue after need not exist.
    assert_eq!(keys_in("b/", "b/0009x").await, in_b[10..]);
    assert!(keys_in("b/", "b/1049").await.is_empty() && keys_in("d", "").await.is_empty());
}
