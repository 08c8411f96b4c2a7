use meter_testing::http::{TestRequest, TestResponse, get, post, put};
use meter_testing::memory::{Fault, Operation};
use serde_json::{Value, json};

use crate::system::{System, device_id, field};

const NOW: &str = "2026-03-10T12:00:00Z";
const COMMANDS: &str = "/api/devices/a/commands";

async fn system() -> System {
    let system = System::new();
    system.register("a").await;
    system
}

fn command_request(body: &Value) -> TestRequest {
    post(COMMANDS).json(body).at(NOW)
}

async fn create_command(system: &System, body: Value) -> Value {
    let answered = system.call(command_request(&body)).await;
    assert_eq!(answered.status, 201, "{}", answered.text());
    answered.json()
}

async fn acknowledge(system: &System, cmd_id: &Value, body: &Value) -> TestResponse {
    let path = format!("/api/commands/{}/ack", cmd_id.as_str().unwrap());
    system.call(put(&path).json(body).at("2026-03-10T12:00:03Z")).await
}

#[tokio::test]
async fn command_is_stored_and_published_in_the_format_of_the_protocol() {
    let system = system().await;
    let params = json!({"send_interval_s": 5, "brokers": [{"host": "b", "port": 1883}]});
    let receipt = create_command(&system, json!({"cmd": "update_config", "params": params})).await;
    let cmd_id = &receipt["cmd_id"];
    assert_eq!(
        receipt,
        json!({"cmd_id": cmd_id, "device_id": "a", "cmd": "update_config", "status": "pending",
            "message": "Command sent"})
    );
    let published = system.memory.published();
    assert_eq!(published.len(), 1);
    let (device, payload) = &published[0];
    assert_eq!(*device, device_id("a"));
    assert_eq!(
        serde_json::from_slice::<Value>(payload).unwrap(),
        json!({"v": 2, "cmd_id": cmd_id, "ts": NOW, "expires_at": "2026-03-10T12:05:00Z",
            "cmd": "update_config", "params": params})
    );
    assert_eq!(
        system.json(COMMANDS).await,
        json!([{"cmd_id": cmd_id, "device_id": "a", "cmd": "update_config", "params": params,
            "status": "pending", "ack_detail": null, "created_at": NOW, "acked_at": null}])
    );
}

#[tokio::test]
async fn command_without_parameters_accepts_none() {
    let system = system().await;
    for body in [
        json!({"cmd": "reboot"}),
        json!({"cmd": "factory_reset", "params": null}),
        json!({"cmd": "request_status", "params": {}}),
    ] {
        create_command(&system, body).await;
    }
    assert_eq!(system.memory.published().len(), 3);
}

#[tokio::test]
async fn invalid_command_is_named_and_not_published() {
    let system = system().await;
    for (body, field) in [
        (json!({}), "cmd"),
        (json!({"cmd": "explode"}), "cmd"),
        (json!({"cmd": 7}), "cmd"),
        (json!({"cmd": "reboot", "params": []}), "params"),
        (json!({"cmd": "reboot", "params": {"now": true}}), "params.now"),
        (json!({"cmd": "update_config"}), "params"),
        (
            json!({"cmd": "update_config", "params": {"send_interval_s": 0}}),
            "params.send_interval_s",
        ),
        (json!({"cmd": "start_ota", "params": {"fw_version": "1.0.0"}}), "params.fw_url"),
    ] {
        let answered = system.call(command_request(&body)).await;
        assert_eq!((answered.status, &answered.json()["field"]), (400, &json!(field)), "{body}");
    }
    assert_eq!(system.memory.published(), []);
    assert_eq!(system.json(COMMANDS).await, json!([]));
}

#[tokio::test]
async fn command_to_an_unregistered_device_is_404() {
    let system = system().await;
    for path in ["/api/devices/nobody/commands", "/api/devices/no.body/commands"] {
        let answered = system.call(post(path).json(&json!({"cmd": "reboot"}))).await;
        assert_eq!(answered.status, 404);
        assert_eq!(system.json(path).await, json!([]));
    }
    assert_eq!(system.memory.published(), []);
}

#[tokio::test]
async fn command_whose_publication_fails_is_stored() {
    let system = system().await;
    system.memory.fail_next(Operation::PublishCommand, Fault::Reject);
    let answered = system.call(command_request(&json!({"cmd": "reboot"}))).await;
    assert_eq!(answered.status, 202);
    let receipt = answered.json();
    assert_eq!(receipt["status"], "pending");
    assert_eq!(receipt["mqtt_error"], "the broker did not accept it");
    assert!(!answered.text().contains("test wants"));
    assert_eq!(field(system.json(COMMANDS).await.as_array().unwrap(), "status"), ["pending"]);
}

#[tokio::test]
async fn repeated_key_returns_the_first_response_and_publishes_once() {
    let system = system().await;
    let again = || command_request(&json!({"cmd": "reboot"})).header("idempotency-key", "k-1");
    let first = system.call(again()).await;
    let accepted = json!({"result": "accepted"});
    assert_eq!(acknowledge(&system, &first.json()["cmd_id"], &accepted).await.status, 200);
    let second = system.call(again().at("2026-03-11T11:59:59Z")).await;
    assert_eq!((second.status, second.json()), (first.status, first.json()));
    assert_eq!(system.memory.published().len(), 1);

    let another =
        command_request(&json!({"cmd": "factory_reset"})).header("idempotency-key", "k-1");
    let refused = system.call(another).await;
    assert_eq!((refused.status, &refused.json()["field"]), (422, &json!("Idempotency-Key")));
    assert_eq!(system.memory.published().len(), 1);

    let other_key = command_request(&json!({"cmd": "reboot"})).header("idempotency-key", "k-2");
    assert_ne!(system.call(other_key).await.json()["cmd_id"], first.json()["cmd_id"]);
    let next_day = system.call(again().at("2026-03-11T12:00:01Z")).await;
    assert_ne!(next_day.json()["cmd_id"], first.json()["cmd_id"]);
}

#[tokio::test]
async fn repeated_key_publishes_an_unpublished_command_until_it_expires() {
    let system = system().await;
    let again =
        |at: &str| command_request(&json!({"cmd": "reboot"})).header("idempotency-key", "k").at(at);
    system.memory.fail_always(Operation::PublishCommand);
    let first = system.call(again(NOW)).await;
    assert_eq!(first.status, 202);
    let expired = system.call(again("2026-03-10T12:05:00Z")).await;
    assert_eq!(expired.json()["mqtt_error"], "it expired before it could be published");
    system.memory.clear_faults();
    let second = system.call(again("2026-03-10T12:04:59Z")).await;
    assert_eq!((second.status, &second.json()["cmd_id"]), (201, &first.json()["cmd_id"]));
    assert_eq!(system.memory.published().len(), 1);
    // The publication is recorded now, also after the expiry.
    assert_eq!(system.call(again("2026-03-10T13:00:00Z")).await.status, 201);
    assert_eq!(system.memory.published().len(), 1);
}

#[tokio::test]
async fn publication_that_is_not_recorded_counts() {
    let system = system().await;
    system.memory.fail_next(Operation::MarkPublished, Fault::Reject);
    create_command(&system, json!({"cmd": "request_status"})).await;
    assert_eq!(system.memory.published().len(), 1);
}

#[tokio::test]
async fn reboot_with_unknown_outcome_is_not_published_again() {
    let system = system().await;
    let again = || command_request(&json!({"cmd": "reboot"})).header("idempotency-key", "k");
    system.memory.fail_next(Operation::PublishCommand, Fault::LoseResponse);
    let first = system.call(again()).await;
    assert_eq!(first.status, 202);
    let reason = first.json()["mqtt_error"].clone();
    assert_eq!(reason, "it is unknown whether the broker accepted it; it is not sent twice");
    assert_eq!(system.call(again()).await.json()["cmd_id"], first.json()["cmd_id"]);
    assert_eq!(system.memory.published().len(), 1);
}

#[tokio::test]
async fn reboot_that_cannot_be_claimed_is_not_published() {
    for fault in [Fault::Reject, Fault::LoseResponse] {
        let system = system().await;
        system.memory.fail_next(Operation::ClaimCommand, fault);
        let answered = system.call(command_request(&json!({"cmd": "reboot"}))).await;
        assert_eq!(answered.status, 503, "{}", answered.text());
        assert_eq!(system.memory.published(), []);
    }
}

#[tokio::test]
async fn invalid_key_is_refused() {
    let system = system().await;
    for key in ["", "a b", &"x".repeat(256)] {
        let answered = system
            .call(command_request(&json!({"cmd": "reboot"})).header("idempotency-key", key))
            .await;
        assert_eq!(answered.status, 400, "{key}");
    }
    assert_eq!(system.memory.published(), []);
}

#[tokio::test]
async fn first_acknowledgement_finishes_the_command() {
    let system = system().await;
    let body = json!({"cmd": "update_config", "params": {"send_interval_s": 5}});
    let cmd_id = create_command(&system, body).await["cmd_id"].clone();
    let answered =
        acknowledge(&system, &cmd_id, &json!({"result": "accepted", "detail": "done"})).await;
    let wanted = json!({"cmd_id": cmd_id, "device_id": "a", "cmd": "update_config",
        "params": {"send_interval_s": 5}, "status": "accepted", "ack_detail": "done",
        "created_at": NOW, "acked_at": "2026-03-10T12:00:03Z"});
    assert_eq!((answered.status, answered.json()), (200, wanted.clone()));
    let late = acknowledge(&system, &cmd_id, &json!({"result": "rejected"})).await;
    assert_eq!((late.status, late.json()), (200, wanted));
    assert_eq!(system.json("/api/devices/a/config").await, json!({"send_interval_s": 5}));
}

#[tokio::test]
async fn rejected_configuration_is_not_stored() {
    let system = system().await;
    let body = json!({"cmd": "update_config", "params": {"send_interval_s": 5}});
    let cmd_id = create_command(&system, body).await["cmd_id"].clone();
    let answered =
        acknowledge(&system, &cmd_id, &json!({"result": "rejected", "detail": null})).await;
    assert_eq!(
        (&answered.json()["status"], &answered.json()["ack_detail"]),
        (&json!("rejected"), &json!(null))
    );
    assert_eq!(system.json("/api/devices/a/config").await, json!({}));
}

#[tokio::test]
async fn invalid_acknowledgement_is_refused() {
    let system = system().await;
    let cmd_id = create_command(&system, json!({"cmd": "reboot"})).await["cmd_id"].clone();
    for (body, field) in [
        (json!({}), "result"),
        (json!({"result": "done"}), "result"),
        (json!({"result": 1}), "result"),
        (json!({"result": "error", "detail": 1}), "detail"),
        (json!({"result": "error", "detail": "x".repeat(1_025)}), "detail"),
    ] {
        let answered = acknowledge(&system, &cmd_id, &body).await;
        assert_eq!((answered.status, &answered.json()["field"]), (400, &json!(field)), "{body}");
    }
    for unknown in [json!("nonsense"), json!("018f0000-0000-7000-8000-000000000000")] {
        assert_eq!(
            acknowledge(&system, &unknown, &json!({"result": "accepted"})).await.status,
            404
        );
    }
}

#[tokio::test]
async fn commands_are_listed_newest_first_by_status_in_pages() {
    let system = system().await;
    for n in 0..5 {
        let call =
            command_request(&json!({"cmd": "reboot"})).at(&format!("2026-03-10T12:00:0{n}Z"));
        let cmd_id = system.call(call).await.json()["cmd_id"].clone();
        if n % 2 == 0 {
            acknowledge(&system, &cmd_id, &json!({"result": "unsupported"})).await;
        }
    }
    let seconds =
        |items: Vec<Value>| field(&items, "created_at").concat().replace("2026-03-10T12:00:0", "");
    assert_eq!(seconds(system.all(COMMANDS).await), "4Z3Z2Z1Z0Z");
    assert_eq!(seconds(system.all(&format!("{COMMANDS}?limit=2")).await), "4Z3Z2Z1Z0Z");
    assert_eq!(seconds(system.all(&format!("{COMMANDS}?status=unsupported")).await), "4Z2Z0Z");
    assert_eq!(seconds(system.all(&format!("{COMMANDS}?status=pending&limit=1")).await), "3Z1Z");
    assert!(system.all(&format!("{COMMANDS}?status=timeout")).await.is_empty());
    assert_eq!(system.call(get(&format!("{COMMANDS}?status=done"))).await.status, 400);
}

#[tokio::test]
async fn command_contains_the_progress_of_an_upgrade() {
    let system = system().await;
    let params = json!({"fw_version": "2.0.0", "fw_url": "https://fw.example/a.bin",
        "fw_sha256": "0".repeat(64), "fw_size_bytes": 1_000});
    let cmd_id =
        create_command(&system, json!({"cmd": "start_ota", "params": params})).await["cmd_id"]
            .clone();
    let status = json!({"v": 2, "device_id": "a", "ts": NOW, "seq": 1, "msg_type": "ota_status",
        "cmd_id": cmd_id, "ota_state": "downloading", "progress_pct": 40, "fw_version_target": "2.0.0"});
    system.receive(&[("iot/a/ota/status", status.to_string().into_bytes(), NOW)]).await;
    let command = &system.json(COMMANDS).await[0];
    assert_eq!(
        command["ota"],
        json!({"state": "downloading", "progress_pct": 40.0, "fw_version_target": "2.0.0",
            "detail": null, "updated_at": NOW})
    );
}
