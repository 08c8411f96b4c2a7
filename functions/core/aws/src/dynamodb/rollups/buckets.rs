//! BucketPage as bytes: 89 for each, little-endian, one after the other. As texts they would be twice as many,
//! and an hour of minutes several write units more.
//!
//! A byte says the how-manieth bucket of the item it is. Then come eleven words: the count; as doubles the sum and its
//! rounding error, the least, greatest, first and last value, the area and its rounding error; and the times
//! of the first and the last point in nanoseconds from the start of the bucket.

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

/// The reverse of [`encode`]; none: these are no buckets.
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
    let [count, sum, lost, min, max, first, last, area, area_lost, first_at, last_at] =
        words.try_into().ok()?;
    let start = item.plus_seconds(i64::from(*index) * i64::from(level.bucket_seconds()));
    let at = |word| {
        let since = i128::from(u64::from_le_bytes(word));
        Timestamp::from_nanos(start.as_nanos() + since).ok()
    };
    let reading = |time, value| {
        let value = f64::from_le_bytes(value);
        Some(TimedValue { time: at(time)?, value })
    };
    let sum_of =
        |high, low| CompensatedSum { high: f64::from_le_bytes(high), low: f64::from_le_bytes(low) };
    let summary = Summary {
        count: u64::from_le_bytes(count),
        sum: sum_of(sum, lost),
        min: f64::from_le_bytes(min),
        max: f64::from_le_bytes(max),
        first: reading(first_at, first)?,
        last: reading(last_at, last)?,
        area: sum_of(area, area_lost),
    };
    Some(RollupBucket { start, summary, unit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_read_back_as_they_were_and_nothing_else_does() {
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
