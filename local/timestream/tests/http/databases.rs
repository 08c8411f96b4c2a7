//! Databases, tables and their tags.

use serde_json::json;

use crate::server::{DATABASE, StandIn, TABLE, now, record};

#[tokio::test]
async fn a_database_lives_until_it_is_deleted() {
    let stand_in = StandIn::empty().await;
    let name = json!({ "DatabaseName": DATABASE });
    let made = stand_in.ok("CreateDatabase", name.clone()).await;
    assert_eq!(made["Database"]["TableCount"], 0);
    assert!(made["Database"]["Arn"].as_str().unwrap().ends_with(":database/iot-meter"));
    assert_eq!(stand_in.refused("CreateDatabase", name.clone()).await.0, "ConflictException");
    assert_eq!(stand_in.ok("DescribeDatabase", name.clone()).await, made);

    let update = json!({ "DatabaseName": DATABASE, "KmsKeyId": "alias/mine" });
    let updated = stand_in.ok("UpdateDatabase", update).await;
    assert_eq!(updated["Database"]["KmsKeyId"], "alias/mine");

    stand_in.ok("DeleteDatabase", name.clone()).await;
    for operation in ["DescribeDatabase", "DeleteDatabase"] {
        let (exception, message) = stand_in.refused(operation, name.clone()).await;
        assert_eq!(exception, "ResourceNotFoundException");
        assert!(message.contains(DATABASE), "{message}");
    }
}

#[tokio::test]
async fn a_database_with_tables_is_not_deleted() {
    let stand_in = StandIn::with_table().await;
    let database = json!({ "DatabaseName": DATABASE });
    let (exception, _) = stand_in.refused("DeleteDatabase", database.clone()).await;
    assert_eq!(exception, "ValidationException");
    stand_in.ok("DeleteTable", json!({ "DatabaseName": DATABASE, "TableName": TABLE })).await;
    stand_in.ok("DeleteDatabase", database).await;
}

#[tokio::test]
async fn lists_come_in_pages_by_name() {
    let stand_in = StandIn::empty().await;
    for number in 0..5 {
        let name = format!("database-{number}");
        stand_in.ok("CreateDatabase", json!({ "DatabaseName": name })).await;
        let table = json!({ "DatabaseName": name, "TableName": "only" });
        stand_in.ok("CreateTable", table).await;
    }
    for (operation, list, member) in
        [("ListDatabases", "Databases", "DatabaseName"), ("ListTables", "Tables", "DatabaseName")]
    {
        let mut names = Vec::new();
        let mut request = json!({ "MaxResults": 2 });
        loop {
            let page = stand_in.ok(operation, request.clone()).await;
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
        stand_in.refused("ListTables", json!({ "MaxResults": 21 })).await.0,
        "ValidationException"
    );
    let unknown = json!({ "DatabaseName": "unknown" });
    assert_eq!(stand_in.refused("ListTables", unknown).await.0, "ResourceNotFoundException");
}

#[tokio::test]
async fn a_table_says_what_it_was_made_with() {
    let stand_in = StandIn::with_table().await;
    let name = json!({ "DatabaseName": DATABASE, "TableName": TABLE });
    let table = &stand_in.ok("DescribeTable", name).await["Table"];
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
    let updated = &stand_in.ok("UpdateTable", update.clone()).await["Table"];
    assert_eq!(updated["RetentionProperties"], update["RetentionProperties"]);
    assert_eq!(updated["MagneticStoreWriteProperties"], update["MagneticStoreWriteProperties"]);
}

#[tokio::test]
async fn names_and_retention_out_of_range_are_refused() {
    let stand_in = StandIn::with_table().await;
    for name in ["ab", "with space", "größe", "a/b", &"x".repeat(257)] {
        let database = json!({ "DatabaseName": name });
        assert_eq!(stand_in.refused("CreateDatabase", database).await.0, "ValidationException");
        let table = json!({ "DatabaseName": DATABASE, "TableName": name });
        assert_eq!(stand_in.refused("CreateTable", table).await.0, "ValidationException");
    }
    for (hours, days) in [(0, 1), (8_767, 1), (1, 0), (1, 73_001)] {
        let table = json!({ "DatabaseName": DATABASE, "TableName": "other", "RetentionProperties": {
            "MemoryStoreRetentionPeriodInHours": hours,
            "MagneticStoreRetentionPeriodInDays": days,
        } });
        assert_eq!(stand_in.refused("CreateTable", table).await.0, "ValidationException");
    }
}

#[tokio::test]
async fn tags_are_kept_with_their_resource() {
    let stand_in = StandIn::empty().await;
    let database = json!({ "DatabaseName": DATABASE, "Tags": [{ "Key": "a", "Value": "1" }] });
    let arn = stand_in.ok("CreateDatabase", database).await["Database"]["Arn"].clone();
    let more = json!({ "ResourceARN": arn, "Tags": [{ "Key": "b", "Value": "2" }] });
    stand_in.ok("TagResource", more).await;
    stand_in.ok("UntagResource", json!({ "ResourceARN": arn, "TagKeys": ["a"] })).await;
    let tags = stand_in.ok("ListTagsForResource", json!({ "ResourceARN": arn })).await;
    assert_eq!(tags, json!({ "Tags": [{ "Key": "b", "Value": "2" }] }));
    let unknown = json!({ "ResourceARN": "arn:aws:timestream:us-east-1:1:database/unknown" });
    let (exception, _) = stand_in.refused("ListTagsForResource", unknown).await;
    assert_eq!(exception, "ResourceNotFoundException");
}

#[tokio::test]
async fn a_table_that_is_made_again_is_empty() {
    let stand_in = StandIn::with_table().await;
    stand_in.write(json!([record("m1", now(), 1.0)])).await;
    let name = json!({ "DatabaseName": DATABASE, "TableName": TABLE });
    stand_in.ok("DeleteTable", name.clone()).await;
    let (_, message) = stand_in.query_refused("SELECT * FROM \"iot-meter\".telemetry").await;
    assert!(message.contains("does not exist"), "{message}");
    stand_in.ok("CreateTable", name).await;
    assert_eq!(stand_in.rows("SELECT * FROM \"iot-meter\".telemetry").await.len(), 0);
}

#[tokio::test]
async fn data_survives_a_restart() {
    let stand_in = StandIn::with_table().await;
    let time = now();
    stand_in.write(json!([record("m1", time, 1512.5)])).await;
    let stand_in = stand_in.restarted().await;
    let query = "SELECT voltage FROM \"iot-meter\".telemetry";
    assert_eq!(stand_in.value(query).await.as_deref(), Some("1512.5"));
    // The columns are known again, too.
    stand_in.write(json!([record("m1", time - 1, 1.0)])).await;
    assert_eq!(stand_in.rows(query).await.len(), 2);
}

#[tokio::test]
async fn endpoints_are_where_one_asks_for_them() {
    let stand_in = StandIn::empty().await;
    let answer = stand_in.ok("DescribeEndpoints", json!({})).await;
    assert_eq!(answer["Endpoints"][0]["Address"], stand_in.url.as_str());
}
