"""A scenario in which each function makes every kind of call."""

from datetime import datetime, timedelta, timezone

from environment import Environment


def run(environment: Environment) -> None:
    _registry(environment)
    _fleet_provisioning(environment)
    _telemetry(environment)
    _commands(environment)
    _rollups(environment)
    _read_data(environment)
    _timestream(environment)
    _alerts(environment)
    _rules(environment)
    _offline_detection(environment)
    _interrupted_effects(environment)
    _deletes(environment)
    _recount(environment)


def _timestamp(ago_s: int = 0) -> str:
    return (datetime.now(timezone.utc) - timedelta(seconds=ago_s)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _register(environment: Environment, device: str) -> None:
    status, body = environment.rest("devices", "POST", "/api/devices", {"device_id": device, "device_name": device})
    assert status == 201, body


def _telemetry_message(device: str, seq: int, ago_s: int = 0, **fields) -> dict:
    sample = {"type": "voltage_dc", "val": 1500.0 + seq, "unit": "V"}
    envelope = {"v": 2, "device_id": device, "ts": _timestamp(ago_s), "seq": seq, "boot": "b", "msg_type": "telemetry"}
    return envelope | {"measurements": [sample]} | fields


def _status_message(device: str, status: str, ago_s: int = 0) -> dict:
    return {"v": 2, "device_id": device, "ts": _timestamp(ago_s), "status": status}


def _registry(environment: Environment) -> None:
    for device in ("a", "b", "c"):
        _register(environment, device)
    environment.rest("devices", "POST", "/api/devices", {"device_id": "a", "device_name": "again"})
    environment.rest("devices", "PUT", "/api/devices/a", {"location": "shed"})
    environment.rest("devices", "PUT", "/api/devices/a", {"status": "inactive"})
    environment.rest("devices", "PUT", "/api/devices/a", {"status": "active"})
    environment.rest("devices", "GET", "/api/devices/a")
    environment.rest("devices", "GET", "/api/devices")
    environment.rest("devices", "GET", "/api/devices", q="a")
    environment.rest("devices", "GET", "/api/devices", connection_status="online")
    environment.rest("devices", "PUT", "/api/devices/a/config", {"send_interval_s": 5})
    environment.rest("devices", "GET", "/api/devices/a/config")
    environment.rest("devices", "POST", "/api/devices/a/heartbeat")
    environment.rest("devices", "PUT", "/api/devices/a/status", {"connection_status": "offline", "fw_version": "1.0.0"})
    environment.rest("devices", "GET", "/api/devices/a/status")


def _fleet_provisioning(environment: Environment) -> None:
    body = {"device_id": "claimed", "device_name": "claimed", "claimable": True}
    status, answer = environment.rest("devices", "POST", "/api/devices", body)
    assert status == 201, answer
    for certificate, allowed in (("a" * 64, True), ("b" * 64, False)):
        assert environment.invoke_provisioning("claimed", certificate) == {"allowProvisioning": allowed}


def _telemetry(environment: Environment) -> None:
    for seq in (0, 1, 3):
        assert environment.publish("a", "telemetry", _telemetry_message("a", seq))
    assert environment.publish("b", "telemetry", _telemetry_message("b", 0))
    assert environment.publish("a", "telemetry", b"no JSON")
    hello = {"fw_version": "1.0.0", "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0}
    envelope = {"v": 2, "device_id": "a", "ts": _timestamp(), "seq": 4, "boot": "b", "msg_type": "hello"}
    assert environment.publish("a", "hello", envelope | hello)
    # Offline, online within the hold-down, offline: an alert is raised, resolved and reopened.
    for status, ago_s in (("online", 100), ("offline", 90), ("online", 80), ("offline", 70), ("online", 60)):
        assert environment.publish("c", "status", _status_message("c", status, ago_s), ago_s)
    # A batch of new and existing devices, archived in one object.
    for seq in (20, 21):
        assert environment.publish_all([(device, "telemetry", _telemetry_message(device, seq)) for device in ("b", "u", "v")])
    message_layout = environment.start("ingest", ARCHIVE_LAYOUT="message")
    assert environment.publish("b", "telemetry", _telemetry_message("b", 22), ingest=message_layout)


def _send_command(environment: Environment, device: str, command: str, params: dict | None = None, **headers) -> dict:
    body = {"cmd": command} | ({"params": params} if params else {})
    status, answer = environment.rest("devices", "POST", f"/api/devices/{device}/commands", body, headers)
    assert status in (201, 202), answer
    return answer


def _acknowledge(environment: Environment, device: str, command: dict, seq: int) -> None:
    ack = {"cmd_id": command["cmd_id"], "result": "accepted", "msg_type": "command_ack", "seq": seq, "boot": "b"}
    assert environment.publish(device, "command/ack", {"v": 2, "device_id": device, "ts": _timestamp()} | ack)


def _commands(environment: Environment) -> None:
    key = {"idempotency-key": "once"}
    first = _send_command(environment, "a", "update_config", {"send_interval_s": 10}, **key)
    assert _send_command(environment, "a", "update_config", {"send_interval_s": 10}, **key)["cmd_id"] == first["cmd_id"]
    _acknowledge(environment, "a", first, 5)
    by_rest = _send_command(environment, "a", "update_config", {"send_interval_s": 20})
    environment.rest("devices", "PUT", f"/api/commands/{by_rest['cmd_id']}/ack", {"result": "accepted"})
    firmware = {"fw_version": "2.0.0", "fw_url": "https://x.example/f", "fw_sha256": "0" * 64, "fw_size_bytes": 1}
    upgrade = _send_command(environment, "a", "start_ota", firmware)
    _acknowledge(environment, "a", upgrade, 6)
    for seq, state in enumerate(("downloading", "success"), 7):
        status = {"cmd_id": upgrade["cmd_id"], "ota_state": state, "msg_type": "ota_status", "seq": seq, "boot": "b"}
        assert environment.publish("a", "ota/status", {"v": 2, "device_id": "a", "ts": _timestamp()} | status)
    hello = {"fw_version": "2.0.0", "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0}
    envelope = {"v": 2, "device_id": "a", "ts": _timestamp(), "seq": 9, "boot": "b", "msg_type": "hello"}
    assert environment.publish("a", "hello", envelope | hello)
    # A command for an offline device, which ingest publishes again when the device is online.
    environment.rest("devices", "PUT", "/api/devices/b/status", {"connection_status": "offline"})
    without_timeout = environment.start("devices", COMMAND_TIMEOUT_S="600")
    environment.rest_with(without_timeout, "POST", "/api/devices/b/commands", {"cmd": "request_status"})
    assert environment.publish("b", "status", _status_message("b", "online"))
    environment.rest("devices", "GET", "/api/devices/a/commands")
    environment.rest("devices", "GET", "/api/devices/a/commands", status="accepted")
    # A command without an acknowledgement, and one that the broker rejects at first.
    _send_command(environment, "c", "reboot")
    with environment.recorders["devices"].denying("iot:Publish"):
        environment.rest_with(without_timeout, "POST", "/api/devices/c/commands", {"cmd": "request_status"})
    environment.make_all_due("CommandsTableName")
    environment.invoke_watchdog()


def _read_data(environment: Environment) -> None:
    for path in ("metrics", "metrics/latest", "raw-data"):
        environment.rest("devices", "GET", f"/api/devices/a/{path}")
    for device in ("a", "b"):
        _, files = environment.rest("devices", "GET", f"/api/devices/{device}/raw-data")
        for file in files:
            environment.rest("devices", "GET", f"/api/devices/{device}/raw-data/{file['filename'].split('/', 1)[1]}")
    environment.rest("devices", "GET", "/api/devices/a/raw-data", None, {"accept": "application/x-ndjson"})
    _, quarantined = environment.rest("devices", "GET", "/api/quarantine")
    environment.rest("devices", "GET", f"/api/quarantine/{quarantined[0]['id']}")
    # Objects that the lifecycle rule of the bucket has removed.
    environment.delete_archive_objects("quarantine/")
    environment.rest("devices", "GET", f"/api/quarantine/{quarantined[0]['id']}")
    for path in ("/health", "/readyz", "/api/stats"):
        status, body = environment.rest("stats", "GET", path)
        assert status == 200, body


def _rollups(environment: Environment) -> None:
    # A past hour whose pending rollup is due.
    assert environment.publish("rolled", "telemetry", _telemetry_message("rolled", 0, 9_000), ago_s=3_000)
    environment.make_all_due("StateTableName")
    environment.invoke_watchdog()
    status, windows = environment.rest("devices", "GET", "/api/devices/rolled/metrics", start="-1d", every="1h")
    assert status == 200 and len(windows) == 1, windows


def _timestream(environment: Environment) -> None:
    """Metrics in Timestream, all other data in the same stores."""
    ingest, devices = (environment.start_with_timestream(name) for name in ("ingest", "devices"))
    for seq in (0, 1):
        assert environment.publish("t", "telemetry", _telemetry_message("t", seq), ingest=ingest)
    for query in ({}, {"metric": "voltage_dc"}, {"every": "1m"}):
        status, found = environment.rest_with(devices, "GET", "/api/devices/t/metrics", start="-1h", **query)
        assert status == 200 and found, found
    status, found = environment.rest_with(devices, "GET", "/api/devices/t/metrics/latest")
    assert status == 200 and found, found
    environment.rest_with(devices, "DELETE", "/api/devices/t", purge="true")


def _alerts(environment: Environment) -> None:
    key = {"idempotency-key": "once"}
    _, alert = environment.rest("alerts", "POST", "/api/devices/a/alerts", {"message": "manual"}, key)
    environment.rest("alerts", "POST", "/api/devices/a/alerts", {"message": "manual"}, key)
    environment.rest("alerts", "POST", "/api/devices/unknown/alerts", {})
    environment.rest("alerts", "GET", "/api/devices/a/alerts")
    environment.rest("alerts", "GET", "/api/alerts")
    environment.rest("alerts", "GET", "/api/alerts", acknowledged="false")
    status, body = environment.rest("alerts", "POST", f"/api/alerts/{alert['id']}/acknowledge")
    assert status == 200, body


def _rules(environment: Environment) -> None:
    limit = {"name": "high", "metric": "voltage_dc", "operator": ">", "threshold": 1000}
    status, rule = environment.rest("alerts", "POST", "/api/alert-rules", limit)
    assert status == 201, rule
    path = f"/api/alert-rules/{rule['rule_id']}"
    environment.rest("alerts", "PUT", path, limit | {"threshold": 1100})
    environment.rest("alerts", "GET", path)
    environment.rest("alerts", "GET", "/api/alert-rules")
    status, test = environment.rest("alerts", "POST", f"{path}/test", {"device_id": "a"})
    assert status == 200 and test["events"], test
    # A new process loads the rule, and evaluates only samples after the first one.
    with_rule = environment.start("ingest", RULE_CACHE_TTL_S="1")
    assert environment.publish("a", "telemetry", _telemetry_message("a", 30), ingest=with_rule)
    # A status update over REST resolves and raises alerts as well.
    for connection in ("online", "offline"):
        environment.rest("devices", "PUT", "/api/devices/a/status", {"connection_status": connection})
    environment.rest("devices", "PUT", "/api/devices/a", {"device_type": "meter"})
    environment.rest("alerts", "DELETE", path)


def _offline_detection(environment: Environment) -> None:
    _register(environment, "silent")
    environment.publish("silent", "telemetry", _telemetry_message("silent", 0, 600), ago_s=600)
    # A gap after its grace period.
    environment.publish("silent", "telemetry", _telemetry_message("silent", 5, 500), ago_s=500)
    environment.make_all_due("StateTableName")
    environment.invoke_watchdog()
    # Online: the alert is resolved. Silent again within the hold-down: the watchdog reopens it.
    environment.publish("silent", "telemetry", _telemetry_message("silent", 6, 290), ago_s=290)
    environment.make_all_due("StateTableName")
    environment.invoke_watchdog()


def _interrupted_effects(environment: Environment) -> None:
    """Effects that failed, or whose response was lost, are executed by the next invocation."""
    ingest, devices = environment.recorders["ingest"], environment.recorders["devices"]
    for device in ("half", "lost", "found"):
        _register(environment, device)
        environment.publish(device, "status", _status_message(device, "online", 50), ago_s=50)
    accepted = _send_command(environment, "half", "update_config", {"send_interval_s": 30})
    with ingest.denying("dynamodb:GetItem", "dynamodb:UpdateItem", on="CommandsTable"):
        ack = {"cmd_id": accepted["cmd_id"], "result": "accepted", "msg_type": "command_ack", "seq": 1}
        environment.publish("half", "command/ack", {"v": 2, "device_id": "half", "ts": _timestamp()} | ack)
    with ingest.denying("dynamodb:PutItem", on="AlertsTable"):
        environment.publish("half", "status", _status_message("half", "offline"))
    environment.make_all_due("StateTableName")
    environment.invoke_watchdog()
    with ingest.dropping_responses("dynamodb:PutItem", on="AlertsTable"):
        environment.publish("lost", "status", _status_message("lost", "offline"))
    environment.publish("lost", "telemetry", _telemetry_message("lost", 1))
    with devices.dropping_responses("dynamodb:PutItem", on="AlertsTable"):
        environment.rest("devices", "PUT", "/api/devices/found/status", {"connection_status": "offline"})
    environment.rest("devices", "PUT", "/api/devices/found/status", {"connection_status": "online"})


def _deletes(environment: Environment) -> None:
    environment.rest("devices", "DELETE", "/api/devices/a")
    # The messages of b are in shared objects and in objects of their own.
    status, body = environment.rest("devices", "DELETE", "/api/devices/b", purge="true")
    assert status == 202, body
    # Deletions that the devices function starts and the watchdog completes.
    for device in ("c", "silent", "half", "lost"):
        assert environment.publish_all([(name, "telemetry", _telemetry_message(name, 90)) for name in (device, "u")])
        _, alert = environment.rest("alerts", "POST", f"/api/devices/{device}/alerts", {}, {"idempotency-key": "again"})
        environment.rest("alerts", "POST", f"/api/alerts/{alert['id']}/acknowledge")
        _send_command(environment, device, "request_status")
    message_layout = environment.start("ingest", ARCHIVE_LAYOUT="message")
    assert environment.publish("half", "telemetry", _telemetry_message("half", 91), ingest=message_layout)
    for device, query in (("c", {}), ("silent", {"purge": "true"}), ("half", {"purge": "true"})):
        with environment.recorders["devices"].denying("dynamodb:DeleteItem", "dynamodb:BatchWriteItem"):
            environment.rest("devices", "DELETE", f"/api/devices/{device}", **query)
    environment.make_all_due("StateTableName")
    environment.invoke_watchdog()
    # Objects that the lifecycle rule of the bucket has removed.
    environment.delete_archive_objects("archive/")
    with environment.recorders["devices"].denying("dynamodb:DeleteItem", "dynamodb:BatchWriteItem"):
        environment.rest("devices", "DELETE", "/api/devices/lost", purge="true")
    environment.make_all_due("StateTableName")
    environment.invoke_watchdog()


def _recount(environment: Environment) -> None:
    environment.rest("stats", "GET", "/api/stats")
    environment.invoke_watchdog(recount=True)
