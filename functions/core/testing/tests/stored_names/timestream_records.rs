//! Dimensions and measures of Timestream records, and the columns that queries name.

use std::collections::BTreeSet;

use meter_aws::{Clients, Timestream};
use meter_domain::aggregate::{Aggregate, WindowSize};
use meter_store::{MetricStore, PointQuery, WindowQuery};
use serde_json::json;

use crate::examples::{device_id, metric, point, second};
use crate::fake_server::{Call, FakeServer};

pub(crate) async fn lines() -> Vec<String> {
    let fake_server = FakeServer::start(|_, call| match call.operation.as_str() {
        "Query" => (200, json!({"QueryId": "1", "ColumnInfo": [], "Rows": []})),
        _ => (200, json!({"RecordsIngested": {"Total": 1}})),
    })
    .await;
    let clients = Clients::for_emulator(&fake_server.url).await;
    let timestream = Timestream::new(&clients, "database", "table", 300).await.unwrap();
    let points = [point("voltage_dc", None), point("custom", Some("V"))];
    timestream.put_points(&points).await.unwrap();
    let (start, stop) = (second(0), second(9));
    let query =
        PointQuery { device_id: device_id(), start, stop, metric: None, after: None, limit: 10 };
    timestream.points(&query).await.unwrap();
    let windows = WindowQuery {
        device_id: device_id(),
        start,
        stop,
        every: WindowSize::parse("1m").unwrap(),
        aggregate: Aggregate::Mean,
        metric: Some(metric("pf")),
        after: None,
        limit: 10,
    };
    timestream.windows(&windows).await.unwrap();
    fake_server.calls().iter().flat_map(describe).collect()
}

fn describe(call: &Call) -> Vec<String> {
    let body = &call.body;
    if call.operation == "Query" {
        return vec![format!("query {}", body["QueryString"].as_str().unwrap())];
    }
    let common = &body["CommonAttributes"];
    let mut lines = BTreeSet::from([format!(
        "record {} {} {}",
        common["MeasureName"], common["MeasureValueType"], common["TimeUnit"]
    )]);
    for record in body["Records"].as_array().unwrap() {
        for dimension in record["Dimensions"].as_array().unwrap() {
            lines.insert(format!("dimension {} {}", dimension["Name"], dimension["Value"]));
        }
        for measure in record["MeasureValues"].as_array().unwrap() {
            lines.insert(format!("measure {} {}", measure["Name"], measure["Type"]));
        }
    }
    lines.into_iter().collect()
}
