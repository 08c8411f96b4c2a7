//! WriteRecords: forms, limits, versions, ages.

use serde_json::{Value, json};

use crate::server::{DATABASE, Emulator, TABLE, multi, now, record, write_request};

const VOLTAGES: &str = "SELECT voltage FROM \"iot-meter\".telemetry ORDER BY time";

fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|text| Some((*text).to_owned())).collect()
}

#[tokio::test]
async fn values_of_every_type_round_trip() {
    let emulator = Emulator::with_table().await;
    let measures = json!([
        { "Name": "power", "Value": "-0.1", "Type": "DOUBLE" },
        { "Name": "pulses", "Value": "9223372036854775807", "Type": "BIGINT" },
        { "Name": "firmware", "Value": "größer \"1\" 'x'", "Type": "VARCHAR" },
        { "Name": "closed", "Value": "true", "Type": "BOOLEAN" },
        { "Name": "since", "Value": "1700000000", "Type": "TIMESTAMP" },
    ]);
    emulator.write(json!([multi("m1", 1_700_000_001, measures)])).await;
    let result = emulator
        .ok("Query", json!({ "QueryString": "SELECT * FROM \"iot-meter\".telemetry" }))
        .await;
    let columns: Vec<_> = result["ColumnInfo"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| {
            (column["Name"].as_str().unwrap(), column["Type"]["ScalarType"].as_str().unwrap())
        })
        .collect();
    let expected = [
        ("device_id", "VARCHAR"),
        ("measure_name", "VARCHAR"),
        ("time", "TIMESTAMP"),
        ("power", "DOUBLE"),
        ("pulses", "BIGINT"),
        ("firmware", "VARCHAR"),
        ("closed", "BOOLEAN"),
        ("since", "TIMESTAMP"),
    ];
    assert_eq!(columns, expected);
    let row = crate::server::texts(&result["Rows"][0]);
    let expected = some(&[
        "m1",
        "iot_telemetry",
        "2023-11-14 22:13:21.000000000",
        "-0.1",
        "9223372036854775807",
        "größer \"1\" 'x'",
        "true",
        "2023-11-14 22:13:20.000000000",
    ]);
    assert_eq!(row, expected);
}

#[tokio::test]
async fn single_measures_have_a_column_for_each_type() {
    let emulator = Emulator::with_table().await;
    let time = now();
    let single = |name: &str, value: &str, of: Option<&str>| {
        let mut record = json!({
            "Dimensions": [{ "Name": "device_id", "Value": "m1" }],
            "MeasureName": name,
            "MeasureValue": value,
            "Time": time.to_string(),
            "TimeUnit": "SECONDS",
        });
        if let Some(of) = of {
            record["MeasureValueType"] = json!(of);
        }
        record
    };
    // The default type of a measure is DOUBLE.
    emulator
        .write(json!([
            single("temperature", "21.5", None),
            single("pulses", "7", Some("BIGINT")),
            single("state", "idle", Some("VARCHAR")),
            single("closed", "false", Some("BOOLEAN")),
        ]))
        .await;
    for (name, column, value) in [
        ("temperature", "measure_value::double", "21.5"),
        ("pulses", "measure_value::bigint", "7"),
        ("state", "measure_value::varchar", "idle"),
        ("closed", "measure_value::boolean", "false"),
    ] {
        let query =
            format!("SELECT {column} FROM \"iot-meter\".telemetry WHERE measure_name = '{name}'");
        assert_eq!(emulator.value(&query).await.as_deref(), Some(value), "{name}");
    }
    let timestamp = single("since", "1", Some("TIMESTAMP"));
    let (exception, message) =
        emulator.expect_error("WriteRecords", write_request(json!([timestamp]))).await;
    assert_eq!(exception, "ValidationException");
    assert!(message.contains("MULTI"), "{message}");
}

#[tokio::test]
async fn common_attributes_complete_each_record() {
    let emulator = Emulator::with_table().await;
    let time = now();
    let mut request = write_request(json!([
        { "Time": (time * 1_000).to_string(), "MeasureValues": [{ "Name": "voltage", "Value": "1", "Type": "DOUBLE" }] },
        { "Time": (time * 1_000 - 1).to_string(), "Dimensions": [{ "Name": "line", "Value": "L2" }],
          "MeasureName": "other", "MeasureValues": [{ "Name": "voltage", "Value": "2", "Type": "DOUBLE" }] },
    ]));
    request["CommonAttributes"] = json!({
        "Dimensions": [{ "Name": "device_id", "Value": "m1" }],
        "MeasureName": "iot_telemetry",
        "MeasureValueType": "MULTI",
        "MeasureValues": [{ "Name": "site", "Value": "depot", "Type": "VARCHAR" }],
    });
    let result = emulator.ok("WriteRecords", request.clone()).await;
    assert_eq!(
        result["RecordsIngested"],
        json!({ "Total": 2, "MemoryStore": 2, "MagneticStore": 0 })
    );
    let rows = emulator
        .rows("SELECT device_id, line, measure_name, site, voltage FROM \"iot-meter\".telemetry ORDER BY time")
        .await;
    assert_eq!(rows[0], some(&["m1", "L2", "other", "depot", "2.0"]));
    assert_eq!(rows[1][1], None);

    request["Records"][0]["Dimensions"] = json!([{ "Name": "device_id", "Value": "m2" }]);
    let (exception, message) = emulator.expect_error("WriteRecords", request).await;
    assert_eq!(exception, "ValidationException");
    assert!(message.contains("twice"), "{message}");
}

#[tokio::test]
async fn nanoseconds_are_preserved() {
    let emulator = Emulator::with_table().await;
    let mut precise = record("m1", 0, 1.0);
    precise["Time"] = json!("1700000000123456789");
    precise["TimeUnit"] = json!("NANOSECONDS");
    emulator.write(json!([precise])).await;
    let time = emulator.value("SELECT time FROM \"iot-meter\".telemetry").await;
    assert_eq!(time.as_deref(), Some("2023-11-14 22:13:20.123456789"));
    let nanos = emulator.value("SELECT to_nanoseconds(time) FROM \"iot-meter\".telemetry").await;
    assert_eq!(nanos.as_deref(), Some("1700000000123456789"));
}

fn with_version(mut record: Value, version: i64) -> Value {
    record["Version"] = json!(version);
    record
}

#[tokio::test]
async fn repeated_record_is_accepted_without_change() {
    let emulator = Emulator::with_table().await;
    let time = now();
    for _ in 0..2 {
        let result = emulator.write(json!([record("m1", time, 1.0)])).await;
        assert_eq!(result["RecordsIngested"]["Total"], 1);
    }
    assert_eq!(emulator.rows(VOLTAGES).await, [some(&["1.0"])]);
}

#[tokio::test]
async fn same_version_with_another_value_is_rejected_with_the_existing_version() {
    let emulator = Emulator::with_table().await;
    let time = now();
    emulator.write(json!([with_version(record("m1", time, 1.0), 7)])).await;
    let rejected = emulator
        .rejected(json!([
            record("m2", time, 5.0),
            with_version(record("m1", time, 2.0), 7),
            with_version(record("m1", time, 2.0), 6),
            // The same values with a lower version.
            with_version(record("m1", time, 1.0), 6),
        ]))
        .await;
    let indices: Vec<_> = rejected.iter().map(|one| one["RecordIndex"].as_i64().unwrap()).collect();
    assert_eq!(indices, [1, 2, 3]);
    assert!(rejected.iter().all(|one| one["ExistingVersion"] == 7), "{rejected:?}");
    let reason = rejected[1]["Reason"].as_str().unwrap();
    assert!(reason.contains("lower than the existing version 7"), "{reason}");
    // Other records are stored.
    assert_eq!(emulator.rows(VOLTAGES).await.len(), 2);
}

#[tokio::test]
async fn higher_version_replaces_the_record() {
    let emulator = Emulator::with_table().await;
    let time = now();
    let both = json!([
        { "Name": "voltage", "Value": "1", "Type": "DOUBLE" },
        { "Name": "current", "Value": "2", "Type": "DOUBLE" },
    ]);
    emulator.write(json!([with_version(multi("m1", time, both), 1)])).await;
    emulator.write(json!([with_version(record("m1", time, 3.0), 2)])).await;
    let rows = emulator.rows("SELECT voltage, current FROM \"iot-meter\".telemetry").await;
    assert_eq!(rows, [[Some("3.0".to_owned()), None]]);
    // The version changed although the value did not.
    emulator.write(json!([with_version(record("m1", time, 3.0), 9)])).await;
    let rejected = emulator.rejected(json!([with_version(record("m1", time, 4.0), 8)])).await;
    assert_eq!(rejected[0]["ExistingVersion"], 9);
}

#[tokio::test]
async fn order_of_dimensions_is_not_significant() {
    let emulator = Emulator::with_table().await;
    let mut one = record("m1", now(), 1.0);
    one["Dimensions"] = json!([{ "Name": "a", "Value": "1" }, { "Name": "b", "Value": "2" }]);
    let mut two = one.clone();
    two["Dimensions"].as_array_mut().unwrap().reverse();
    two["MeasureValues"][0]["Value"] = json!("2");
    emulator.write(json!([one])).await;
    assert_eq!(emulator.rejected(json!([two])).await.len(), 1);
}

#[tokio::test]
async fn records_outside_the_retention_are_rejected() {
    let emulator = Emulator::empty().await;
    emulator.ok("CreateDatabase", json!({ "DatabaseName": DATABASE })).await;
    let retention = json!({
        "MemoryStoreRetentionPeriodInHours": 2,
        "MagneticStoreRetentionPeriodInDays": 3,
    });
    let mut table =
        json!({ "DatabaseName": DATABASE, "TableName": TABLE, "RetentionProperties": retention });
    emulator.ok("CreateTable", table.clone()).await;
    let (hour, day) = (3_600, 86_400);
    let ago = |age: i64| json!([record("m1", now() - age, age as f64)]);
    emulator.write(ago(hour)).await;
    let rejected = emulator.rejected(ago(3 * hour)).await;
    let reason = rejected[0]["Reason"].as_str().unwrap();
    assert!(reason.contains("outside the time range"), "{reason}");
    assert_eq!(rejected[0].get("ExistingVersion"), None);

    table["MagneticStoreWriteProperties"] = json!({ "EnableMagneticStoreWrites": true });
    emulator.ok("UpdateTable", table).await;
    let result = emulator.write(ago(3 * hour)).await;
    assert_eq!(
        result["RecordsIngested"],
        json!({ "Total": 1, "MemoryStore": 0, "MagneticStore": 1 })
    );
    assert_eq!(emulator.rejected(ago(3 * day + hour)).await.len(), 1);

    emulator.write(ago(-14 * 60)).await;
    assert_eq!(emulator.rejected(ago(-16 * 60)).await.len(), 1);
}

#[tokio::test]
async fn record_with_another_column_type_or_role_is_rejected() {
    let emulator = Emulator::with_table().await;
    let time = now();
    emulator.write(json!([record("m1", time, 1.0)])).await;
    let measure = |name: &str, value: &str, of: &str| {
        multi("m2", time, json!([{ "Name": name, "Value": value, "Type": of }]))
    };
    let rejected = emulator
        .rejected(json!([
            measure("voltage", "1", "BIGINT"),
            measure("device_id", "1", "DOUBLE"),
            measure("time", "1", "DOUBLE"),
            measure("measure_value", "1", "DOUBLE"),
            measure("ts_x", "1", "DOUBLE"),
            measure("current", "much", "DOUBLE"),
            measure("current", "NaN", "DOUBLE"),
            measure("current", "1.5", "BIGINT"),
            measure("current", "2", "DOUBLE"),
        ]))
        .await;
    assert_eq!(rejected.len(), 8, "{rejected:?}");
    assert!(rejected.iter().all(|one| one["RecordIndex"] != 8));
}

#[tokio::test]
async fn record_beyond_the_limits_is_rejected_alone() {
    let emulator = Emulator::with_table().await;
    let time = now();
    let measures = |count: usize, value: &str, of: &str| -> Value {
        (0..count)
            .map(|number| json!({ "Name": format!("m{number}"), "Value": value, "Type": of }))
            .collect()
    };
    emulator.write(json!([multi("m1", time, measures(256, "1", "DOUBLE"))])).await;
    let text = "x".repeat(1_025);
    let rejected = emulator
        .rejected(json!([
            multi("m2", time, measures(257, "1", "DOUBLE")),
            multi(
                "m3",
                time,
                json!([
                    { "Name": "a", "Value": text, "Type": "VARCHAR" },
                    { "Name": "b", "Value": text, "Type": "VARCHAR" },
                ])
            ),
            record(&"d".repeat(2_048), time, 1.0),
            record("m4", time, 1.0),
        ]))
        .await;
    let indices: Vec<_> = rejected.iter().map(|one| one["RecordIndex"].as_i64().unwrap()).collect();
    assert_eq!(indices, [0, 1, 2]);
}

#[tokio::test]
async fn invalid_request_is_rejected_as_a_whole() {
    let emulator = Emulator::with_table().await;
    let time = now();
    let good = record("m1", time, 1.0);
    let changed = |member: &str, value: Value| {
        let mut record = good.clone();
        record[member] = value;
        json!([good, record])
    };
    let without = |member: &str| {
        let mut record = good.clone();
        record.as_object_mut().unwrap().remove(member);
        json!([record])
    };
    let many: Value = (0..101).map(|second| record("m1", time - second, 1.0)).collect();
    for records in [
        json!([]),
        many,
        without("Time"),
        without("Dimensions"),
        without("MeasureName"),
        without("MeasureValues"),
        changed("Time", json!("now")),
        changed("Time", json!("-1")),
        changed("Time", json!("99999999999999999999")),
        changed("TimeUnit", json!("DAYS")),
        changed("Version", json!(0)),
        changed("MeasureValueType", json!("DECIMAL")),
        changed("MeasureValue", json!("1")),
        changed("MeasureValues", json!([{ "Name": "voltage" }])),
        changed("Dimensions", json!("device")),
    ] {
        let (exception, _) =
            emulator.expect_error("WriteRecords", write_request(records.clone())).await;
        assert_eq!(exception, "ValidationException", "{records}");
    }
    assert_eq!(emulator.rows("SELECT * FROM \"iot-meter\".telemetry").await.len(), 0);
    let mut elsewhere = write_request(json!([good]));
    elsewhere["TableName"] = json!("unknown");
    assert_eq!(
        emulator.expect_error("WriteRecords", elsewhere).await.0,
        "ResourceNotFoundException"
    );
}

#[tokio::test]
async fn expired_records_are_deleted() {
    let emulator = Emulator::with_table().await;
    emulator.write(json!([record("m1", now(), 1.0), record("m1", now() - 2 * 86_400, 2.0)])).await;
    let shorter = json!({ "DatabaseName": DATABASE, "TableName": TABLE, "RetentionProperties": {
        "MemoryStoreRetentionPeriodInHours": 1,
        "MagneticStoreRetentionPeriodInDays": 1,
    } });
    emulator.ok("UpdateTable", shorter).await;
    // Expired records are deleted at the start and each minute.
    let emulator = emulator.restarted().await;
    let started = std::time::Instant::now();
    while emulator.rows(VOLTAGES).await != [some(&["1.0"])] {
        assert!(started.elapsed().as_secs() < 30, "{:?}", emulator.rows(VOLTAGES).await);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
