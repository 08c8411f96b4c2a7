//! Redaction: removal of a gzip member from an object without moving the other members, whose
//! offsets are in the index.
//!
//! The member is replaced by an empty gzip member of the same length, whose deflate stream consists
//! of empty blocks (RFC 1951, sections 3.2.3 to 3.2.6). A comment in the gzip header would be
//! simpler, but some readers do not support it (DuckDB 2.0 rejects the whole object).

use std::io::Read;

use flate2::read::MultiGzDecoder;

const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// CRC and length of empty content.
const GZIP_TRAILER: [u8; 8] = [0; 8];

/// An empty stored block that is not the last.
const EMPTY_STORED_BLOCK: [u8; 5] = [0, 0, 0, 0xff, 0xff];

/// Ends of a deflate stream, by length in bytes: empty blocks, of which the last has the final bit.
/// They are blocks with fixed codes of ten bits each; the end of six bytes has a stored block last.
const STREAM_ENDS: [&[u8]; 5] = [
    &[0x03, 0],
    &[0x02, 0x0c, 0],
    &[0x02, 0x08, 0x30, 0],
    &[0x02, 0x08, 0x20, 0xc0, 0],
    &[0x02, 0x04, 0, 0, 0xff, 0xff],
];

/// Length of the shortest empty member.
const MIN_MEMBER_BYTES: usize = GZIP_HEADER.len() + STREAM_ENDS[0].len() + GZIP_TRAILER.len();

/// The object without the content of a member (offset and length in bytes): of the same length, and
/// with every other byte unchanged. `None` if the member is already empty or the object has no such
/// member.
pub fn redact_member(object: &[u8], (offset, length): (u64, u64)) -> Option<Vec<u8>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    let member = object.get(start..end)?;
    if is_redacted(member) {
        return None;
    }
    let empty = empty_member(member.len())?;
    let mut object = object.to_vec();
    object.get_mut(start..end)?.copy_from_slice(&empty);
    Some(object)
}

/// Whether every member is empty.
pub fn is_redacted(object: &[u8]) -> bool {
    matches!(MultiGzDecoder::new(object).read(&mut [0]), Ok(0))
}

/// An empty gzip member of `length` bytes; `None` if the length is too short.
fn empty_member(length: usize) -> Option<Vec<u8>> {
    // Each end is one byte longer than the previous one, and a stored block has five bytes.
    let more = length.checked_sub(MIN_MEMBER_BYTES)?;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(GZIP_HEADER);
    bytes.extend(EMPTY_STORED_BLOCK.repeat(more / EMPTY_STORED_BLOCK.len()));
    bytes.extend(STREAM_ENDS[more % EMPTY_STORED_BLOCK.len()]);
    bytes.extend(GZIP_TRAILER);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn member(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(object: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        MultiGzDecoder::new(object).read_to_end(&mut text).unwrap();
        text
    }

    /// Incompressible bytes.
    fn noise(length: usize) -> Vec<u8> {
        let bytes = (0..length).scan(7_u64, |x, _| {
            *x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some((*x >> 56) as u8)
        });
        bytes.collect()
    }

    #[test]
    fn empty_member_exists_for_each_length_above_the_minimum() {
        assert_eq!(MIN_MEMBER_BYTES, member(b"").len());
        let lengths = (MIN_MEMBER_BYTES..200).chain([60_000, 65_535, 65_536, 300_007]);
        for length in lengths {
            let empty = empty_member(length).unwrap();
            assert_eq!(empty.len(), length);
            assert!(read(&empty).is_empty() && is_redacted(&empty), "{length}");
        }
        assert_eq!(empty_member(MIN_MEMBER_BYTES - 1), None);
    }

    #[test]
    fn gzip_reads_an_object_with_a_redacted_member() {
        let (a, b, c) = (member(b"one\n"), member(&noise(200_000)), member(b"three\n"));
        let object = [&a[..], &b, &c].concat();
        let place = (a.len() as u64, b.len() as u64);
        let object = redact_member(&object, place).unwrap();
        let mut gzip = Command::new("gzip")
            .arg("-dc")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        gzip.stdin.take().unwrap().write_all(&object).unwrap();
        let output = gzip.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, b"one\nthree\n");
    }

    #[test]
    fn redacted_or_invalid_member_is_not_changed() {
        let object = member(b"text");
        let whole = (0, object.len() as u64);
        let empty = redact_member(&object, whole).unwrap();
        assert_eq!(redact_member(&empty, whole), None, "twice is once");
        for place in [(1, whole.1), (u64::MAX, 2), (whole.1 + 1, 0)] {
            assert_eq!(redact_member(&object, place), None, "{place:?}");
        }
    }

    proptest! {
        #[test]
        fn redaction_does_not_change_other_members(
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..6),
            gone in any::<prop::sample::Index>(),
        ) {
            let members: Vec<_> = texts.iter().map(|text| member(text)).collect();
            let object = members.concat();
            let gone = gone.index(members.len());
            let start: usize = members[..gone].iter().map(Vec::len).sum();
            let end = start + members[gone].len();
            let changed = redact_member(&object, (start as u64, (end - start) as u64)).unwrap();
            prop_assert_eq!(changed.len(), object.len());
            prop_assert_eq!(&changed[..start], &object[..start]);
            prop_assert_eq!(&changed[end..], &object[end..]);
            let left: Vec<u8> = texts.iter().enumerate()
                .filter(|(i, _)| *i != gone).flat_map(|(_, text)| text.clone()).collect();
            prop_assert_eq!(read(&changed), left.clone());
            prop_assert_eq!(is_redacted(&changed), left.is_empty());
        }
    }
}
