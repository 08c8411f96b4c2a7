//! Results of queries.

use serde_json::{Value, json};

use crate::server::{Emulator, multi, record};

/// 2023-11-14 22:00:00
const TEN: i64 = 1_699_999_200;

/// Two devices with a value each minute for ten minutes: 0 to 9, and 100 to 109 with `state` in
/// every other minute.
async fn two_meters() -> Emulator {
    let emulator = Emulator::with_table().await;
    let mut records = Vec::new();
    for minute in 0..10 {
        let time = TEN + 60 * minute;
        records.push(record("m1", time, minute as f64));
        let mut measures =
            json!([{ "Name": "voltage", "Value": (100 + minute).to_string(), "Type": "DOUBLE" }]);
        if minute % 2 == 0 {
            let state =
                json!({ "Name": "state", "Value": format!("s{minute}"), "Type": "VARCHAR" });
            measures.as_array_mut().unwrap().push(state);
        }
        records.push(multi("m2", time, measures));
    }
    emulator.write(Value::Array(records)).await;
    emulator
}

/// Formats rows as one text: values separated by spaces, rows by commas; NULL is `-`.
async fn table(emulator: &Emulator, query: &str) -> String {
    let rows = emulator.rows(query).await;
    let line = |row: Vec<Option<String>>| {
        row.into_iter()
            .map(|value| value.unwrap_or_else(|| "-".into()))
            .collect::<Vec<_>>()
            .join(" ")
    };
    rows.into_iter().map(line).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn queries_over_records() {
    let emulator = two_meters().await;
    for (query, expected) in [
        ("SELECT voltage FROM {t} WHERE device_id = 'm1' ORDER BY time LIMIT 3", "0.0, 1.0, 2.0"),
        (
            "SELECT voltage FROM {t} WHERE device_id = 'm1' ORDER BY time DESC LIMIT 2 OFFSET 1",
            "8.0, 7.0",
        ),
        ("SELECT count(*), count(state), count(DISTINCT device_id) FROM {t}", "20 5 2"),
        (
            "SELECT device_id, min(voltage), max(voltage), avg(voltage), sum(voltage) FROM {t} GROUP BY device_id ORDER BY 1",
            "m1 0.0 9.0 4.5 45.0, m2 100.0 109.0 104.5 1045.0",
        ),
        (
            "SELECT hour(bin(time, 5m)), minute(bin(time, 5m)), avg(voltage) FROM {t} WHERE device_id = 'm1' GROUP BY bin(time, 5m) ORDER BY bin(time, 5m)",
            "22 0 2.0, 22 5 7.0",
        ),
        (
            "SELECT bin(time, 5m) AS t, count(*) FROM {t} GROUP BY 1 HAVING count(*) > 1 ORDER BY t DESC LIMIT 1",
            "2023-11-14 22:05:00.000000000 10",
        ),
        (
            "SELECT voltage FROM {t} WHERE time BETWEEN timestamp '2023-11-14 22:01:00' AND from_iso8601_timestamp('2023-11-14T22:02:00Z') AND device_id LIKE '%1'",
            "1.0, 2.0",
        ),
        (
            "SELECT voltage FROM {t} WHERE time = from_milliseconds(1699999260000) AND device_id IN ('m1', 'x')",
            "1.0",
        ),
        ("SELECT count(*) FROM {t} WHERE state IS NULL AND NOT device_id = 'm1'", "5"),
        ("SELECT count(*) FROM {t} WHERE (device_id = 'm1' AND voltage >= 8) OR state = 's0'", "3"),
        (
            "SELECT approx_percentile(voltage, 0.5), approx_percentile(voltage, 0.9), approx_percentile(voltage, 1.0) FROM {t} WHERE device_id = 'm1'",
            "4.0 8.0 9.0",
        ),
        (
            "SELECT max_by(voltage, time), min_by(voltage, time), max_by(state, time) FROM {t} WHERE device_id = 'm2'",
            "109.0 100.0 -",
        ),
        ("SELECT max_by(state, time) FILTER (WHERE state IS NOT NULL) FROM {t}", "s8"),
        (
            "SELECT count_if(voltage > 100), bool_and(voltage >= 0), bool_or(voltage > 108) FROM {t}",
            "9 true true",
        ),
        (
            "SELECT stddev_pop(x), var_samp(x) FROM (SELECT voltage AS x FROM {t} WHERE device_id = 'm1' AND voltage < 2)",
            "0.5 0.5",
        ),
        (
            "SELECT avg(voltage), max(voltage), count(*), sum(voltage) FROM {t} WHERE device_id = 'unknown'",
            "- - 0 -",
        ),
        ("SELECT state FROM {t} WHERE device_id = 'm2' AND voltage < 102 ORDER BY state", "s0, -"),
        (
            "SELECT state FROM {t} WHERE device_id = 'm2' AND voltage < 102 ORDER BY state DESC",
            "s0, -",
        ),
        (
            "SELECT state FROM {t} WHERE device_id = 'm2' AND voltage < 102 ORDER BY state NULLS FIRST",
            "-, s0",
        ),
        ("SELECT DISTINCT device_id FROM {t} ORDER BY device_id", "m1, m2"),
        (
            "WITH a AS (SELECT device_id, max(time) AS time FROM {t} GROUP BY device_id) SELECT b.voltage FROM {t} b JOIN a ON a.device_id = b.device_id AND a.time = b.time ORDER BY b.voltage",
            "9.0, 109.0",
        ),
        (
            "SELECT voltage FROM {t} WHERE time = (SELECT max(time) FROM {t}) ORDER BY 1",
            "9.0, 109.0",
        ),
        (
            "SELECT voltage - lag(voltage) OVER (PARTITION BY device_id ORDER BY time) AS step FROM {t} ORDER BY step LIMIT 1",
            "1.0",
        ),
        (
            "SELECT device_id, row_number() OVER (PARTITION BY device_id ORDER BY time DESC) AS n, voltage FROM {t} ORDER BY n, device_id LIMIT 2",
            "m1 1 9.0, m2 1 109.0",
        ),
        (
            "SELECT CASE device_id WHEN 'm1' THEN 'one' ELSE 'two' END AS which, count(*) FROM {t} GROUP BY CASE device_id WHEN 'm1' THEN 'one' ELSE 'two' END ORDER BY which",
            "one 10, two 10",
        ),
        (
            "SELECT 'a', 1 UNION ALL SELECT device_id, voltage FROM {t} WHERE voltage = 1 ORDER BY 1",
            "a 1.0, m1 1.0",
        ),
        ("SELECT t.device_id FROM {t} AS t WHERE t.voltage = 3", "m1"),
    ] {
        let query = query.replace("{t}", "\"iot-meter\".\"telemetry\"");
        assert_eq!(table(&emulator, &query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn expressions_without_a_table() {
    let emulator = Emulator::empty().await;
    for (expression, expected) in [
        ("1 + 1", "2"),
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("7 / 2.0", "3.5"),
        ("-7 % 3", "-1"),
        ("1.0 / 0", "Infinity"),
        ("0.1 + 0.2", "0.30000000000000004"),
        ("'a' || 'b'", "ab"),
        ("NULL", "-"),
        ("NULL = 1", "-"),
        ("1 = 1 AND NOT 1 = 2", "true"),
        ("'A' LIKE 'a'", "false"),
        ("'a_b' LIKE 'a!_b' ESCAPE '!'", "true"),
        ("coalesce(NULL, 2)", "2"),
        ("nullif(1, 1)", "-"),
        ("if(1 > 2, 'a', 'b')", "b"),
        ("greatest(1, 2.5)", "2.5"),
        ("typeof(now())", "timestamp"),
        ("CAST('1.5' AS double)", "1.5"),
        ("CAST(2.5 AS bigint)", "3"),
        ("CAST(true AS varchar)", "true"),
        ("CAST(timestamp '2024-02-29 12:00:00' AS date)", "2024-02-29"),
        ("TRY_CAST('x' AS bigint)", "-"),
        ("abs(-2)", "2"),
        ("round(2.345, 2)", "2.35"),
        ("floor(-1.5)", "-2.0"),
        ("power(2, 10)", "1024.0"),
        ("sqrt(16)", "4.0"),
        ("upper('größe')", "GRÖSSE"),
        ("length('größe')", "5"),
        ("substr('telemetry', 2, 3)", "ele"),
        ("split_part('a/b/c', '/', 2)", "b"),
        ("replace('a-b', '-', '+')", "a+b"),
        ("strpos('abc', 'c')", "3"),
        ("1h + 30m", "0 01:30:00.000000000"),
        ("timestamp '2024-01-31 00:00:00' + interval '1' month", "2024-02-29 00:00:00.000000000"),
        ("date '2022-05-21' + 2d", "2022-05-23"),
        ("date '2024-02-29' - interval '1' year", "2023-02-28"),
        ("interval '4' year + interval '2' month", "4-2"),
        ("date_trunc('month', timestamp '2024-02-29 12:34:56')", "2024-02-01 00:00:00.000000000"),
        ("date_trunc('week', timestamp '2024-02-29 12:34:56')", "2024-02-26 00:00:00.000000000"),
        ("date_add('hour', 2, timestamp '2024-02-29 23:00:00')", "2024-03-01 01:00:00.000000000"),
        (
            "date_diff('minute', timestamp '2024-01-01 00:00:00', timestamp '2024-01-01 01:30:59')",
            "90",
        ),
        (
            "date_diff('month', timestamp '2024-01-31 00:00:00', timestamp '2024-02-29 00:00:00')",
            "0",
        ),
        ("day_of_week(timestamp '2024-02-29 00:00:00')", "4"),
        ("extract(year FROM timestamp '2024-02-29 00:00:00')", "2024"),
        ("to_iso8601(from_unixtime(1.5))", "1970-01-01T00:00:01.500000000Z"),
        ("to_milliseconds(timestamp '1970-01-01 00:00:01.5')", "1500"),
        ("to_milliseconds(now() - 1h) = to_milliseconds(ago(1h))", "true"),
        ("parse_duration('1.5 seconds')", "0 00:00:01.500000000"),
        ("bin(timestamp '2024-02-29 12:34:56', 1d)", "2024-02-29 00:00:00.000000000"),
        ("(SELECT 1)", "1"),
        ("EXISTS (SELECT 1)", "true"),
        ("1 IN (SELECT 2)", "false"),
    ] {
        let query = format!("SELECT {expression}");
        assert_eq!(table(&emulator, &query).await, expected, "{expression}");
    }
}

#[tokio::test]
async fn runtime_error_is_returned() {
    let emulator = Emulator::empty().await;
    for (expression, named) in [
        ("1 / 0", "Division by zero"),
        ("CAST('x' AS bigint)", "'x'"),
        ("9223372036854775807 + 1", "bigint"),
        ("from_iso8601_timestamp('soon')", "soon"),
        ("date '2024-01-01' + 1h", "whole days"),
    ] {
        let (exception, message) =
            emulator.expect_query_error(&format!("SELECT {expression}")).await;
        assert_eq!(exception, "QueryExecutionException", "{expression}");
        assert!(message.contains(named), "{expression}: {message}");
    }
}

#[tokio::test]
async fn empty_result_has_typed_columns() {
    let emulator = two_meters().await;
    let query = "SELECT voltage, time, state, count(*) AS n FROM \"iot-meter\".telemetry WHERE device_id = 'x' GROUP BY voltage, time, state";
    let result = emulator.ok("Query", json!({ "QueryString": query })).await;
    assert_eq!(result["Rows"], json!([]));
    let types: Vec<_> = result["ColumnInfo"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["Type"]["ScalarType"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(types, ["DOUBLE", "TIMESTAMP", "VARCHAR", "BIGINT"]);
}

#[tokio::test]
async fn unsupported_query_is_a_validation_exception_that_names_it() {
    let emulator = two_meters().await;
    for (query, named) in [
        ("SELECT interpolate_linear(voltage) FROM \"iot-meter\".telemetry", "interpolate_linear"),
        ("SELECT frequency FROM \"iot-meter\".telemetry", "frequency"),
        ("SELECT 1 FROM \"iot-meter\".nothing", "nothing"),
        ("SELECT 1 FROM \"nowhere\".telemetry", "nowhere"),
        ("SELEC 1", "syntax"),
        ("INSERT INTO \"iot-meter\".telemetry VALUES (1)", "only SELECT"),
    ] {
        let (exception, message) = emulator.expect_query_error(query).await;
        assert_eq!(exception, "ValidationException", "{query}");
        assert!(message.contains(named), "{query}: {message}");
    }
}
