use meter_core::http::testing::{delete, get, post, put};
use meter_core::store::memory::{Fault, Operation};
use serde_json::{Value, json};

use crate::system::{System, device_id, field};

const NOW: &str = "2026-03-10T12:00:00Z";

#[tokio::test]
async fn a_registered_device_is_answered_with_every_field() {
    let system = System::new();
    let body = json!({"device_id": "dc:meter_1", "device_name": "Köln 7", "device_type": "power_meter_dc",
        "location": "Coach 3", "status": "inactive", "metadata": {"a": [1, {"b": null}]}});
    let created = system.call(post("/api/devices").json(&body).at(NOW)).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.header("location"), Some("/api/devices/dc:meter_1"));
    let id = created.json()["id"].clone();
    assert!(id.is_string());
    let wanted = json!({"id": id, "device_id": "dc:meter_1", "device_name": "Köln 7",
        "device_type": "power_meter_dc", "location": "Coach 3", "status": "inactive",
        "connection_status": "unknown", "last_seen": null, "fw_version": null,
        "created_at": NOW, "updated_at": NOW, "metadata": {"a": [1, {"b": null}]}});
    assert_eq!(created.json(), wanted);
    assert_eq!(system.json("/api/devices/dc:meter_1").await, wanted);
    assert_eq!(system.json("/api/devices/dc%3Ameter_1").await, wanted);
    assert_eq!(system.json("/api/devices").await, json!([wanted]));
}

#[tokio::test]
async fn absent_text_is_null_and_a_device_is_active_unless_said_otherwise() {
    let system = System::new();
    let body = json!({"device_id": "a", "device_name": "A", "device_type": null, "colour": "red"});
    let created = system.call(post("/api/devices").json(&body)).await.json();
    for (name, wanted) in [
        ("device_type", json!(null)),
        ("location", json!(null)),
        ("status", json!("active")),
        ("metadata", json!({})),
        ("colour", json!(null)),
    ] {
        assert_eq!(created[name], wanted, "{name}");
    }
}

#[tokio::test]
async fn metadata_may_be_a_string_that_holds_an_object() {
    let system = System::new();
    let body = json!({"device_id": "a", "device_name": "A", "metadata": "{\"owner\": \"SBB\"}"});
    let created = system.call(post("/api/devices").json(&body)).await.json();
    assert_eq!(created["metadata"], json!({"owner": "SBB"}));
    let change = json!({"metadata": "{}"});
    let changed = system.call(put("/api/devices/a").json(&change)).await.json();
    assert_eq!(changed["metadata"], json!({}));
}

#[tokio::test]
async fn a_field_that_is_wrong_is_named() {
    let system = System::new();
    let device = |name: &str, value: Value| {
        let mut body = json!({"device_id": "a", "device_name": "A"});
        body[name] = value;
        body
    };
    let long = "x".repeat(256);
    for (body, field) in [
        (json!({"device_name": "A"}), "device_id"),
        (json!({"device_id": "a"}), "device_name"),
        (device("device_id", json!(7)), "device_id"),
        (device("device_id", json!("")), "device_id"),
        (device("device_id", json!("a/b")), "device_id"),
        (device("device_id", json!("a.b")), "device_id"),
        (device("device_id", json!("x".repeat(129))), "device_id"),
        (device("device_name", json!("")), "device_name"),
        (device("device_name", json!(long)), "device_name"),
        (device("device_name", json!(["A"])), "device_name"),
        (device("device_name", json!(null)), "device_name"),
        (device("device_type", json!(long)), "device_type"),
        (device("device_type", json!(false)), "device_type"),
        (device("location", json!(long)), "location"),
        (device("location", json!({})), "location"),
        (device("status", json!("broken")), "status"),
        (device("status", json!(1)), "status"),
        (device("metadata", json!([])), "metadata"),
        (device("metadata", json!("[]")), "metadata"),
        (device("metadata", json!("{")), "metadata"),
        (device("metadata", json!({"x": "y".repeat(100 * 1024)})), "metadata"),
    ] {
        let answered = system.call(post("/api/devices").json(&body)).await;
        assert_eq!(answered.status, 400, "{body}");
        let problem = answered.json();
        assert_eq!(problem["field"], field, "{problem}");
        assert!(problem["error"].as_str().unwrap().starts_with(&format!("{field}: ")));
    }
    assert_eq!(system.json("/api/devices").await, json!([]));
    // The longest that are allowed, in characters, not in bytes.
    let body = json!({"device_id": "x".repeat(128), "device_name": "ü".repeat(255),
        "device_type": "ü".repeat(255), "location": ""});
    assert_eq!(system.call(post("/api/devices").json(&body)).await.status, 201);
}

#[tokio::test]
async fn a_body_must_be_a_json_object() {
    let system = System::new();
    for (call, status) in [
        (post("/api/devices"), 400),
        (post("/api/devices").body("[1]"), 400),
        (post("/api/devices").body("{\"device_id\""), 400),
        (post("/api/devices").body("{}").header("content-type", "text/plain"), 415),
        (post("/api/devices").body(&"x".repeat(300_000)), 413),
        (put("/api/devices/a"), 400),
    ] {
        let answered = system.call(call).await;
        assert_eq!(answered.status, status, "{}", answered.text());
        assert_eq!(answered.header("content-type"), Some("application/problem+json"));
    }
}

#[tokio::test]
async fn an_id_is_registered_once() {
    let system = System::new();
    system.register("a").await;
    let again = json!({"device_id": "a", "device_name": "Another"});
    let answered = system.call(post("/api/devices").json(&again)).await;
    assert_eq!(answered.status, 409);
    assert_eq!(answered.json()["error"], "device_id: a device with this id exists");
    assert_eq!(system.json("/api/devices/a").await["device_name"], "Meter a");
}

#[tokio::test]
async fn two_that_register_the_same_device_at_once_do_not_both_succeed() {
    let system = System::new();
    let body = json!({"device_id": "a", "device_name": "A"});
    let call = || system.call(post("/api/devices").json(&body));
    let (one, other) = tokio::join!(call(), call());
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
}

#[tokio::test]
async fn what_a_device_said_before_it_was_registered_is_found() {
    let system = System::new();
    let hello = json!({"v": 2, "device_id": "a", "ts": NOW, "seq": 0, "msg_type": "hello",
        "fw_version": "1.2.3", "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0});
    system.receive(&[("iot/a/hello", hello.to_string().into_bytes(), NOW)]).await;
    assert_eq!(system.get("/api/devices/a").await.status, 404);
    let device = system.register("a").await;
    assert_eq!(
        (&device["connection_status"], &device["last_seen"], &device["fw_version"]),
        (&json!("online"), &json!(NOW), &json!("1.2.3"))
    );
}

#[tokio::test]
async fn unknown_devices_are_404() {
    let system = System::new();
    let change = json!({"device_name": "A"});
    for path in ["/api/devices/nobody", "/api/devices/no.name", "/api/devices/a%2Fb"] {
        for call in [get(path), put(path).json(&change), delete(path)] {
            let answered = system.call(call).await;
            assert_eq!(answered.status, 404, "{path}");
            assert_eq!(answered.json()["error"], "Device not found");
        }
    }
}

#[tokio::test]
async fn the_fleet_is_listed_newest_first_in_pages() {
    let system = System::new();
    for n in 0..25 {
        let body = json!({"device_id": format!("m-{n}"), "device_name": "M"});
        let at = format!("2026-03-10T12:00:{n:02}Z");
        system.call(post("/api/devices").json(&body).at(&at)).await;
    }
    let newest_first: Vec<_> = (0..25).rev().map(|n| format!("m-{n}")).collect();
    assert_eq!(field(&system.all("/api/devices").await, "device_id"), newest_first);
    let pages = system.pages(get("/api/devices?limit=10")).await;
    let sizes: Vec<_> = pages.iter().map(|p| p.json().as_array().unwrap().len()).collect();
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(field(&system.all("/api/devices?limit=7").await, "device_id"), newest_first);
}

#[tokio::test]
async fn states_are_joined_a_hundred_at_a_time() {
    let system = System::new();
    for n in 0..201 {
        system.register(&format!("m-{n}")).await;
    }
    system.telemetry("m-0", NOW, json!([{"type": "x", "val": 1}])).await;
    let before = system.memory.calls(Operation::GetStates);
    let online = system.all("/api/devices").await;
    assert_eq!(system.memory.calls(Operation::GetStates) - before, 3);
    let online: Vec<_> = online.iter().filter(|d| d["connection_status"] == "online").collect();
    assert_eq!(field(online, "device_id"), ["m-0"]);
}

#[tokio::test]
async fn filters_select_by_status_type_connection_and_beginning_of_the_id() {
    let system = System::new();
    for (second, id, device_type, status) in [
        (1, "ac-2", json!("ac"), "active"),
        (2, "ac-1", json!("ac"), "inactive"),
        (3, "dc-1", json!("dc"), "active"),
        (4, "dc-2", json!(null), "active"),
    ] {
        let body = json!({"device_id": id, "device_name": "M", "device_type": device_type, "status": status});
        let at = format!("2026-03-10T12:00:0{second}Z");
        assert_eq!(system.call(post("/api/devices").json(&body).at(&at)).await.status, 201);
    }
    system.telemetry("dc-1", NOW, json!([{"type": "pf", "val": 1}])).await;
    for (query, wanted) in [
        ("", &["dc-2", "dc-1", "ac-1", "ac-2"][..]),
        ("status=active", &["dc-2", "dc-1", "ac-2"]),
        ("status=", &["dc-2", "dc-1", "ac-1", "ac-2"]),
        ("type=ac", &["ac-1", "ac-2"]),
        ("type=a", &[]),
        ("connection_status=online", &["dc-1"]),
        ("connection_status=unknown", &["dc-2", "ac-1", "ac-2"]),
        ("q=ac-", &["ac-1", "ac-2"]),
        ("q=dc-2", &["dc-2"]),
        ("q=c-", &[]),
        ("q=a.c", &[]),
        ("q=dc&status=active&connection_status=unknown", &["dc-2"]),
        ("unknown=1", &["dc-2", "dc-1", "ac-1", "ac-2"]),
    ] {
        let found = system.all(&format!("/api/devices?{query}")).await;
        assert_eq!(field(&found, "device_id"), wanted, "{query}");
    }
    let long = "x".repeat(2_000);
    assert_eq!(system.json(&format!("/api/devices?q={long}")).await, json!([]));
    assert_eq!(system.json(&format!("/api/devices?type={long}")).await, json!([]));
    for (query, field) in [
        ("status=on", "status"),
        ("connection_status=yes", "connection_status"),
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("cursor=abc", "cursor"),
    ] {
        let answered = system.get(&format!("/api/devices?{query}")).await;
        assert_eq!((answered.status, &answered.json()["field"]), (400, &json!(field)), "{query}");
    }
}

#[tokio::test]
async fn a_page_under_a_connection_filter_may_be_short_and_still_have_a_next() {
    let system = System::new();
    for n in 0..6 {
        system.register(&format!("m-{n}")).await;
    }
    system.telemetry("m-0", NOW, json!([{"type": "x", "val": 1}])).await;
    let pages = system.pages(get("/api/devices?connection_status=online&limit=2")).await;
    let sizes: Vec<_> = pages.iter().map(|p| p.json().as_array().unwrap().len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 1);
    assert!(sizes.len() == 3 && pages[0].next().is_some());
}

#[tokio::test]
async fn a_cursor_of_another_list_is_refused() {
    let system = System::new();
    for id in ["a", "b", "c"] {
        system.register(id).await;
    }
    let page = system.get("/api/devices?limit=1&status=active").await;
    let next = page.next().unwrap();
    assert_eq!(system.get(next).await.status, 200);
    for foreign in [
        next.replace("status=active", "status=inactive"),
        next.replace("status=active&", ""),
        next.replace("/api/devices", "/api/devices/a/raw-data"),
        format!("{next}A"),
    ] {
        let answered = system.get(&foreign).await;
        assert_eq!(
            (answered.status, &answered.json()["field"]),
            (400, &json!("cursor")),
            "{foreign}"
        );
    }
}

#[tokio::test]
async fn a_fleet_whose_metadata_is_large_comes_in_pages_that_fit_an_answer() {
    let system = System::new();
    for n in 0..120 {
        let body = json!({"device_id": format!("m-{n}"), "device_name": "M", "metadata": {"x": "y".repeat(99_000)}});
        assert_eq!(system.call(post("/api/devices").json(&body)).await.status, 201);
    }
    let pages = system.pages(get("/api/devices")).await;
    assert!(pages.len() > 2 && pages.iter().all(|page| page.text().len() < 6_000_000));
    let ids: Vec<_> =
        pages.iter().flat_map(|p| field(p.json().as_array().unwrap(), "device_id")).collect();
    assert_eq!(ids.len(), 120);
}

#[tokio::test]
async fn an_update_changes_what_is_given_and_nothing_else() {
    let system = System::new();
    let before = system.register("a").await;
    let change =
        json!({"location": "Depot", "status": "inactive", "device_id": "other", "id": "other"});
    let later = "2027-01-15T09:00:00Z";
    let changed = system.call(put("/api/devices/a").json(&change).at(later)).await;
    assert_eq!(changed.status, 200);
    let mut wanted = before;
    wanted["location"] = json!("Depot");
    wanted["status"] = json!("inactive");
    wanted["updated_at"] = json!(later);
    assert_eq!(changed.json(), wanted);
    assert_eq!(system.json("/api/devices/a").await, wanted);
    let null = json!({"location": null, "metadata": null});
    let changed = system.call(put("/api/devices/a").json(&null)).await.json();
    assert_eq!((&changed["location"], &changed["metadata"]), (&json!(null), &json!({})));
}

#[tokio::test]
async fn an_update_that_gives_nothing_or_nonsense_is_refused() {
    let system = System::new();
    let before = system.register("a").await;
    for (body, field) in [
        (json!({}), "body"),
        (json!({"colour": "red"}), "body"),
        (json!({"device_name": ""}), "device_name"),
        (json!({"device_name": null}), "device_name"),
        (json!({"status": null}), "status"),
        (json!({"status": "off"}), "status"),
        (json!({"device_type": 1}), "device_type"),
        (json!({"metadata": 1}), "metadata"),
    ] {
        let answered = system.call(put("/api/devices/a").json(&body)).await;
        assert_eq!((answered.status, &answered.json()["field"]), (400, &json!(field)), "{body}");
    }
    assert_eq!(system.json("/api/devices/a").await, before);
}

#[tokio::test]
async fn of_two_updates_at_once_both_are_made() {
    let system = System::new();
    system.register("a").await;
    let change = |body: Value| system.call(put("/api/devices/a").json(&body));
    let (one, other) =
        tokio::join!(change(json!({"location": "L"})), change(json!({"device_type": "T"})));
    assert_eq!((one.status, other.status), (200, 200));
    let device = system.json("/api/devices/a").await;
    assert_eq!((&device["location"], &device["device_type"]), (&json!("L"), &json!("T")));
}

#[tokio::test]
async fn a_client_that_has_the_device_already_is_told_so() {
    let system = System::new();
    system.register("a").await;
    let etag = system.get("/api/devices/a").await.header("etag").unwrap().to_owned();
    let again = || get("/api/devices/a").header("if-none-match", &etag);
    assert_eq!(system.call(again()).await.status, 304);
    system.call(post("/api/devices/a/heartbeat")).await;
    let answered = system.call(again()).await;
    assert_eq!((answered.status, &answered.json()["connection_status"]), (200, &json!("online")));
}

/// A device with more alerts and commands than one sweep takes.
async fn device_with_much(system: &System) {
    system.register("a").await;
    for n in 0..30 {
        let at = format!("2026-03-10T12:{n:02}:00Z");
        let reboot = post("/api/devices/a/commands").json(&json!({"cmd": "reboot"}));
        assert_eq!(system.call(reboot.at(&at)).await.status, 201);
        for status in ["online", "offline"] {
            let body = json!({"connection_status": status});
            system.call(put("/api/devices/a/status").json(&body).at(&at)).await;
        }
    }
    assert!(!system.memory.alerts(&device_id("a")).is_empty());
    system.telemetry("a", NOW, json!([{"type": "pf", "val": 1}])).await;
}

#[tokio::test]
async fn a_delete_takes_alerts_commands_and_configuration_along_and_leaves_the_data() {
    let system = System::new();
    device_with_much(&system).await;
    let config = json!({"send_interval_s": 5});
    assert_eq!(system.call(put("/api/devices/a/config").json(&config)).await.status, 200);

    let deleted = system.call(delete("/api/devices/a")).await;
    assert_eq!(
        (deleted.status, deleted.json()),
        (200, json!({"message": "Device deleted successfully"}))
    );
    for path in ["/api/devices/a", "/api/devices/a/status", "/api/devices/a/config"] {
        assert_eq!(system.get(path).await.status, 404, "{path}");
    }
    assert_eq!(system.json("/api/devices").await, json!([]));
    assert_eq!(system.json("/api/devices/a/commands").await, json!([]));
    assert_eq!(system.memory.alerts(&device_id("a")), []);
    assert_eq!(system.all("/api/devices/a/raw-data").await.len(), 1);
    assert_eq!(system.all("/api/devices/a/metrics?start=2026-01-01T00:00:00Z").await.len(), 1);
    assert_eq!(system.call(delete("/api/devices/a")).await.status, 404);

    let first = system.register("a").await;
    assert_eq!(system.json("/api/devices/a/config").await, json!({}));
    system.call(delete("/api/devices/a")).await;
    assert_ne!(system.register("a").await["id"], first["id"]);
}

#[tokio::test]
async fn a_delete_that_ended_half_way_is_finished_by_the_next_one() {
    for operation in [Operation::SweepAlerts, Operation::SweepCommands, Operation::ForgetDevice] {
        let system = System::new();
        device_with_much(&system).await;
        system.memory.fail_next(operation, Fault::Refuse);
        assert_eq!(system.call(delete("/api/devices/a")).await.status, 503);
        assert_eq!(system.get("/api/devices/a").await.status, 404);
        assert_eq!(system.call(delete("/api/devices/a")).await.status, 200, "{operation:?}");
        assert_eq!(system.json("/api/devices/a/commands").await, json!([]));
        assert_eq!(system.memory.alerts(&device_id("a")), []);
        assert_eq!(system.call(delete("/api/devices/a")).await.status, 404);
    }
}

#[tokio::test]
async fn registering_again_finishes_a_delete_that_ended_half_way() {
    let system = System::new();
    device_with_much(&system).await;
    system.memory.fail_next(Operation::SweepCommands, Fault::Refuse);
    assert_eq!(system.call(delete("/api/devices/a")).await.status, 503);
    system.register("a").await;
    assert_eq!(system.json("/api/devices/a/commands").await, json!([]));
    assert_eq!(system.memory.alerts(&device_id("a")), []);
}

#[tokio::test]
async fn a_delete_meets_telemetry_and_both_get_their_way() {
    let system = System::new();
    system.register("a").await;
    let deletes = async {
        assert_eq!(system.call(delete("/api/devices/a")).await.status, 200);
    };
    let sends = async {
        for n in 0..20 {
            system
                .telemetry(
                    "a",
                    &format!("2026-03-10T12:00:{n:02}Z"),
                    json!([{"type": "x", "val": 1}]),
                )
                .await;
        }
    };
    tokio::join!(sends, deletes);
    assert_eq!(system.get("/api/devices/a").await.status, 404);
    assert_eq!(system.all("/api/devices/a/raw-data").await.len(), 20);
}
