//! The samples of a segment as one attribute: JSON text, compact enough that a message of 20
//! samples stays below 1 KB, which is one write unit.
//!
//! `["ms",[["voltage_dc","V",[[1000,1503.5],[1000,1502.25]]],["pf",null,[[0,0.98],[0,0.97,1]]]]]`:
//! the time unit, and a group for each metric and unit with an entry for each sample. An entry has
//! the time since the previous sample of the group (of the first sample: since the start of the
//! interval of the segment), the value, and the sample index unless it is 0. The time unit is the
//! coarsest in which every step is an integer, so that no time is rounded. Values are the shortest
//! texts that parse to the same double.

use meter_domain::metric::MetricName;
use meter_domain::metric::Sample;
use meter_domain::segments::SEGMENT_SECONDS;
use meter_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A time unit, encoded as its SI symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum TimeUnit {
    #[serde(rename = "s")]
    Second,
    #[serde(rename = "ms")]
    Millisecond,
    #[serde(rename = "us")]
    Microsecond,
    #[serde(rename = "ns")]
    Nanosecond,
}

impl TimeUnit {
    const COARSEST_FIRST: [Self; 4] =
        [Self::Second, Self::Millisecond, Self::Microsecond, Self::Nanosecond];

    fn nanos(self) -> i128 {
        match self {
            Self::Second => 1_000_000_000,
            Self::Millisecond => 1_000_000,
            Self::Microsecond => 1_000,
            Self::Nanosecond => 1,
        }
    }
}

type Encoded<T> = (TimeUnit, Vec<T>);

type Group = (MetricName, Option<String>, Vec<SampleEntry>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum SampleEntry {
    Plain(i64, f64),
    Indexed(i64, f64, u16),
}

/// Encodes samples in the interval of `ts`. Keeps the order of samples of one metric and unit.
pub(super) fn encode(ts: Timestamp, samples: &[Sample]) -> Result<String, String> {
    let start = ts.floor(SEGMENT_SECONDS);
    let offsets = || {
        let times = samples.iter().map(|sample| sample.time.as_nanos());
        times.map(|time| time - start.as_nanos())
    };
    let tick = TimeUnit::COARSEST_FIRST
        .into_iter()
        .find(|tick| offsets().all(|offset| offset % tick.nanos() == 0))
        .unwrap_or(TimeUnit::Nanosecond);

    let mut groups: Vec<(&Sample, i128, Vec<SampleEntry>)> = Vec::new();
    for (sample, offset) in samples.iter().zip(offsets()) {
        let ticks = offset / tick.nanos();
        let same = |first: &Sample| (&first.metric, &first.unit) == (&sample.metric, &sample.unit);
        let found = groups.iter().position(|(first, ..)| same(first));
        let i = found.unwrap_or_else(|| {
            groups.push((sample, 0, Vec::new()));
            groups.len() - 1
        });
        let (_, before, entries) = &mut groups[i];
        let step = ticks - std::mem::replace(before, ticks);
        let step =
            i64::try_from(step).map_err(|_| format!("{} is too far from {ts}", sample.time))?;
        entries.push(match sample.sample_index {
            0 => SampleEntry::Plain(step, sample.value),
            sample_index => SampleEntry::Indexed(step, sample.value, sample_index),
        });
    }
    let groups =
        groups.into_iter().map(|(first, _, entries)| (&first.metric, &first.unit, entries));
    let encoded: Encoded<_> = (tick, groups.collect());
    serde_json::to_string(&encoded).map_err(|error| error.to_string())
}

/// Decodes a text of [`encode`]; the samples are in the order of the groups.
pub(super) fn decode(ts: Timestamp, text: &str) -> Result<Vec<Sample>, String> {
    let start = ts.floor(SEGMENT_SECONDS).as_nanos();
    let (tick, groups): Encoded<Group> =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut samples = Vec::new();
    for (metric, unit, entries) in groups {
        let mut nanos = start;
        for entry in entries {
            let (step, value, sample_index) = match entry {
                SampleEntry::Plain(step, value) => (step, value, 0),
                SampleEntry::Indexed(step, value, sample_index) => (step, value, sample_index),
            };
            // Cannot overflow: both factors are below 2^64.
            nanos += i128::from(step) * tick.nanos();
            samples.push(Sample {
                metric: metric.clone(),
                time: Timestamp::from_nanos(nanos).map_err(|error| error.to_string())?,
                sample_index,
                value,
                unit: unit.clone(),
            });
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(
        metric: &str,
        time: &str,
        sample_index: u16,
        value: f64,
        unit: Option<&str>,
    ) -> Sample {
        Sample {
            metric: MetricName::parse(metric).unwrap(),
            time: Timestamp::parse(time).unwrap(),
            sample_index,
            value,
            unit: unit.map(str::to_owned),
        }
    }

    #[test]
    fn samples_are_encoded_as_documented() {
        let samples = [
            sample("voltage_dc", "2026-01-01T00:00:01Z", 0, 1503.5, Some("V")),
            sample("pf", "2026-01-01T00:00:00.5Z", 0, 0.98, None),
            sample("voltage_dc", "2026-01-01T00:00:02Z", 0, -0.0, Some("V")),
            sample("pf", "2026-01-01T00:00:00.5Z", 1, 1e-300, None),
        ];
        let ts = Timestamp::parse("2026-01-01T00:04:59Z").unwrap();
        let text = encode(ts, &samples).unwrap();
        assert_eq!(
            text,
            r#"["ms",[["voltage_dc","V",[[1000,1503.5],[1000,-0.0]]],["pf",null,[[500,0.98],[0,1e-300,1]]]]]"#
        );
        let decoded = decode(ts, &text).unwrap();
        assert_eq!(decoded, [&samples[0], &samples[2], &samples[1], &samples[3]].map(Clone::clone));
        assert!(decoded[1].value.is_sign_negative());
    }

    #[test]
    fn no_samples_are_encoded_without_groups() {
        let text = encode(Timestamp::EPOCH, &[]).unwrap();
        assert_eq!(text, r#"["s",[]]"#);
        assert_eq!(decode(Timestamp::EPOCH, &text), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn decoded_samples_equal_encoded_samples(
            start in -200_000_000i64..800_000_000,
            raw in prop::collection::vec(
                (
                    0i128..300_000_000_000,
                    any::<f64>().prop_filter("finite", |v| v.is_finite()),
                    any::<u16>(),
                    "[a-c]",
                    prop::option::of("\\PC{0,3}"),
                ),
                0..30,
            ),
        ) {
            let start = Timestamp::from_millis(start * 300_000).unwrap();
            let mut samples: Vec<Sample> = raw.into_iter().map(|(offset, value, sample_index, metric, unit)| Sample {
                metric: MetricName::parse(&metric).unwrap(),
                time: Timestamp::from_nanos(start.as_nanos() + offset).unwrap(),
                sample_index, value, unit,
            }).collect();
            let mut decoded = decode(start, &encode(start, &samples).unwrap()).unwrap();
            let order = |a: &Sample, b: &Sample| {
                (&a.metric, &a.unit, a.time, a.sample_index, a.value.to_bits())
                    .cmp(&(&b.metric, &b.unit, b.time, b.sample_index, b.value.to_bits()))
            };
            samples.sort_by(order);
            decoded.sort_by(order);
            prop_assert_eq!(&decoded, &samples);
            prop_assert!(decoded.iter().zip(&samples).all(|(a, b)| a.value.to_bits() == b.value.to_bits()));
        }

        #[test]
        fn decoding_arbitrary_text_does_not_panic(text in "\\PC{0,60}") {
            let _ = decode(Timestamp::EPOCH, &text);
        }
    }
}
