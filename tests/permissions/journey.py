"""The life of a fleet, in which every function does everything that it ever does."""

from datetime import datetime, timedelta, timezone

from world import World


def play(world: World) -> None:
    _registry(world)
    _claims(world)
    _telemetry(world)
    _commands(world)
    _rollups(world)
    _reading(world)
    _timestream(world)
    _alerts(world)
    _rules(world)
    _silence(world)
    _left_half_done(world)
    _deletes(world)
    _recount(world)


def _when(ago_s: int = 0) -> str:
    return (datetime.now(timezone.utc) - timedelta(seconds=ago_s)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _register(world: World, device: str) -> None:
    status, body = world.rest("devices", "POST", "/api/devices", {"device_id": device, "device_name": device})
    assert status == 201, body


def _telemetry_of(device: str, seq: int, ago_s: int = 0, **fields) -> dict:
    sample = {"type": "voltage_dc", "val": 1500.0 + seq, "unit": "V"}
    envelope = {"v": 2, "device_id": device, "ts": _when(ago_s), "seq": seq, "boot": "b", "msg_type": "telemetry"}
    return envelope | {"measurements": [sample]} | fields


def _status_of(device: str, status: str, ago_s: int = 0) -> dict:
    return {"v": 2, "device_id": device, "ts": _when(ago_s), "status": status}


def _registry(world: World) -> None:
    for device in ("a", "b", "c"):
        _register(world, device)
    world.rest("devices", "POST", "/api/devices", {"device_id": "a", "device_name": "again"})
    world.rest("devices", "PUT", "/api/devices/a", {"location": "shed"})
    world.rest("devices", "PUT", "/api/devices/a", {"status": "inactive"})
    world.rest("devices", "PUT", "/api/devices/a", {"status": "active"})
    world.rest("devices", "GET", "/api/devices/a")
    world.rest("devices", "GET", "/api/devices")
    world.rest("devices", "GET", "/api/devices", q="a")
    world.rest("devices", "GET", "/api/devices", connection_status="online")
    world.rest("devices", "PUT", "/api/devices/a/config", {"send_interval_s": 5})
    world.rest("devices", "GET", "/api/devices/a/config")
    world.rest("devices", "POST", "/api/devices/a/heartbeat")
    world.rest("devices", "PUT", "/api/devices/a/status", {"connection_status": "offline", "fw_version": "1.0.0"})
    world.rest("devices", "GET", "/api/devices/a/status")


def _claims(world: World) -> None:
    body = {"device_id": "claimed", "device_name": "claimed", "claimable": True}
    status, answer = world.rest("devices", "POST", "/api/devices", body)
    assert status == 201, answer
    for certificate, allowed in (("a" * 64, True), ("b" * 64, False)):
        assert world.claim("claimed", certificate) == {"allowProvisioning": allowed}


def _telemetry(world: World) -> None:
    for seq in (0, 1, 3):
        assert world.publish("a", "telemetry", _telemetry_of("a", seq))
    assert world.publish("b", "telemetry", _telemetry_of("b", 0))
    assert world.publish("a", "telemetry", b"no JSON")
    hello = {"fw_version": "1.0.0", "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0}
    envelope = {"v": 2, "device_id": "a", "ts": _when(), "seq": 4, "boot": "b", "msg_type": "hello"}
    assert world.publish("a", "hello", envelope | hello)
    # Goes, comes back within the hold-down, goes again: an alert is raised, resolved and reopened.
    for status, ago_s in (("online", 100), ("offline", 90), ("online", 80), ("offline", 70), ("online", 60)):
        assert world.publish("c", "status", _status_of("c", status, ago_s), ago_s)
    # Several devices in a batch, new ones and ones that are known: their data is in one object.
    for seq in (20, 21):
        assert world.publish_all([(device, "telemetry", _telemetry_of(device, seq)) for device in ("b", "u", "v")])
    message_layout = world.start("ingest", ARCHIVE_LAYOUT="message")
    assert world.publish("b", "telemetry", _telemetry_of("b", 22), ingest=message_layout)


def _send(world: World, device: str, command: str, params: dict | None = None, **headers) -> dict:
    body = {"cmd": command} | ({"params": params} if params else {})
    status, answer = world.rest("devices", "POST", f"/api/devices/{device}/commands", body, headers)
    assert status in (201, 202), answer
    return answer


def _answer(world: World, device: str, command: dict, seq: int) -> None:
    ack = {"cmd_id": command["cmd_id"], "result": "accepted", "msg_type": "command_ack", "seq": seq, "boot": "b"}
    assert world.publish(device, "command/ack", {"v": 2, "device_id": device, "ts": _when()} | ack)


def _commands(world: World) -> None:
    key = {"idempotency-key": "once"}
    first = _send(world, "a", "update_config", {"send_interval_s": 10}, **key)
    assert _send(world, "a", "update_config", {"send_interval_s": 10}, **key)["cmd_id"] == first["cmd_id"]
    _answer(world, "a", first, 5)
    by_rest = _send(world, "a", "update_config", {"send_interval_s": 20})
    world.rest("devices", "PUT", f"/api/commands/{by_rest['cmd_id']}/ack", {"result": "accepted"})
    firmware = {"fw_version": "2.0.0", "fw_url": "https://x.example/f", "fw_sha256": "0" * 64, "fw_size_bytes": 1}
    upgrade = _send(world, "a", "start_ota", firmware)
    _answer(world, "a", upgrade, 6)
    for seq, state in enumerate(("downloading", "success"), 7):
        status = {"cmd_id": upgrade["cmd_id"], "ota_state": state, "msg_type": "ota_status", "seq": seq, "boot": "b"}
        assert world.publish("a", "ota/status", {"v": 2, "device_id": "a", "ts": _when()} | status)
    hello = {"fw_version": "2.0.0", "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0}
    envelope = {"v": 2, "device_id": "a", "ts": _when(), "seq": 9, "boot": "b", "msg_type": "hello"}
    assert world.publish("a", "hello", envelope | hello)
    # One that waits for a device to come back, where ingest publishes it again.
    world.rest("devices", "PUT", "/api/devices/b/status", {"connection_status": "offline"})
    patient = world.start("devices", COMMAND_TIMEOUT_S="600")
    world.rest_of(patient, "POST", "/api/devices/b/commands", {"cmd": "request_status"})
    assert world.publish("b", "status", _status_of("b", "online"))
    world.rest("devices", "GET", "/api/devices/a/commands")
    world.rest("devices", "GET", "/api/devices/a/commands", status="accepted")
    # One that nobody answers, and one that the broker does not take at first.
    _send(world, "c", "reboot")
    with world.recorders["devices"].refusing("iot:Publish"):
        world.rest_of(patient, "POST", "/api/devices/c/commands", {"cmd": "request_status"})
    world.make_due("CommandsTableName")
    world.watch()


def _reading(world: World) -> None:
    for path in ("metrics", "metrics/latest", "raw-data"):
        world.rest("devices", "GET", f"/api/devices/a/{path}")
    for device in ("a", "b"):
        _, files = world.rest("devices", "GET", f"/api/devices/{device}/raw-data")
        for file in files:
            world.rest("devices", "GET", f"/api/devices/{device}/raw-data/{file['filename'].split('/', 1)[1]}")
    world.rest("devices", "GET", "/api/devices/a/raw-data", None, {"accept": "application/x-ndjson"})
    _, quarantined = world.rest("devices", "GET", "/api/quarantine")
    world.rest("devices", "GET", f"/api/quarantine/{quarantined[0]['id']}")
    # Objects that are there no more: the bucket's lifecycle removes old ones.
    world.lose_archive("quarantine/")
    world.rest("devices", "GET", f"/api/quarantine/{quarantined[0]['id']}")
    for path in ("/health", "/readyz", "/api/stats"):
        status, body = world.rest("stats", "GET", path)
        assert status == 200, body


def _rollups(world: World) -> None:
    # An hour that is long over when its samples come, and has waited for more of them.
    assert world.publish("rolled", "telemetry", _telemetry_of("rolled", 0, 9_000), ago_s=3_000)
    world.make_due("StateTableName")
    world.watch()
    status, windows = world.rest("devices", "GET", "/api/devices/rolled/metrics", start="-1d", every="1h")
    assert status == 200 and len(windows) == 1, windows


def _timestream(world: World) -> None:
    """Measurements in Timestream, beside everything else where it was."""
    ingest, devices = (world.start_with_timestream(name) for name in ("ingest", "devices"))
    for seq in (0, 1):
        assert world.publish("t", "telemetry", _telemetry_of("t", seq), ingest=ingest)
    for query in ({}, {"metric": "voltage_dc"}, {"every": "1m"}):
        status, found = world.rest_of(devices, "GET", "/api/devices/t/metrics", start="-1h", **query)
        assert status == 200 and found, found
    status, found = world.rest_of(devices, "GET", "/api/devices/t/metrics/latest")
    assert status == 200 and found, found
    world.rest_of(devices, "DELETE", "/api/devices/t", purge="true")


def _alerts(world: World) -> None:
    key = {"idempotency-key": "once"}
    _, alert = world.rest("alerts", "POST", "/api/devices/a/alerts", {"message": "by hand"}, key)
    world.rest("alerts", "POST", "/api/devices/a/alerts", {"message": "by hand"}, key)
    world.rest("alerts", "POST", "/api/devices/nobody/alerts", {})
    world.rest("alerts", "GET", "/api/devices/a/alerts")
    world.rest("alerts", "GET", "/api/alerts")
    world.rest("alerts", "GET", "/api/alerts", acknowledged="false")
    status, body = world.rest("alerts", "POST", f"/api/alerts/{alert['id']}/acknowledge")
    assert status == 200, body


def _rules(world: World) -> None:
    limit = {"name": "high", "metric": "voltage_dc", "operator": ">", "threshold": 1000}
    status, rule = world.rest("alerts", "POST", "/api/alert-rules", limit)
    assert status == 201, rule
    path = f"/api/alert-rules/{rule['rule_id']}"
    world.rest("alerts", "PUT", path, limit | {"threshold": 1100})
    world.rest("alerts", "GET", path)
    world.rest("alerts", "GET", "/api/alert-rules")
    status, test = world.rest("alerts", "POST", f"{path}/test", {"device_id": "a"})
    assert status == 200 and test["events"], test
    # What is older than the first sample of a new rule is none of its business: a function that knows the rule.
    knowing = world.start("ingest", RULES_MAX_AGE_S="1")
    assert world.publish("a", "telemetry", _telemetry_of("a", 30), ingest=knowing)
    # People are told of a device's end over REST, too.
    for connection in ("online", "offline"):
        world.rest("devices", "PUT", "/api/devices/a/status", {"connection_status": connection})
    world.rest("devices", "PUT", "/api/devices/a", {"device_type": "meter"})
    world.rest("alerts", "DELETE", path)


def _silence(world: World) -> None:
    _register(world, "silent")
    world.publish("silent", "telemetry", _telemetry_of("silent", 0, 600), ago_s=600)
    # A gap whose grace is over, too.
    world.publish("silent", "telemetry", _telemetry_of("silent", 5, 500), ago_s=500)
    world.make_due("StateTableName")
    world.watch()
    # It comes back: the alert is resolved; goes again, and a watchdog finds it within the hold-down.
    world.publish("silent", "telemetry", _telemetry_of("silent", 6, 290), ago_s=290)
    world.make_due("StateTableName")
    world.watch()


def _left_half_done(world: World) -> None:
    """Effects that were decided and could not be carried out, or seemed not to be, are done by who comes next."""
    ingest, devices = world.recorders["ingest"], world.recorders["devices"]
    for device in ("half", "lost", "found"):
        _register(world, device)
        world.publish(device, "status", _status_of(device, "online", 50), ago_s=50)
    accepted = _send(world, "half", "update_config", {"send_interval_s": 30})
    with ingest.refusing("dynamodb:GetItem", "dynamodb:UpdateItem", on="CommandsTable"):
        ack = {"cmd_id": accepted["cmd_id"], "result": "accepted", "msg_type": "command_ack", "seq": 1}
        world.publish("half", "command/ack", {"v": 2, "device_id": "half", "ts": _when()} | ack)
    with ingest.refusing("dynamodb:PutItem", on="AlertsTable"):
        world.publish("half", "status", _status_of("half", "offline"))
    world.make_due("StateTableName")
    world.watch()
    with ingest.losing_answers("dynamodb:PutItem", on="AlertsTable"):
        world.publish("lost", "status", _status_of("lost", "offline"))
    world.publish("lost", "telemetry", _telemetry_of("lost", 1))
    with devices.losing_answers("dynamodb:PutItem", on="AlertsTable"):
        world.rest("devices", "PUT", "/api/devices/found/status", {"connection_status": "offline"})
    world.rest("devices", "PUT", "/api/devices/found/status", {"connection_status": "online"})


def _deletes(world: World) -> None:
    world.rest("devices", "DELETE", "/api/devices/a")
    # b's messages share objects with others and have some of their own.
    status, body = world.rest("devices", "DELETE", "/api/devices/b", purge="true")
    assert status == 202, body
    # The same, begun by devices and left to the watchdog.
    for device in ("c", "silent", "half", "lost"):
        assert world.publish_all([(name, "telemetry", _telemetry_of(name, 90)) for name in (device, "u")])
        _, alert = world.rest("alerts", "POST", f"/api/devices/{device}/alerts", {}, {"idempotency-key": "again"})
        world.rest("alerts", "POST", f"/api/alerts/{alert['id']}/acknowledge")
        _send(world, device, "request_status")
    message_layout = world.start("ingest", ARCHIVE_LAYOUT="message")
    assert world.publish("half", "telemetry", _telemetry_of("half", 91), ingest=message_layout)
    for device, query in (("c", {}), ("silent", {"purge": "true"}), ("half", {"purge": "true"})):
        with world.recorders["devices"].refusing("dynamodb:DeleteItem", "dynamodb:BatchWriteItem"):
            world.rest("devices", "DELETE", f"/api/devices/{device}", **query)
    world.make_due("StateTableName")
    world.watch()
    # Objects that the bucket's lifecycle has removed meanwhile.
    world.lose_archive("archive/")
    with world.recorders["devices"].refusing("dynamodb:DeleteItem", "dynamodb:BatchWriteItem"):
        world.rest("devices", "DELETE", "/api/devices/lost", purge="true")
    world.make_due("StateTableName")
    world.watch()


def _recount(world: World) -> None:
    world.rest("stats", "GET", "/api/stats")
    world.watch(recount=True)
