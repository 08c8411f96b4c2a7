"""A running system conforms to infra/openapi.yaml: the request examples are accepted, and each
response has a documented status, media type, headers and schema.

Runs in `devstack exec`, which sets the environment.
"""

import json
import os
import re
import sys
import time
import unittest
import uuid
from datetime import UTC, datetime
from pathlib import Path

import boto3
import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "templates"))

from openapi_contract import DEFAULT_ROUTE, Contract, values  # noqa: E402

REST = os.environ["REST_URL"]
# Fails a wait or a request; long enough for a slow machine.
TIMEOUT_S = 300
CONTRACT = Contract()
DEVICE = "api-1"
UNKNOWN = "01900000-0000-7000-8000-000000000000"
# Headers that an operation documents if it sends them.
HEADERS = {"Link", "ETag", "Location", "Retry-After", "Allow", "Content-Disposition"}
# Caused by API Gateway and by faults. 202 of a command requires a broker that rejects it, 409 of a
# rule 1,000 rules.
NOT_CAUSED = {"401", "403", "429", "500", "503"}
NOT_CAUSED_BY = {"POST /api/devices/{device_id}/commands": {"202"}, "POST /api/alert-rules": {"409"}}

# The observed statuses by the name of the route.
observed: dict[str, set[str]] = {}


def call(method: str, path: str, **options) -> requests.Response:
    """Sends a request and verifies that its response is documented."""
    answer = requests.request(method, REST + path, timeout=TIMEOUT_S, **options)
    name, location, _ = CONTRACT.route_of(method, path.split("?")[0])
    status = str(answer.status_code)
    if status == "405":
        name, location = "$default", DEFAULT_ROUTE
    documented = CONTRACT.responses(location)
    context = f"{method} {path}: {status} {answer.text[:500]}"
    assert status in documented, context
    found, response = documented[status]
    sent = {header for header in HEADERS if header in answer.headers}
    assert sent <= set(response.get("headers", {})), f"{context}: {sent}"
    if "content" in response:
        media_type = answer.headers["content-type"].split(";")[0]
        assert media_type in response["content"], f"{context}: {media_type}"
        for value in values(media_type, answer.text):
            errors = CONTRACT.errors((*found, "content", media_type), value)
            assert not errors, f"{context}: {errors}"
    else:
        assert not answer.content, context
    observed.setdefault(name, set()).add(status)
    return answer


def publish(payload: str) -> None:
    client = boto3.client(
        "iot-data",
        endpoint_url=os.environ["AWS_ENDPOINT_URL_IOT_DATA_PLANE"],
        region_name=os.environ["AWS_REGION"],
    )
    client.publish(topic=f"iot/{DEVICE}/telemetry", qos=1, payload=payload)


def eventually(path: str) -> list:
    """Reads a list until it is not empty."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if found := call("GET", path).json():
            return found
        time.sleep(0.5)
    raise AssertionError(f"{path} is empty after {TIMEOUT_S} s")


def request_examples(location) -> list[dict]:
    """The bodies that an operation documents; one None if it has no body."""
    if "requestBody" not in CONTRACT.resolve(location)[1]:
        return [None]
    return list(CONTRACT.examples((*location, "requestBody", "content", "application/json")).values())


def filled(template: str, ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)\+?}", lambda name: ids[name[1]], template)


class Answers(unittest.TestCase):
    ids: dict[str, str]

    @classmethod
    def setUpClass(cls):
        call("POST", "/api/devices", json={"device_id": DEVICE, "device_name": "API"})
        measurement = {"type": "voltage_dc", "val": 1512.5, "unit": "V"}
        message = {"v": 2, "device_id": DEVICE, "ts": datetime.now(UTC).isoformat(), "seq": 0, "msg_type": "telemetry"}
        publish(json.dumps(message | {"measurements": [measurement]}))
        publish("no JSON {")
        (file,) = eventually(f"/api/devices/{DEVICE}/raw-data")
        quarantined = eventually("/api/quarantine")[0]
        cls.ids = {
            "device_id": DEVICE,
            "filename": file["filename"],
            "id": quarantined["id"],
            "alert_id": call("POST", f"/api/devices/{DEVICE}/alerts").json()["id"],
            "rule_id": cls.rule(),
            "cmd_id": call("POST", f"/api/devices/{DEVICE}/commands", json={"cmd": "reboot"}).json()["cmd_id"],
        }

    @staticmethod
    def rule() -> str:
        rule = {"name": "No voltage", "metric": "voltage_dc", "kind": "no_data", "for_s": 600}
        return call("POST", "/api/alert-rules", json=rule).json()["rule_id"]

    def operations(self):
        """Method, path, location and parameters of each operation that deletes nothing."""
        for name, location, _ in CONTRACT.operations():
            method, template = name.split(" ")
            if method != "DELETE":
                yield method, template, location, CONTRACT.parameters(location)

    def test_1_request_examples_are_accepted(self):
        for method, template, location, _ in self.operations():
            for body in request_examples(location):
                answer = call(method, filled(template, self.ids), json=body)
                self.assertLess(answer.status_code, 300, f"{method} {template}: {answer.text}")

    def test_2_invalid_bodies_are_refused(self):
        for method, template, location, _ in self.operations():
            if request_examples(location) != [None]:
                path = filled(template, self.ids)
                for status, body, media_type in (
                    (400, "[]", "application/json"),
                    (413, json.dumps({"text": "x" * 300_000}), "application/json"),
                    (415, "{}", "text/plain"),
                ):
                    answer = call(method, path, data=body, headers={"Content-Type": media_type})
                    self.assertEqual(answer.status_code, status, f"{method} {template}: {answer.text}")

    def test_3_invalid_pages_are_refused(self):
        for method, template, _, parameters in self.operations():
            if "cursor" in parameters:
                for query in ("limit=0", "cursor=x"):
                    answer = call(method, f"{filled(template, self.ids)}?{query}")
                    self.assertEqual(answer.status_code, 400, f"{method} {template}")

    def test_4_unknown_items_are_not_found(self):
        unknown = dict.fromkeys(self.ids, UNKNOWN)
        for method, template, location, _ in self.operations():
            if "404" in CONTRACT.responses(location):
                answer = call(method, filled(template, unknown), json=request_examples(location)[0])
                self.assertEqual(answer.status_code, 404, f"{method} {template}: {answer.text}")

    def test_5_known_versions_are_not_sent_again(self):
        for method, template, _, parameters in self.operations():
            if "If-None-Match" in parameters:
                path = filled(template, self.ids)
                tag = call(method, path).headers["ETag"]
                self.assertEqual(call(method, path, headers={"If-None-Match": tag}).status_code, 304)

    def test_6_keys_name_one_request(self):
        for path, first, other in (
            (f"/api/devices/{DEVICE}/alerts", {}, {"message": "other"}),
            (f"/api/devices/{DEVICE}/commands", {"cmd": "reboot"}, {"cmd": "request_status"}),
        ):
            with self.subTest(path):
                headers = {"Idempotency-Key": str(uuid.uuid4())}
                answers = [call("POST", path, json=body, headers=headers) for body in (first, first, other)]
                self.assertEqual([answer.status_code for answer in answers], [201, 201, 422])
                self.assertEqual(answers[0].json(), answers[1].json())

    def test_7_other_media_types_are_answered(self):
        csv = call("GET", f"/api/devices/{DEVICE}/metrics", headers={"Accept": "text/csv"}).text
        self.assertTrue(csv.startswith("time,device_id,metric,value,unit,quality\r\n"))
        headers = {"Accept": "application/x-ndjson"}
        call("GET", f"/api/devices/{DEVICE}/raw-data", headers=headers)

    def test_8_changes_and_deletions_are_conditional(self):
        path = f"/api/alert-rules/{self.rule()}"
        rule = call("GET", path).json()
        other = {"If-Match": '"9"'}
        self.assertEqual(call("PUT", path, json=rule, headers=other).status_code, 412)
        self.assertEqual(call("DELETE", path, headers=other).status_code, 412)
        self.assertEqual(call("DELETE", path, headers={"If-Match": '"1"'}).status_code, 200)
        self.assertEqual(call("DELETE", path).status_code, 404)

    def test_8_devices_are_registered_once_and_deleted(self):
        for query, status in (("", 200), ("?purge=true", 202)):
            device = {"device_id": f"api-{uuid.uuid4()}", "device_name": "Deleted"}
            path = f"/api/devices/{device['device_id']}"
            statuses = [call("POST", "/api/devices", json=device).status_code for _ in range(2)]
            self.assertEqual(statuses, [201, 409])
            self.assertEqual(call("DELETE", f"{path}?purge=perhaps").status_code, 400)
            self.assertEqual(call("DELETE", path + query).status_code, status)
        self.assertEqual(call("DELETE", f"/api/devices/{UNKNOWN}").status_code, 404)

    def test_8_requests_without_a_route_are_answered(self):
        self.assertEqual(call("GET", "/api/nothing").status_code, 404)
        self.assertEqual(call("PATCH", "/api/devices").status_code, 405)
        self.assertEqual(call("OPTIONS", "/api/devices").status_code, 204)

    def test_9_each_documented_response_was_observed(self):
        for name, location, _ in CONTRACT.routes():
            with self.subTest(name):
                documented = set(CONTRACT.responses(location)) - NOT_CAUSED - NOT_CAUSED_BY.get(name, set())
                self.assertEqual(observed.get(name, set()), documented)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
