//! Derived values: power from voltage and current (docs/protocol.md, "Derived values").
//!
//! A value is derived from samples of the same message, time and sample index, and stored like a
//! measured one. A value that the device sends under the same name replaces the derived one.

use std::collections::BTreeMap;

use crate::metric::{MetricName, Sample};
use crate::time::Timestamp;

/// Source metrics with the units that are accepted; a missing unit means the first.
const SOURCES: [(&str, &[&str]); 5] = [
    ("voltage_dc", &["V"]),
    ("current_dc", &["A"]),
    ("voltage_ac", &["V"]),
    ("current_ac", &["A"]),
    ("pf", &["", "1"]),
];

/// Values of [`SOURCES`] at one time and sample index.
type SourceValues = [Option<f64>; SOURCES.len()];

/// Appends the derived values to the samples of a message.
pub(super) fn add_derived(measurements: &mut Vec<Sample>) {
    let mut instants: BTreeMap<(Timestamp, u16), SourceValues> = BTreeMap::new();
    for m in measurements.iter() {
        let counts = |unit: &str, units: &[&str]| units.contains(&unit);
        let source = SOURCES.iter().position(|(name, units)| {
            *name == m.metric.as_str() && m.unit.as_deref().is_none_or(|unit| counts(unit, units))
        });
        if let Some(source) = source {
            instants.entry((m.time, m.sample_index)).or_default()[source] = Some(m.value);
        }
    }
    for ((ts, sample_index), samples) in instants {
        for (name, unit, value) in derive_powers(samples) {
            let Ok(metric) = MetricName::parse(name) else { continue };
            let is_sent =
                |m: &Sample| m.metric == metric && (m.time, m.sample_index) == (ts, sample_index);
            if value.is_finite() && !measurements.iter().any(is_sent) {
                let unit = Some(unit.to_owned());
                measurements.push(Sample { metric, time: ts, sample_index, value, unit });
            }
        }
    }
}

/// Name, unit and value of each power at one time and sample index. A device that measures a DC and
/// an AC system draws the sum of both powers, which requires both.
fn derive_powers(samples: SourceValues) -> Vec<(&'static str, &'static str, f64)> {
    let [voltage_dc, current_dc, voltage_ac, current_ac, pf] = samples;
    let dc = voltage_dc.zip(current_dc).map(|(voltage, current)| voltage * current);
    let apparent = voltage_ac.zip(current_ac).map(|(voltage, current)| voltage * current);
    let ac = apparent.zip(pf).map(|(apparent, pf)| apparent * pf);
    let active = match (dc, apparent) {
        (Some(dc), None) => Some(dc),
        (None, _) => ac,
        (Some(dc), Some(_)) => ac.map(|ac| dc + ac),
    };
    // For a power factor beyond 1, S² - P² is negative and the result is not finite, so there is no
    // reactive power.
    let reactive = apparent.zip(ac).map(|(s, p)| (s * s - p * p).sqrt());
    [
        active.map(|value| ("active_power", "W", value)),
        apparent.map(|value| ("apparent_power", "VA", value)),
        reactive.map(|value| ("reactive_power", "var", value)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str, s: i64, sample_index: u16, value: f64, unit: Option<&str>) -> Sample {
        let ts = Timestamp::EPOCH.plus_seconds(s);
        let metric = MetricName::parse(name).unwrap();
        Sample { metric, time: ts, sample_index, value, unit: unit.map(str::to_owned) }
    }

    fn derived(mut measurements: Vec<Sample>) -> Vec<(String, i64, u16, f64)> {
        let sent = measurements.len();
        add_derived(&mut measurements);
        let derived = measurements.drain(sent..);
        derived
            .map(|m| (m.metric.to_string(), m.time.as_seconds(), m.sample_index, m.value))
            .collect()
    }

    #[test]
    fn dc_power_is_negative_during_regeneration() {
        let brakes = derived(vec![
            sample("current_dc", 1, 0, -200.0, Some("A")),
            sample("voltage_dc", 1, 0, 3_000.0, None),
        ]);
        assert_eq!(brakes, [("active_power".to_owned(), 1, 0, -600_000.0)]);
    }

    #[test]
    fn ac_power_without_power_factor_is_apparent_power_only() {
        let (v, i) =
            (sample("voltage_ac", 1, 0, 100.0, None), sample("current_ac", 1, 0, 5.0, None));
        let all = derived(vec![v.clone(), i.clone(), sample("pf", 1, 0, 0.6, None)]);
        let expected =
            [("active_power", 300.0), ("apparent_power", 500.0), ("reactive_power", 400.0)];
        assert_eq!(all.len(), 3);
        for ((name, .., value), (expected, power)) in all.iter().zip(expected) {
            assert!(name == expected && (value - power).abs() < 1e-9, "{name} {value}");
        }
        assert_eq!(derived(vec![v, i]), [("apparent_power".to_owned(), 1, 0, 500.0)]);
    }

    #[test]
    fn power_combines_samples_of_one_time_and_index() {
        let all = derived(vec![
            sample("voltage_dc", 1, 0, 1.0, None),
            sample("voltage_dc", 1, 1, 2.0, None),
            sample("current_dc", 1, 1, 3.0, None),
            sample("current_dc", 2, 0, 4.0, None),
        ]);
        assert_eq!(all, [("active_power".to_owned(), 1, 1, 6.0)]);
    }

    #[test]
    fn unsupported_unit_infinite_result_and_sent_power_derive_nothing() {
        let v = |value| sample("voltage_dc", 1, 0, value, None);
        assert_eq!(derived(vec![v(1.0), sample("current_dc", 1, 0, 1.0, Some("mA"))]), []);
        assert_eq!(derived(vec![v(1e200), sample("current_dc", 1, 0, 1e200, None)]), []);
        let own = sample("active_power", 1, 0, 7.0, Some("W"));
        assert_eq!(derived(vec![v(1.0), sample("current_dc", 1, 0, 1.0, None), own]), []);
        let pf = [("voltage_ac", 2.0), ("current_ac", 2.0), ("pf", 1.5)];
        let pf = pf.map(|(name, value)| sample(name, 1, 0, value, None)).to_vec();
        assert_eq!(derived(pf).len(), 2, "no reactive power");
    }
}
