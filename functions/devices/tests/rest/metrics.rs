use meter_testing::http::get;
use serde_json::json;

use crate::system::{System, field, t};

const NOW: &str = "2026-03-10T12:00:00Z";

/// A device that sent a voltage a minute for two hours until `NOW`.
async fn system() -> System {
    let system = System::new();
    for minutes in 0..120 {
        let ts = t(NOW).plus_seconds(-60 * minutes).to_string();
        let samples = json!([{"type": "voltage_dc", "val": 700 + minutes, "unit": "V"}, {"type": "x", "val": 1}]);
        system.telemetry("a", &ts, samples).await;
    }
    system
}

async fn values(system: &System, query: &str) -> Vec<String> {
    let call = get(&format!("/api/devices/a/metrics?metric=voltage_dc&{query}")).at(NOW);
    let pages = system.pages(call).await;
    pages.iter().flat_map(|page| field(page.json().as_array().unwrap(), "value")).collect()
}

#[tokio::test]
async fn points_default_to_the_last_hour_oldest_first() {
    let system = system().await;
    let last_hour = values(&system, "").await;
    assert_eq!(last_hour.len(), 60);
    assert_eq!((last_hour[0].as_str(), last_hour[59].as_str()), ("760.0", "701.0"));
    assert_eq!(values(&system, "start=-3m").await, ["703.0", "702.0", "701.0"]);
    assert_eq!(values(&system, "start=-3m&stop=-1m").await, ["703.0", "702.0"]);
    // A point at `stop` is outside of the range.
    assert_eq!(
        values(&system, "start=2026-03-10T11:58:00Z&stop=2026-03-10T12:00:00Z").await,
        ["702.0", "701.0"]
    );
    assert_eq!(
        values(&system, "start=2026-03-10T12:58:00%2B01:00&stop=now()").await,
        ["702.0", "701.0"]
    );
    assert_eq!(values(&system, "start=-30d").await.len(), 119);
}

#[tokio::test]
async fn point_has_metric_time_value_unit_and_quality() {
    let system = System::new();
    let samples = json!([{"type": "pf", "val": 1.5}, {"type": "x", "val": -3, "unit": "kg"}]);
    system.telemetry("a", NOW, samples).await;
    let points = system.json("/api/devices/a/metrics?start=2026-03-10T12:00:00Z").await;
    // A known metric has its own unit, and a ratio has none.
    let pf = json!({"time": NOW, "device_id": "a", "metric": "pf", "value": 1.5, "quality": "out_of_range"});
    let x = json!({"time": NOW, "device_id": "a", "metric": "x", "value": -3.0, "unit": "kg"});
    assert_eq!(points, json!([pf, x]));
}

#[tokio::test]
async fn pages_contain_each_point_once() {
    let system = system().await;
    let all = values(&system, "start=-2h").await;
    for limit in [1, 7, 119, 120, 1_000_000] {
        assert_eq!(values(&system, &format!("start=-2h&limit={limit}")).await, all, "{limit}");
    }
}

#[tokio::test]
async fn pages_keep_the_range_of_the_first_page() {
    let system = system().await;
    let first = system
        .call(get("/api/devices/a/metrics?start=-1h&metric=voltage_dc&limit=1").at(NOW))
        .await;
    let next = first.next().unwrap().replace("limit=1", "limit=1000");
    let rest = system.call(get(&next).at("2026-03-10T12:50:00Z")).await;
    assert_eq!(
        (first.json()[0]["value"].as_f64(), rest.json().as_array().unwrap().len()),
        (Some(760.0), 59)
    );
}

#[tokio::test]
async fn page_ends_at_the_response_limit_without_losing_points() {
    let system = System::new();
    // The longest names, and a unit whose size doubles when it is escaped.
    let (id, unit) = ("d".repeat(128), "\"".repeat(32));
    let samples: Vec<_> = (0..200)
        .map(|n| json!({"type": format!("{:x>64}", n % 50), "val": n, "unit": unit}))
        .collect();
    for n in 0..100 {
        let ts = format!("2026-03-10T11:{:02}:{:02}Z", n / 60, n % 60);
        system.telemetry(&id, &ts, json!(samples)).await;
    }
    for accept in ["application/json", "text/csv"] {
        let path = format!("/api/devices/{id}/metrics");
        let call = get(&path).at(NOW).header("accept", accept);
        let pages = system.pages(call).await;
        assert!(pages.len() > 1, "{}", pages[0].text().len());
        let mut rows = 0;
        for page in &pages {
            assert!(serde_json::to_string(page.text()).unwrap().len() < 6_000_000);
            rows += match accept {
                "text/csv" => page.text().lines().count() - 1,
                _ => page.json().as_array().unwrap().len(),
            };
        }
        assert_eq!(rows, 20_000, "{accept}");
    }
}

#[tokio::test]
async fn points_are_csv_for_a_client_that_prefers_it() {
    let system = System::new();
    let samples = json!([{"type": "frequency", "val": 50.02}, {"type": "x", "val": 1e21, "unit": "a,\"b\""}, {"type": "battery", "val": 99}]);
    system.telemetry("a", NOW, samples).await;
    let path = "/api/devices/a/metrics?start=2026-03-10T12:00:00Z";
    let answered = system.call(get(path).header("accept", "text/csv")).await;
    assert_eq!(answered.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert_eq!(
        answered.text(),
        "time,device_id,metric,value,unit,quality\r\n\
         2026-03-10T12:00:00Z,a,battery,99.0,V,out_of_range\r\n\
         2026-03-10T12:00:00Z,a,frequency,50.02,Hz,\r\n\
         2026-03-10T12:00:00Z,a,x,1e21,\"a,\"\"b\"\"\",\r\n"
    );
    let empty = system.call(get("/api/devices/b/metrics").header("accept", "text/csv")).await;
    assert_eq!(empty.text(), "time,device_id,metric,value,unit,quality\r\n");
}

#[tokio::test]
async fn invalid_parameter_is_named() {
    let system = System::new();
    for (query, field) in [
        ("start=yesterday", "start"),
        ("stop=1h", "stop"),
        ("start=-1h&stop=-1h", "start"),
        ("start=now()", "start"),
        ("metric=a%20b", "metric"),
        ("limit=0", "limit"),
        ("cursor=AQ", "cursor"),
    ] {
        let answered = system.get(&format!("/api/devices/a/metrics?{query}")).await;
        assert_eq!((answered.status, &answered.json()["field"]), (400, &json!(field)), "{query}");
    }
}

#[tokio::test]
async fn unknown_device_has_no_points() {
    let system = System::new();
    for id in ["nobody", "no.body", "a%2Fb"] {
        assert_eq!(system.json(&format!("/api/devices/{id}/metrics")).await, json!([]));
        assert_eq!(system.json(&format!("/api/devices/{id}/metrics/latest")).await, json!([]));
    }
}

#[tokio::test]
async fn latest_point_is_the_one_with_the_latest_time() {
    let system = System::new();
    system
        .telemetry(
            "a",
            "2026-03-10T12:00:10Z",
            json!([{"type": "battery", "val": 2}, {"type": "pf", "val": 1}]),
        )
        .await;
    // A later message can have an earlier time.
    system.telemetry("a", "2026-03-10T12:00:05Z", json!([{"type": "battery", "val": 1}])).await;
    let latest = system.json("/api/devices/a/metrics/latest").await;
    assert_eq!(
        latest,
        json!([
            {"time": "2026-03-10T12:00:10Z", "device_id": "a", "metric": "battery", "value": 2.0, "unit": "V"},
            {"time": "2026-03-10T12:00:10Z", "device_id": "a", "metric": "pf", "value": 1.0}
        ])
    );
}

async fn windows(system: &System, query: &str) -> Vec<(String, String)> {
    let call = get(&format!("/api/devices/a/metrics?metric=voltage_dc&{query}")).at(NOW);
    let pages = system.pages(call).await;
    let of = |name: &str| -> Vec<String> {
        pages.iter().flat_map(|page| field(page.json().as_array().unwrap(), name)).collect()
    };
    of("time").into_iter().zip(of("value")).collect()
}

#[tokio::test]
async fn windows_have_the_requested_aggregate_and_default_to_the_mean() {
    let system = system().await;
    let range = "start=2026-03-10T11:00:00Z&stop=2026-03-10T12:00:00Z&every=30m";
    let expected = |a: &str, b: &str| {
        [("2026-03-10T11:00:00Z", a), ("2026-03-10T11:30:00Z", b)]
            .map(|(time, value)| (time.to_owned(), value.to_owned()))
    };
    for (aggregate, a, b) in [
        ("", "745.5", "715.5"),
        ("mean", "745.5", "715.5"),
        ("min", "731.0", "701.0"),
        ("max", "760.0", "730.0"),
        ("sum", "22365.0", "21465.0"),
        ("count", "30.0", "30.0"),
        ("first", "760.0", "730.0"),
        ("last", "731.0", "701.0"),
        // A straight line from 760 to 730 over half an hour, and on to 700.
        ("integral", "372.5", "357.5"),
    ] {
        let asked = match aggregate {
            "" => range.to_owned(),
            word => format!("{range}&aggregate={word}"),
        };
        let answered = windows(&system, &asked).await;
        if aggregate == "integral" {
            let sum = |v: &str| v.parse::<f64>().unwrap();
            assert!((sum(&answered[0].1) - sum(a)).abs() < 1e-9, "{answered:?}");
            assert!((sum(&answered[1].1) - sum(b)).abs() < 1e-9, "{answered:?}");
        } else {
            assert_eq!(answered, expected(a, b), "{aggregate}");
        }
    }
    let pages = windows(&system, &format!("{range}&limit=1&aggregate=max")).await;
    assert_eq!(pages, expected("760.0", "730.0"));
}

#[tokio::test]
async fn window_has_the_unit_of_its_points() {
    let system = system().await;
    let path = "/api/devices/a/metrics?metric=voltage_dc&start=2026-03-10T11:00:00Z&stop=2026-03-10T12:00:00Z&every=1h";
    let unit = async |aggregate: &str| {
        system.json(&format!("{path}&aggregate={aggregate}")).await[0]["unit"].clone()
    };
    assert_eq!(unit("max").await, "V");
    assert_eq!(unit("integral").await, "V.h");
    assert_eq!(unit("count").await, json!(null));
    let table =
        system.call(get(&format!("{path}&aggregate=max")).header("accept", "text/csv")).await;
    assert_eq!(
        table.text(),
        "time,device_id,metric,value,unit,quality\r\n2026-03-10T11:00:00Z,a,voltage_dc,760.0,V,\r\n"
    );
}

#[tokio::test]
async fn invalid_window_size_or_aggregate_is_named() {
    let system = System::new();
    for (query, field) in [
        ("every=0s", "every"),
        ("every=5", "every"),
        ("every=5m&aggregate=median", "aggregate"),
        ("aggregate=mean", "every"),
    ] {
        let answered = system.get(&format!("/api/devices/a/metrics?{query}")).await;
        assert_eq!(answered.status, 400, "{query}");
        assert!(answered.text().contains(field), "{query}: {}", answered.text());
    }
}

#[tokio::test]
async fn power_is_derived_from_measurements() {
    let system = System::new();
    let samples = json!([{"type": "voltage_dc", "val": 1_500}, {"type": "current_dc", "val": -20}]);
    system.telemetry("a", NOW, samples).await;
    let latest = system.json("/api/devices/a/metrics/latest").await;
    let power = json!({"time": NOW, "device_id": "a", "metric": "active_power", "value": -30_000.0, "unit": "W"});
    assert_eq!(latest[0], power);
}
