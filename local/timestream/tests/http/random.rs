//! Binned aggregates of random records, compared with an implementation in Rust.

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::server::Emulator;

const BEGIN: i64 = 1_700_000_000_000_000_000;

/// Instants in nanoseconds after [`BEGIN`], each with a value or without one.
type Points = BTreeMap<i64, Option<f64>>;

fn points() -> impl Strategy<Value = Points> {
    let value = prop_oneof![
        4 => (-1e6..1e6_f64).prop_map(Some),
        1 => any::<i32>().prop_map(|whole| Some(f64::from(whole))),
        1 => Just(None),
    ];
    prop::collection::btree_map(0..7_200_000_000_000_i64, value, 1..60)
}

#[derive(Debug, PartialEq)]
struct Bin {
    begin: i64,
    records: usize,
    values: usize,
    min: Option<f64>,
    max: Option<f64>,
    last: Option<f64>,
    median: Option<f64>,
}

/// Returns the bins and the sum of each, which depends slightly on the order of addition.
fn plain(points: &Points, width: i64) -> (Vec<Bin>, Vec<f64>) {
    let mut bins: BTreeMap<i64, Vec<Option<f64>>> = BTreeMap::new();
    for (offset, value) in points {
        let time = BEGIN + offset;
        bins.entry(time - time % width).or_default().push(*value);
    }
    let bin = |(begin, all): (i64, Vec<Option<f64>>)| {
        let values: Vec<f64> = all.iter().copied().flatten().collect();
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let median = values.len().div_ceil(2).checked_sub(1).map(|rank| sorted[rank]);
        let bin = Bin {
            begin,
            records: all.len(),
            values: values.len(),
            min: sorted.first().copied(),
            max: sorted.last().copied(),
            last: all.last().copied().flatten(),
            median,
        };
        (bin, values.iter().sum::<f64>())
    };
    bins.into_iter().map(bin).unzip()
}

fn records(device: &str, points: &Points) -> Value {
    let record = |(offset, value): (&i64, &Option<f64>)| {
        let mut measures = vec![json!({ "Name": "present", "Value": "true", "Type": "BOOLEAN" })];
        if let Some(value) = value {
            let text = value.to_string();
            measures.push(json!({ "Name": "voltage", "Value": text, "Type": "DOUBLE" }));
        }
        json!({
            "Dimensions": [{ "Name": "device_id", "Value": device }],
            "MeasureName": "iot_telemetry",
            "MeasureValueType": "MULTI",
            "MeasureValues": measures,
            "Time": (BEGIN + offset).to_string(),
            "TimeUnit": "NANOSECONDS",
        })
    };
    points.iter().map(record).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn binned_aggregates_equal_plain_arithmetic() {
    let emulator = Emulator::with_table().await;
    // Creates the column even if no record has a value.
    let zero = BTreeMap::from([(0, Some(0.0))]);
    emulator.write(records("other", &zero)).await;
    let handle = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let devices = std::cell::Cell::new(0);
        TestRunner::new(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })
            .run(&(points(), prop::sample::select(vec![1_i64, 60, 300, 3_600])), |(points, seconds)| {
                devices.set(devices.get() + 1);
                let device = format!("m{}", devices.get());
                let query = format!(
                    "SELECT to_nanoseconds(bin(time, {seconds}s)), count(*), count(voltage), min(voltage), \
                     max(voltage), max_by(voltage, time), approx_percentile(voltage, 0.5), sum(voltage), \
                     avg(voltage) FROM \"iot-meter\".telemetry WHERE device_id = '{device}' \
                     GROUP BY bin(time, {seconds}s) ORDER BY 1"
                );
                let rows = handle.block_on(async {
                    emulator.write(records(&device, &points)).await;
                    emulator.rows(&query).await
                });
                let (bins, sums) = plain(&points, seconds * 1_000_000_000);
                let double = |text: &Option<String>| text.as_ref().map(|text| text.parse::<f64>().unwrap());
                let count = |text: &Option<String>| text.as_ref().unwrap().parse::<usize>().unwrap();
                let actual: Vec<Bin> = rows
                    .iter()
                    .map(|row| Bin {
                        begin: row[0].as_ref().unwrap().parse().unwrap(),
                        records: count(&row[1]),
                        values: count(&row[2]),
                        min: double(&row[3]),
                        max: double(&row[4]),
                        last: double(&row[5]),
                        median: double(&row[6]),
                    })
                    .collect();
                prop_assert_eq!(&actual, &bins);
                for ((row, bin), sum) in rows.iter().zip(&bins).zip(sums) {
                    if bin.values == 0 {
                        prop_assert_eq!((&row[7], &row[8]), (&None, &None));
                        continue;
                    }
                    let off = |actual: f64, right: f64| (actual - right).abs() > 1e-9 * (1.0 + 1e6 * bin.values as f64);
                    prop_assert!(!off(double(&row[7]).unwrap(), sum));
                    prop_assert!(!off(double(&row[8]).unwrap(), sum / bin.values as f64));
                }
                Ok(())
            })
            .unwrap();
    })
    .await
    .unwrap();
}
