//! Binary encoding of buckets, 89 bytes each. As text they would take twice as many bytes, and an
//! hour of minutes several write units more.
//!
//! The first byte is the zero-based index of the bucket in its item. Eleven little-endian words of
//! eight bytes follow: the count; as doubles the sum and its rounding error, the minimum, maximum,
//! first and last value, the area and its rounding error; and the times of the first and the last
//! point in nanoseconds after the start of the bucket.

use meter_domain::aggregate::{CompensatedSum, Summary};
use meter_domain::metric::TimedValue;
use meter_domain::time::Timestamp;
use meter_store::{RollupBucket, RollupLevel};

const BUCKET_BYTES: usize = 1 + 8 + 8 * 8 + 2 * 8;

pub(super) fn encode(level: RollupLevel, item: Timestamp, buckets: &[RollupBucket]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(buckets.len() * BUCKET_BYTES);
    for bucket in buckets {
        let Summary { count, sum, min, max, first, last, area } = &bucket.summary;
        let since =
            |t: Timestamp| u64::try_from(t.as_nanos() - bucket.start.as_nanos()).unwrap_or(0);
        let index =
            (bucket.start.as_seconds() - item.as_seconds()) / i64::from(level.bucket_seconds());
        bytes.push(u8::try_from(index).unwrap_or(u8::MAX));
        bytes.extend(count.to_le_bytes());
        for value in [sum.high, sum.low, *min, *max, first.value, last.value, area.high, area.low] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(since(first.time).to_le_bytes());
        bytes.extend(since(last.time).to_le_bytes());
    }
    bytes
}

/// Decodes buckets of [`encode`]; `None` if the bytes are not valid.
pub(super) fn decode(
    level: RollupLevel,
    item: Timestamp,
    unit: Option<String>,
    bytes: &[u8],
) -> Option<Vec<RollupBucket>> {
    let chunks = bytes.chunks_exact(BUCKET_BYTES);
    if !chunks.remainder().is_empty() {
        return None;
    }
    chunks.map(|bytes| decode_one(level, item, unit.clone(), bytes)).collect()
}

fn decode_one(
    level: RollupLevel,
    item: Timestamp,
    unit: Option<String>,
    bytes: &[u8],
) -> Option<RollupBucket> {
    let (index, bytes) = bytes.split_first()?;
    let (words, _) = bytes.as_chunks::<8>();
    let [count, sum, sum_error, min, max, first, last, area, area_error, first_at, last_at] =
        words.try_into().ok()?;
    let start = item.plus_seconds(i64::from(*index) * i64::from(level.bucket_seconds()));
    let at = |word| {
        let since = i128::from(u64::from_le_bytes(word));
        Timestamp::from_nanos(start.as_nanos() + since).ok()
    };
    let timed_value = |time, value| {
        let value = f64::from_le_bytes(value);
        Some(TimedValue { time: at(time)?, value })
    };
    let sum_of =
        |high, low| CompensatedSum { high: f64::from_le_bytes(high), low: f64::from_le_bytes(low) };
    let summary = Summary {
        count: u64::from_le_bytes(count),
        sum: sum_of(sum, sum_error),
        min: f64::from_le_bytes(min),
        max: f64::from_le_bytes(max),
        first: timed_value(first_at, first)?,
        last: timed_value(last_at, last)?,
        area: sum_of(area, area_error),
    };
    Some(RollupBucket { start, summary, unit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoded_buckets_equal_encoded_buckets() {
        let item = Timestamp::parse("2026-01-01T10:00:00Z").unwrap();
        let buckets: Vec<RollupBucket> = [0, 7, 59]
            .into_iter()
            .map(|minute| {
                let start = item.plus_seconds(minute * 60);
                let mut summary = Summary::of(start.next(), 0.1);
                summary.join(&Summary::of(start.plus_seconds(59), -1e300), 300);
                RollupBucket { start, summary, unit: Some("V".to_owned()) }
            })
            .collect();
        let bytes = encode(RollupLevel::Minute, item, &buckets);
        assert_eq!(bytes.len(), 3 * BUCKET_BYTES);
        assert_eq!(decode(RollupLevel::Minute, item, Some("V".to_owned()), &bytes), Some(buckets));
        assert_eq!(decode(RollupLevel::Minute, item, None, &bytes[1..]), None);
        assert_eq!(decode(RollupLevel::Minute, item, None, &[]), Some(vec![]));
    }
}
