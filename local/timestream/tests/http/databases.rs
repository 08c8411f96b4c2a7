//! Databases, tables and their tags.

use serde_json::json;

use crate::server::{DATABASE, Emulator, TABLE, now, record};

#[tokio::test]
async fn database_exists_until_it_is_deleted() {
    let emulator = Emulator::empty().await;
    let name = json!({ "DatabaseName": DATABASE });
    let made = emulator.ok("CreateDatabase", name.clone()).await;
    assert_eq!(made["Database"]["TableCount"], 0);
    assert!(made["Database"]["Arn"].as_str().unwrap().ends_with(":database/iot-meter"));
    assert_eq!(emulator.expect_error("CreateDatabase", name.clone()).await.0, "ConflictException");
    assert_eq!(emulator.ok("DescribeDatabase", name.clone()).await, made);

    let update = json!({ "DatabaseName": DATABASE, "KmsKeyId": "alias/mine" });
    let updated = emulator.ok("UpdateDatabase", update).await;
    assert_eq!(updated["Database"]["KmsKeyId"], "alias/mine");

    emulator.ok("DeleteDatabase", name.clone()).await;
    for operation in ["DescribeDatabase", "DeleteDatabase"] {
        let (exception, message) = emulator.expect_error(operation, name.clone()).await;
        assert_eq!(exception, "ResourceNotFoundException");
        assert!(message.contains(DATABASE), "{message}");
    }
}

#[tokio::test]
async fn database_with_tables_cannot_be_deleted() {
    let emulator = Emulator::with_table().await;
    let database = json!({ "DatabaseName": DATABASE });
    let (exception, _) = emulator.expect_error("DeleteDatabase", database.clone()).await;
    assert_eq!(exception, "ValidationException");
    emulator.ok("DeleteTable", json!({ "DatabaseName": DATABASE, "TableName": TABLE })).await;
    emulator.ok("DeleteDatabase", database).await;
}

#[tokio::test]
async fn lists_are_paged_in_order_of_name() {
    let emulator = Emulator::empty().await;
    for number in 0..5 {
        let name = format!("database-{number}");
        emulator.ok("CreateDatabase", json!({ "DatabaseName": name })).await;
        let table = json!({ "DatabaseName": name, "TableName": "only" });
        emulator.ok("CreateTable", table).await;
    }
    for (operation, list, member) in
        [("ListDatabases", "Databases", "DatabaseName"), ("ListTables", "Tables", "DatabaseName")]
    {
        let mut names = Vec::new();
        let mut request = json!({ "MaxResults": 2 });
        loop {
            let page = emulator.ok(operation, request.clone()).await;
            let members = page[list].as_array().unwrap();
            assert!(members.len() <= 2);
            names.extend(members.iter().map(|found| found[member].as_str().unwrap().to_owned()));
            match page.get("NextToken") {
                Some(token) => request["NextToken"] = token.clone(),
                None => break,
            }
        }
        let expected: Vec<_> = (0..5).map(|number| format!("database-{number}")).collect();
        assert_eq!(names, expected, "{operation}");
    }
    assert_eq!(
        emulator.expect_error("ListTables", json!({ "MaxResults": 21 })).await.0,
        "ValidationException"
    );
    let unknown = json!({ "DatabaseName": "unknown" });
    assert_eq!(emulator.expect_error("ListTables", unknown).await.0, "ResourceNotFoundException");
}

#[tokio::test]
async fn table_description_contains_its_properties() {
    let emulator = Emulator::with_table().await;
    let name = json!({ "DatabaseName": DATABASE, "TableName": TABLE });
    let table = &emulator.ok("DescribeTable", name).await["Table"];
    assert_eq!(table["TableStatus"], "ACTIVE");
    assert_eq!(table["RetentionProperties"]["MemoryStoreRetentionPeriodInHours"], 6);
    assert_eq!(table["RetentionProperties"]["MagneticStoreRetentionPeriodInDays"], 73_000);
    assert_eq!(table["MagneticStoreWriteProperties"]["EnableMagneticStoreWrites"], true);
    assert_eq!(table["Schema"]["CompositePartitionKey"][0]["Type"], "MEASURE");
    let created = table["CreationTime"].as_f64().unwrap();
    assert!((created - now() as f64).abs() < 60.0, "{created}");

    let update = json!({
        "DatabaseName": DATABASE,
        "TableName": TABLE,
        "RetentionProperties": {
            "MemoryStoreRetentionPeriodInHours": 24,
            "MagneticStoreRetentionPeriodInDays": 7,
        },
        "MagneticStoreWriteProperties": {
            "EnableMagneticStoreWrites": true,
            "MagneticStoreRejectedDataLocation": { "S3Configuration": { "BucketName": "late" } },
        },
    });
    let updated = &emulator.ok("UpdateTable", update.clone()).await["Table"];
    assert_eq!(updated["RetentionProperties"], update["RetentionProperties"]);
    assert_eq!(updated["MagneticStoreWriteProperties"], update["MagneticStoreWriteProperties"]);
}

#[tokio::test]
async fn invalid_names_and_retention_are_rejected() {
    let emulator = Emulator::with_table().await;
    for name in ["ab", "with space", "größe", "a/b", &"x".repeat(257)] {
        let database = json!({ "DatabaseName": name });
        assert_eq!(
            emulator.expect_error("CreateDatabase", database).await.0,
            "ValidationException"
        );
        let table = json!({ "DatabaseName": DATABASE, "TableName": name });
        assert_eq!(emulator.expect_error("CreateTable", table).await.0, "ValidationException");
    }
    for (hours, days) in [(0, 1), (8_767, 1), (1, 0), (1, 73_001)] {
        let table = json!({ "DatabaseName": DATABASE, "TableName": "other", "RetentionProperties": {
            "MemoryStoreRetentionPeriodInHours": hours,
            "MagneticStoreRetentionPeriodInDays": days,
        } });
        assert_eq!(emulator.expect_error("CreateTable", table).await.0, "ValidationException");
    }
}

#[tokio::test]
async fn tags_exist_as_long_as_their_resource() {
    let emulator = Emulator::empty().await;
    let database = json!({ "DatabaseName": DATABASE, "Tags": [{ "Key": "a", "Value": "1" }] });
    let arn = emulator.ok("CreateDatabase", database).await["Database"]["Arn"].clone();
    let more = json!({ "ResourceARN": arn, "Tags": [{ "Key": "b", "Value": "2" }] });
    emulator.ok("TagResource", more).await;
    emulator.ok("UntagResource", json!({ "ResourceARN": arn, "TagKeys": ["a"] })).await;
    let tags = emulator.ok("ListTagsForResource", json!({ "ResourceARN": arn })).await;
    assert_eq!(tags, json!({ "Tags": [{ "Key": "b", "Value": "2" }] }));
    let unknown = json!({ "ResourceARN": "arn:aws:timestream:us-east-1:1:database/unknown" });
    let (exception, _) = emulator.expect_error("ListTagsForResource", unknown).await;
    assert_eq!(exception, "ResourceNotFoundException");
}

#[tokio::test]
async fn recreated_table_is_empty() {
    let emulator = Emulator::with_table().await;
    emulator.write(json!([record("m1", now(), 1.0)])).await;
    let name = json!({ "DatabaseName": DATABASE, "TableName": TABLE });
    emulator.ok("DeleteTable", name.clone()).await;
    let (_, message) = emulator.expect_query_error("SELECT * FROM \"iot-meter\".telemetry").await;
    assert!(message.contains("does not exist"), "{message}");
    emulator.ok("CreateTable", name).await;
    assert_eq!(emulator.rows("SELECT * FROM \"iot-meter\".telemetry").await.len(), 0);
}

#[tokio::test]
async fn data_survives_a_restart() {
    let emulator = Emulator::with_table().await;
    let time = now();
    emulator.write(json!([record("m1", time, 1512.5)])).await;
    let emulator = emulator.restarted().await;
    let query = "SELECT voltage FROM \"iot-meter\".telemetry";
    assert_eq!(emulator.value(query).await.as_deref(), Some("1512.5"));
    // The columns are known again, too.
    emulator.write(json!([record("m1", time - 1, 1.0)])).await;
    assert_eq!(emulator.rows(query).await.len(), 2);
}

#[tokio::test]
async fn described_endpoint_is_the_requested_address() {
    let emulator = Emulator::empty().await;
    let result = emulator.ok("DescribeEndpoints", json!({})).await;
    assert_eq!(result["Endpoints"][0]["Address"], emulator.url.as_str());
}
