//! The common clients: the AWS CLI, boto3 and the Rust SDK.

use std::{path::Path, process::Command};

use aws_sdk_timestreamquery as query;
use aws_sdk_timestreamwrite as write;
use write::types::{Dimension, MeasureValue, MeasureValueType, Record, TimeUnit};

use crate::server::{DATABASE, Emulator, TABLE, now, record};

/// Runs a program of `.venv` that finds the emulator by environment variables only.
async fn run(emulator: &Emulator, program: &str, arguments: &[&str]) -> String {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin");
    let mut command = Command::new(tools.join(program));
    command
        .args(arguments)
        .env("AWS_ENDPOINT_URL_TIMESTREAM_WRITE", &emulator.url)
        .env("AWS_ENDPOINT_URL_TIMESTREAM_QUERY", &emulator.url)
        .env("AWS_ACCESS_KEY_ID", "local")
        .env("AWS_SECRET_ACCESS_KEY", "local")
        .env("AWS_DEFAULT_REGION", "us-east-1");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output =
        output.unwrap_or_else(|error| panic!("{program}, which `make setup` installs: {error}"));
    let (text, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {text}{errors}");
    text.into_owned()
}

#[tokio::test]
async fn aws_cli_writes_and_queries() {
    let emulator = Emulator::empty().await;
    let names = ["--database-name", DATABASE, "--table-name", TABLE];
    run(&emulator, "aws", &["timestream-write", "create-database", "--database-name", DATABASE])
        .await;
    run(&emulator, "aws", &[&["timestream-write", "create-table"], names.as_slice()].concat())
        .await;
    let records = serde_json::json!([record("m1", now(), 230.5)]).to_string();
    let arguments =
        [&["timestream-write", "write-records"], names.as_slice(), &["--records", &records]];
    run(&emulator, "aws", &arguments.concat()).await;
    let query = "SELECT device_id, voltage FROM \"iot-meter\".telemetry WHERE time > ago(1h)";
    let arguments = [
        "timestream-query",
        "query",
        "--query-string",
        query,
        "--output",
        "text",
        "--query",
        "Rows[].Data[].ScalarValue",
    ];
    assert_eq!(run(&emulator, "aws", &arguments).await.trim(), "m1\t230.5");
}

#[tokio::test]
async fn boto3_writes_and_queries() {
    const SCRIPT: &str = r#"
import boto3, time
write, query = boto3.client("timestream-write"), boto3.client("timestream-query")
write.create_database(DatabaseName="iot-meter")
write.create_table(DatabaseName="iot-meter", TableName="telemetry")
def records(value):
    return [{"Dimensions": [{"Name": "device_id", "Value": f"m{n}"}], "MeasureName": "iot_telemetry", "MeasureValueType": "MULTI",
             "MeasureValues": [{"Name": "voltage", "Value": value, "Type": "DOUBLE"}], "Time": now} for n in range(5)]
now = str(int(time.time() * 1000))
write.write_records(DatabaseName="iot-meter", TableName="telemetry", Records=records("1"))
try:
    write.write_records(DatabaseName="iot-meter", TableName="telemetry", Records=records("2"))
except write.exceptions.RejectedRecordsException as error:
    print([one["ExistingVersion"] for one in error.response["RejectedRecords"]])
pages = query.get_paginator("query").paginate(QueryString='SELECT device_id FROM "iot-meter".telemetry ORDER BY 1', PaginationConfig={"PageSize": 2})
print([row["Data"][0]["ScalarValue"] for page in pages for row in page["Rows"]])
try:
    query.query(QueryString="SELECT frobnicate(1)")
except query.exceptions.ValidationException as error:
    print(error)
"#;
    let emulator = Emulator::empty().await;
    let text = run(&emulator, "python", &["-c", SCRIPT]).await;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "[1, 1, 1, 1, 1]");
    assert_eq!(lines[1], "['m0', 'm1', 'm2', 'm3', 'm4']");
    assert!(lines[2].contains("frobnicate"), "{text}");
}

#[tokio::test]
async fn rust_sdk_writes_and_queries() {
    let emulator = Emulator::with_table().await;
    let credentials = write::config::Credentials::new("local", "local", None, None, "test");
    let config = write::Config::builder()
        .behavior_version(write::config::BehaviorVersion::latest())
        .region(write::config::Region::new("us-east-1"))
        .credentials_provider(credentials)
        .endpoint_url(&emulator.url)
        .build();
    let writer = write::Client::from_conf(config);
    let credentials = query::config::Credentials::new("local", "local", None, None, "test");
    let config = query::Config::builder()
        .behavior_version(query::config::BehaviorVersion::latest())
        .region(query::config::Region::new("us-east-1"))
        .credentials_provider(credentials)
        .endpoint_url(&emulator.url)
        .build();
    let reader = query::Client::from_conf(config);

    let one = |voltage: &str| {
        let measure =
            MeasureValue::builder().name("voltage").value(voltage).r#type(MeasureValueType::Double);
        let time = now() / 600 * 600;
        Record::builder()
            .dimensions(Dimension::builder().name("device_id").value("m1").build().unwrap())
            .measure_name("iot_telemetry")
            .measure_value_type(MeasureValueType::Multi)
            .measure_values(measure.build().unwrap())
            .time(time.to_string())
            .time_unit(TimeUnit::Seconds)
            .build()
    };
    let request = || writer.write_records().database_name(DATABASE).table_name(TABLE);
    let result = request().records(one("1.5")).send().await.unwrap();
    assert_eq!(result.records_ingested().unwrap().total(), 1);
    let error = request().records(one("2.5")).send().await.unwrap_err().into_service_error();
    match error {
        write::operation::write_records::WriteRecordsError::RejectedRecordsException(rejected) => {
            assert_eq!(rejected.rejected_records()[0].existing_version(), Some(1));
            assert!(rejected.message().unwrap().contains("rejected"));
        }
        other => panic!("{other:?}"),
    }

    let text = "SELECT voltage, time FROM \"iot-meter\".telemetry UNION ALL SELECT 2.5, now()";
    let (mut voltages, mut token) = (Vec::new(), None);
    loop {
        let page = reader.query().query_string(text).max_rows(1).set_next_token(token);
        let page = page.send().await.unwrap();
        assert_eq!(page.column_info()[1].name(), Some("time"));
        voltages
            .extend(page.rows().iter().map(|row| row.data()[0].scalar_value().unwrap().to_owned()));
        token = page.next_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    voltages.sort();
    assert_eq!(voltages, ["1.5", "2.5"]);
    let error = reader.query().query_string("SELECT nothing").send().await.unwrap_err();
    assert!(error.into_service_error().is_validation_exception());
}
