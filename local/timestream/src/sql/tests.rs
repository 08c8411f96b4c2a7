//! Tests of the translation and of its errors.

use super::*;

/// A catalog with the table `"iot-meter"."telemetry"`.
struct OneTable;

impl Catalog for OneTable {
    fn table(&self, database: &str, table: &str) -> Result<Source, TranslationError> {
        if (database, table) != ("iot-meter", "telemetry") {
            return Err(TranslationError::new(format!("The table {table} does not exist.")));
        }
        let column = |name: &str, sql_name: &str, of, nullable| SourceColumn {
            name: name.to_owned(),
            sql_name: sql_name.to_owned(),
            of,
            nullable,
        };
        Ok(Source {
            sql_name: "records_1".to_owned(),
            columns: Vec::from([
                column("device_id", "c0", Type::Varchar, true),
                column("measure_name", "measure_name", Type::Varchar, false),
                column("time", "time", Type::Timestamp, false),
                column("voltage", "c1", Type::Double, true),
                column("count", "c2", Type::Bigint, true),
                column("is on", "c3", Type::Boolean, true),
                column("measure_value::double", "c4", Type::Double, true),
            ]),
        })
    }
}

/// 2023-11-14 22:13:20
const NOW: i64 = 1_700_000_000_000_000_000;

fn translated(query: &str) -> Translation {
    translate(query, &OneTable, NOW).unwrap_or_else(|error| panic!("{query}: {error}"))
}

fn translate_error(query: &str) -> String {
    match translate(query, &OneTable, NOW) {
        Err(error) => error.to_string(),
        Ok(translation) => panic!("{query} became {}", translation.sql),
    }
}

/// Returns the translation of an expression over the table, and its type.
fn expression(text: &str) -> (String, Type) {
    let query = format!("SELECT {text} FROM \"iot-meter\".telemetry");
    let Translation { sql, columns } = translated(&query);
    let sql = sql.strip_prefix("SELECT ").unwrap();
    let sql = sql.strip_suffix(" AS c0 FROM records_1 AS r1").unwrap();
    (sql.to_owned(), columns[0].of)
}

#[test]
fn query_of_a_device_and_time_range_can_use_an_index() {
    let query = "SELECT time, voltage FROM \"iot-meter\".\"telemetry\" \
         WHERE device_id = 'm1' AND time BETWEEN ago(15m) AND now() ORDER BY time LIMIT 10";
    assert_eq!(
        translated(query).sql,
        "SELECT r1.time AS c0, r1.c1 AS c1 FROM records_1 AS r1 \
         WHERE ((r1.c0 = 'm1') AND (r1.time BETWEEN 1699999100000000000 AND 1700000000000000000)) \
         ORDER BY r1.time LIMIT 10"
    );
}

#[test]
fn group_keys_are_equal_in_select_and_group_by() {
    let query = "SELECT bin(time, 5m) AS t, avg(voltage) FROM \"iot-meter\".telemetry \
         GROUP BY bin(time, 5m) ORDER BY t DESC";
    assert_eq!(
        translated(query).sql,
        "SELECT ts_bin(r1.time, 300000000000) AS c0, avg(r1.c1) AS c1 FROM records_1 AS r1 \
         GROUP BY ts_bin(r1.time, 300000000000) ORDER BY 1 DESC"
    );
}

#[test]
fn expressions_have_the_types_of_trino() {
    for (text, sql, of) in [
        ("1", "1", Type::Integer),
        ("3000000000", "3000000000", Type::Bigint),
        ("1.5", "1.5", Type::Double),
        ("'it''s'", "'it''s'", Type::Varchar),
        ("true", "1", Type::Boolean),
        ("15m", "900000000000", Type::IntervalDayToSecond),
        ("interval '2' hour", "7200000000000", Type::IntervalDayToSecond),
        ("date '2023-11-14'", "19675", Type::Date),
        ("timestamp '2023-11-14 22:13:20'", "1700000000000000000", Type::Timestamp),
        ("time + 1h", "(r1.time + 3600000000000)", Type::Timestamp),
        ("time - interval '1' month", "ts_add_months(r1.time, -1)", Type::Timestamp),
        ("count / 2", "(r1.c2 / 2)", Type::Bigint),
        ("count / count", "ts_divide(r1.c2, r1.c2)", Type::Bigint),
        ("count / 0", "ts_divide(r1.c2, 0)", Type::Bigint),
        ("count * voltage", "(r1.c2 * r1.c1)", Type::Double),
        ("voltage / 0", "ts_divide_double(r1.c1, CAST(0 AS REAL))", Type::Double),
        ("measure_value::double", "r1.c4", Type::Double),
        ("\"measure_value::double\"", "r1.c4", Type::Double),
        ("telemetry.measure_value::double", "r1.c4", Type::Double),
        ("\"is on\" IS NULL", "(r1.c3 IS NULL)", Type::Boolean),
        ("DEVICE_ID LIKE 'm_%'", "(r1.c0 LIKE 'm_%')", Type::Boolean),
        ("device_id IN ('a', 'b')", "(r1.c0 IN ('a', 'b'))", Type::Boolean),
        ("coalesce(voltage, 0)", "coalesce(r1.c1, CAST(0 AS REAL))", Type::Double),
        ("CAST(count AS double)", "CAST(r1.c2 AS REAL)", Type::Double),
        ("CAST(voltage AS bigint)", "ts_cast(r1.c1, 'double', 'bigint')", Type::Bigint),
        ("TRY_CAST(device_id AS double)", "ts_try_cast(r1.c0, 'varchar', 'double')", Type::Double),
        (
            "CASE WHEN voltage > 1 THEN 'high' ELSE 'low' END",
            "(CASE WHEN (r1.c1 > 1) THEN 'high' ELSE 'low' END)",
            Type::Varchar,
        ),
        ("to_milliseconds(time)", "(r1.time / 1000000)", Type::Bigint),
        ("from_milliseconds(count)", "(r1.c2 * 1000000)", Type::Timestamp),
        ("date_trunc('hour', time)", "ts_truncate('hour', r1.time)", Type::Timestamp),
        ("extract(year FROM time)", "ts_field('year', r1.time)", Type::Bigint),
        ("floor(voltage)", "ts_floor(r1.c1)", Type::Double),
        ("max(voltage)", "max(r1.c1)", Type::Double),
        ("sum(count)", "sum(r1.c2)", Type::Bigint),
        ("count(*)", "count(*)", Type::Bigint),
        ("max_by(device_id, time)", "ts_max_by(r1.c0, r1.time)", Type::Varchar),
        ("approx_percentile(voltage, 0.9)", "ts_percentile(r1.c1, 0.9)", Type::Double),
        (
            "lag(voltage) OVER (PARTITION BY device_id ORDER BY time)",
            "lag(r1.c1) OVER (PARTITION BY r1.c0 ORDER BY r1.time)",
            Type::Double,
        ),
    ] {
        assert_eq!(expression(text), (sql.to_owned(), of), "{text}");
    }
}

#[test]
fn result_column_is_named_by_alias_column_or_position() {
    let columns = translated(
        "SELECT voltage, count AS n, 1 + 1, measure_value::double FROM \"iot-meter\".telemetry",
    )
    .columns;
    let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["voltage", "n", "_col2", "measure_value::double"]);
}

#[test]
fn common_table_expression_can_be_joined_with_a_table() {
    let query = "WITH latest AS (SELECT device_id, max(time) AS time FROM \"iot-meter\".telemetry GROUP BY device_id) \
         SELECT t.device_id, t.voltage FROM \"iot-meter\".telemetry t JOIN latest l \
         ON t.device_id = l.device_id AND t.time = l.time";
    assert_eq!(
        translated(query).sql,
        "WITH w2 AS (SELECT r1.c0 AS c0, max(r1.time) AS c1 FROM records_1 AS r1 GROUP BY r1.c0) \
         SELECT r3.c0 AS c0, r3.c1 AS c1 FROM records_1 AS r3 JOIN w2 AS r4 \
         ON ((r3.c0 = r4.c0) AND (r3.time = r4.c1))"
    );
}

#[test]
fn nulls_are_last_in_both_directions() {
    let order = |by: &str| {
        let sql = translated(&format!("SELECT 1 FROM \"iot-meter\".telemetry ORDER BY {by}")).sql;
        sql.split_once("ORDER BY ").unwrap().1.to_owned()
    };
    assert_eq!(order("voltage"), "r1.c1 NULLS LAST");
    assert_eq!(order("voltage DESC"), "r1.c1 DESC");
    assert_eq!(order("voltage NULLS FIRST"), "r1.c1");
    assert_eq!(order("voltage DESC NULLS FIRST"), "r1.c1 DESC NULLS FIRST");
}

#[test]
fn translation_error_names_the_construct() {
    for (query, named) in [
        ("SELECT nothing FROM \"iot-meter\".telemetry", "'nothing' does not exist"),
        ("SELECT 1 FROM \"iot-meter\".other", "other does not exist"),
        ("SELECT 1 FROM telemetry", "\"database\".\"table\""),
        ("SELECT frobnicate(1)", "frobnicate(integer)"),
        (
            "SELECT create_time_series(time, voltage) FROM \"iot-meter\".telemetry",
            "create_time_series",
        ),
        (
            "SELECT time = '2024-01-01' FROM \"iot-meter\".telemetry",
            "timestamp '2024-01-01 00:00:00'",
        ),
        ("SELECT device_id + 1 FROM \"iot-meter\".telemetry", "varchar and integer"),
        ("SELECT voltage, avg(voltage) FROM \"iot-meter\".telemetry", "GROUP BY"),
        ("SELECT * FROM \"iot-meter\".telemetry GROUP BY device_id", "GROUP BY"),
        ("SELECT 1 FROM \"iot-meter\".telemetry WHERE avg(voltage) > 1", "WHERE"),
        ("SELECT 1 FROM \"iot-meter\".telemetry WHERE voltage", "boolean"),
        ("SELECT avg(avg(voltage)) FROM \"iot-meter\".telemetry", "another aggregate"),
        ("SELECT bin(time, 0s) FROM \"iot-meter\".telemetry", "above zero"),
        ("SELECT 5parsec", "parsec"),
        ("SELECT ARRAY[1, 2]", "ARRAY[1, 2]"),
        ("SELECT 1 UNION SELECT 'a'", "UNION"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("DROP TABLE \"iot-meter\".telemetry", "only SELECT"),
        ("DELETE FROM \"iot-meter\".telemetry", "only SELECT"),
        ("WITH RECURSIVE a AS (SELECT 1) SELECT * FROM a", "RECURSIVE"),
        ("SELECT load_extension('x')", "load_extension"),
        ("SELECT 1 FROM sqlite_master", "sqlite_master"),
        ("SELECT sql FROM main.sqlite_master", "does not exist"),
        ("PRAGMA database_list", "only SELECT"),
        ("ATTACH DATABASE 'x' AS y", "only SELECT"),
        ("", "empty"),
        ("SELECT", "syntax"),
        ("SELECT 'unfinished", "parsed"),
    ] {
        let message = translate_error(query);
        assert!(message.contains(named), "{query}: {message}");
    }
}

#[test]
fn error_contains_the_location_of_an_unknown_name() {
    let message = translate_error("SELECT voltage,\n  volts FROM \"iot-meter\".telemetry");
    assert!(message.starts_with("line 2:3: "), "{message}");
}

#[test]
fn literals_and_aliases_cannot_inject_sql() {
    let (sql, _) = expression("'''; DROP TABLE records_1; --'");
    assert_eq!(sql, "'''; DROP TABLE records_1; --'");
    let aliased = translated("SELECT 1 AS \"x\"\"; DROP TABLE records_1; --\"");
    assert_eq!(aliased.sql, "SELECT 1 AS c0");
    assert_eq!(aliased.columns[0].name, "x\"; DROP TABLE records_1; --");
}

/// Runs a test with the stack size of a query, in a debug build.
fn run_on_query_thread(test: fn()) {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(test).unwrap().join().unwrap();
}

#[test]
fn long_and_deep_queries_do_not_overflow_the_stack() {
    run_on_query_thread(|| {
        let many = vec!["device_id = 'm'"; 3_000].join(" OR ");
        translated(&format!("SELECT 1 FROM \"iot-meter\".telemetry WHERE {many}"));
        let sums = vec!["1"; 5_000].join(" + ");
        translated(&format!("SELECT {sums}"));
        let too_many = vec!["1"; 20_000].join(" + ");
        assert!(translate_error(&format!("SELECT {too_many}")).contains("tokens"));
        for depth in [200, 5_000] {
            let deep = format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth));
            assert!(translate_error(&deep).contains("recursion"), "{}", translate_error(&deep));
            let deep = format!("{}SELECT 1{}", "SELECT (".repeat(depth), ")".repeat(depth));
            translate_error(&deep);
        }
        let nots = format!("SELECT {}true", "NOT ".repeat(9_000));
        translate_error(&nots);
        let minuses = format!("SELECT {}1", "- ".repeat(9_000));
        translate_error(&minuses);
        let huge = format!("SELECT '{}'", "x".repeat(300_000));
        assert!(translate_error(&huge).contains("bytes"));
    });
}
