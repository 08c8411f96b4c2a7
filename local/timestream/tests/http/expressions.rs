//! Random expressions: each is rejected or has a value, and a value has the type of its column.

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::server::{Emulator, multi};

/// Operands, some of which are not valid in the place of others.
const LEAVES: [&str; 20] = [
    "voltage",
    "pulses",
    "note",
    "closed",
    "since",
    "time",
    "device_id",
    "0",
    "7",
    "-3000000000",
    "2.5",
    "'12'",
    "'x'",
    "''",
    "NULL",
    "true",
    "5m",
    "interval '2' month",
    "date '2024-02-29'",
    "timestamp '2024-02-29 12:34:56'",
];

/// Patterns of one, two or three operands.
const FORMS: [&str; 48] = [
    "(A + B)",
    "(A - B)",
    "(A * B)",
    "(A / B)",
    "(A % B)",
    "(A || B)",
    "(A = B)",
    "(A < B)",
    "(A AND B)",
    "(A OR B)",
    "(NOT A)",
    "(A IS NULL)",
    "(A BETWEEN B AND C)",
    "(A IN (B, C))",
    "(A LIKE B)",
    "(A IS DISTINCT FROM B)",
    "(CASE WHEN A THEN B ELSE C END)",
    "(CASE A WHEN B THEN C END)",
    "coalesce(A, B)",
    "nullif(A, B)",
    "greatest(A, B)",
    "if(A, B, C)",
    "CAST(A AS varchar)",
    "TRY_CAST(A AS double)",
    "TRY_CAST(A AS bigint)",
    "TRY_CAST(A AS integer)",
    "TRY_CAST(A AS boolean)",
    "TRY_CAST(A AS timestamp)",
    "TRY_CAST(A AS date)",
    "bin(A, B)",
    "ago(A)",
    "date_trunc('month', A)",
    "date_add('hour', A, B)",
    "date_diff('day', A, B)",
    "hour(A)",
    "to_milliseconds(A)",
    "from_milliseconds(A)",
    "to_iso8601(A)",
    "abs(A)",
    "sign(A)",
    "round(A, B)",
    "floor(A)",
    "power(A, B)",
    "length(A)",
    "substr(A, B, C)",
    "split_part(A, B, C)",
    "max_by(A, B)",
    "approx_percentile(A, 0.5)",
];

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(LEAVES.to_vec()).prop_map(str::to_owned);
    leaf.prop_recursive(3, 24, 3, |inner| {
        let form = prop::sample::select(FORMS.to_vec());
        (form, inner.clone(), inner.clone(), inner).prop_map(|(form, a, b, c)| {
            let place = |letter| match letter {
                'A' => Some(&a),
                'B' => Some(&b),
                'C' => Some(&c),
                _ => None,
            };
            // A single letter is an operand; in a word it is a letter.
            let mut text = String::new();
            for part in form.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
                let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                let operand =
                    (word.len() == 1).then(|| word.chars().next().and_then(place)).flatten();
                text.push_str(operand.map_or(word, String::as_str));
                text.push_str(&part[word.len()..]);
            }
            text
        })
    })
}

/// Returns whether a text has the form of a type.
fn fits(of: &str, text: &str) -> bool {
    match of {
        "INTEGER" => text.parse::<i32>().is_ok(),
        "BIGINT" => text.parse::<i64>().is_ok(),
        "DOUBLE" => text.parse::<f64>().is_ok() && text.contains(['.', 'I', 'N']),
        "BOOLEAN" => ["true", "false"].contains(&text),
        "TIMESTAMP" => text.len() == 29 && text.contains(' '),
        "DATE" => text.len() == 10,
        "INTERVAL_DAY_TO_SECOND" => text.contains(' ') && text.contains('.'),
        "INTERVAL_YEAR_TO_MONTH" => text.trim_start_matches('-').contains('-'),
        "VARCHAR" => true,
        // The type of NULL.
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn value_has_the_type_of_its_column() {
    let emulator = Emulator::with_table().await;
    let measures = json!([
        { "Name": "voltage", "Value": "-1.5", "Type": "DOUBLE" },
        { "Name": "pulses", "Value": "40", "Type": "BIGINT" },
        { "Name": "note", "Value": "größe", "Type": "VARCHAR" },
        { "Name": "closed", "Value": "true", "Type": "BOOLEAN" },
        { "Name": "since", "Value": "1700000000", "Type": "TIMESTAMP" },
    ]);
    let without = json!([{ "Name": "voltage", "Value": "3", "Type": "DOUBLE" }]);
    emulator
        .write(json!([multi("m1", 1_700_000_000, measures), multi("m2", 1_700_000_007, without)]))
        .await;
    let handle = tokio::runtime::Handle::current();
    let evaluated = tokio::task::spawn_blocking(move || {
        let evaluated = std::cell::Cell::new(0);
        let config =
            ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() };
        TestRunner::new(config)
            .run(&expression(), |expression| {
                let query = format!("SELECT {expression} FROM \"iot-meter\".telemetry");
                let request = json!({ "QueryString": query });
                let (status, result) = handle.block_on(emulator.call("Query", request));
                if !status.is_success() {
                    prop_assert_eq!(status.as_u16(), 400, "{}: {}", query, result);
                    let message = result["Message"].as_str().unwrap();
                    prop_assert!(!message.contains("exceeds a limit"), "{}: {}", query, message);
                    // Only large numbers overflow.
                    let is_right =
                        !message.contains("out of the range") || query.contains("3000000000");
                    prop_assert!(is_right, "{}: {}", query, message);
                    return Ok(());
                }
                evaluated.set(evaluated.get() + 1);
                let of = result["ColumnInfo"][0]["Type"]["ScalarType"].as_str().unwrap();
                for row in result["Rows"].as_array().unwrap() {
                    let datum = &row["Data"][0];
                    let is_right = datum["NullValue"] == Value::Bool(true)
                        || fits(of, datum["ScalarValue"].as_str().unwrap());
                    prop_assert!(is_right, "{} is {} of {}", query, datum, of);
                }
                Ok(())
            })
            .unwrap();
        evaluated.get()
    })
    .await
    .unwrap();
    assert!(evaluated > 60, "only {evaluated} expressions had a value");
}
