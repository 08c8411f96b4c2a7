"""template.yaml, deployed by `sam deploy` to MiniStack: messages from iot-data to the REST API,
access tokens, provisioning. MiniStack runs the native functions, without the dev stack.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "local"))

from deploy import stack  # noqa: E402
from deploy.endpoint import CREDENTIALS, Endpoint, free_port  # noqa: E402
from issuer import Issuer, generate_key  # noqa: E402

AUDIENCE = "https://meter.example"
READ = "meter/read"
WRITE = "meter/write"
# Fails a wait or a request; long enough for a slow machine.
TIMEOUT_S = 300

issuer: Issuer
deployed: stack.DeployedStack
binaries = Path(os.environ.get("CARGO_TARGET_DIR", CHECKOUT / "target")) / "debug"


def setUpModule() -> None:
    global issuer, deployed
    folder = Path(unittest.enterModuleContext(tempfile.TemporaryDirectory(prefix="iot-meter-deployed-")))
    issuer = unittest.enterModuleContext(Issuer(folder))
    # The emulator must trust the issuer.
    environment = {"SSL_CERT_FILE": str(issuer.ca)}
    endpoint = unittest.enterModuleContext(
        Endpoint(CHECKOUT / ".venv/bin", free_port(), folder / "ministack.log", environment)
    )
    parameters = {"JwtIssuer": issuer.url, "JwtAudience": AUDIENCE}
    built = stack.build(CHECKOUT, binaries, folder / "build")
    deployed = stack.deploy(endpoint, CHECKOUT, built, parameters, folder / "sam.log")


def send_request(method: str, path: str, token: str | None = None, body: dict | None = None) -> tuple[int, bytes]:
    """Status and body of a request to the deployed API."""
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(deployed.api_url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def wait_for(what: str, fetch):
    """Calls `fetch` until its result is not empty."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        found = fetch()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what}: no result after {TIMEOUT_S} s")


class Tokens(unittest.TestCase):
    def status(self, method: str = "GET", path: str = "/api/devices", **token) -> int:
        token = issuer.token(**({"scope": f"{READ} {WRITE}", "audience": AUDIENCE} | token))
        return send_request(method, path, token)[0]

    def test_missing_or_malformed_token_is_unauthorized(self):
        self.assertEqual(send_request("GET", "/api/devices")[0], 401)
        self.assertEqual(send_request("GET", "/api/devices", "not.a.token")[0], 401)

    def test_expired_token_is_unauthorized(self):
        self.assertEqual(self.status(expires_in_s=-60), 401)

    def test_token_for_another_audience_is_unauthorized(self):
        self.assertEqual(self.status(audience="https://other.example"), 401)

    def test_token_with_an_invalid_signature_is_unauthorized(self):
        self.assertEqual(self.status(key=generate_key()), 401)

    def test_token_without_the_scope_is_forbidden(self):
        self.assertEqual(self.status(scope="openid"), 403)
        self.assertEqual(self.status("POST", scope=READ), 403)
        self.assertEqual(self.status("DELETE", "/api/devices/unknown", scope=READ), 403)

    def test_valid_token_is_accepted(self):
        self.assertEqual(self.status(scope=READ), 200)
        token = issuer.token(WRITE, AUDIENCE)
        device = {"device_id": "token-1", "device_name": "Created with a token"}
        self.assertEqual(send_request("POST", "/api/devices", token, device)[0], 201)

    def test_health_is_public_and_an_unknown_path_is_404(self):
        self.assertEqual(send_request("GET", "/health")[0], 200)
        self.assertEqual(send_request("GET", "/nothing/here")[0], 404)

    def test_readiness_includes_all_stores(self):
        status, body = send_request("GET", "/readyz")
        self.assertEqual(status, 200, body)

    def test_direct_invocation_without_a_token_is_unauthorized(self):
        event = {
            "rawPath": "/api/devices",
            "requestContext": {"stage": "$default", "http": {"method": "GET", "path": "/api/devices"}},
        }
        answer = deployed.client("lambda").invoke(
            FunctionName=deployed.resources["DevicesFunction"], Payload=json.dumps(event)
        )
        self.assertEqual(json.loads(answer["Payload"].read())["statusCode"], 401)


class Messages(unittest.TestCase):
    def test_published_message_is_archived_stored_and_readable(self):
        token = issuer.token(f"{READ} {WRITE}", AUDIENCE)
        send_request("POST", "/api/devices", token, {"device_id": "m-1", "device_name": "Meter 1"})
        message = {
            "v": 2,
            "device_id": "m-1",
            "ts": "2026-03-01T12:00:00Z",
            "seq": 0,
            "msg_type": "telemetry",
            "measurements": [{"type": "voltage_dc", "val": 1512.5, "unit": "V"}],
        }
        publish = deployed.client("iot-data").publish
        publish(topic="iot/m-1/telemetry", qos=1, payload=json.dumps(message))
        publish(topic="iot/m-1/telemetry", qos=1, payload=b"\xff no JSON")

        def points():
            path = "/api/devices/m-1/metrics?start=2026-03-01T00:00:00Z&stop=2026-03-02T00:00:00Z"
            status, body = send_request("GET", path, token)
            self.assertEqual(status, 200, body)
            return json.loads(body)

        (point,) = wait_for("the measurement", points)
        self.assertEqual((point["metric"], point["value"], point["unit"]), ("voltage_dc", 1512.5, "V"))
        wait_for("the quarantined message", lambda: json.loads(send_request("GET", "/api/quarantine", token)[1]))
        (file,) = json.loads(send_request("GET", "/api/devices/m-1/raw-data", token)[1])
        raw = json.loads(send_request("GET", f"/api/devices/m-1/raw-data/{file['filename'].split('/', 1)[1]}", token)[1])
        self.assertEqual(raw["payload"], message)

        objects = deployed.client("s3").list_objects_v2(Bucket=deployed.outputs["ArchiveBucketName"])["Contents"]
        self.assertTrue(any(found["Key"].startswith("archive/") for found in objects), objects)
        _, device = send_request("GET", "/api/devices/m-1", token)
        self.assertEqual(json.loads(device)["connection_status"], "online")
        dead = deployed.client("sqs").get_queue_attributes(
            QueueUrl=deployed.outputs["IngestDeadLetterQueueUrl"], AttributeNames=["ApproximateNumberOfMessages"]
        )
        self.assertEqual(dead["Attributes"]["ApproximateNumberOfMessages"], "0")


class Devices(unittest.TestCase):
    """`provision` on the stack: thing, certificate, policy and registry entry."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="iot-meter-identities-")))
        self.iot = deployed.client("iot")

    def provision(self, *arguments: str) -> str:
        token = {"METER_TOKEN": issuer.token(f"{READ} {WRITE}", AUDIENCE), "PYTHONPATH": str(CHECKOUT / "infra")}
        environment = os.environ | CREDENTIALS | {"AWS_ENDPOINT_URL": deployed.endpoint.url} | token
        command = [CHECKOUT / ".venv/bin/python", "-m", "provision", *arguments]
        command += ["--stack", stack.STACK_NAME, "--out", self.folder, "--api", deployed.api_url]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def certificates(self, device: str) -> list[str]:
        return self.iot.list_thing_principals(thingName=device)["principals"]

    def test_certificate_is_added_rotated_and_revoked(self):
        output = self.provision("add", "p-1")
        self.assertIn("mosquitto_pub", output)
        place = self.folder / "p-1"
        self.assertEqual((place / "private.key").stat().st_mode & 0o077, 0)
        self.assertIn("BEGIN CERTIFICATE", (place / "ca.pem").read_text())
        first = (place / "certificate.pem").read_text()
        (arn,) = self.certificates("p-1")
        attached = self.iot.list_attached_policies(target=arn)["policies"]
        self.assertEqual([policy["policyName"] for policy in attached], [deployed.outputs["DevicePolicyName"]])
        certificate = self.iot.describe_certificate(certificateId=arn.rsplit("/", 1)[1])
        self.assertEqual(certificate["certificateDescription"]["status"], "ACTIVE")
        self.assertEqual(self.registry_entry("p-1")["status"], "active")

        self.provision("rotate", "p-1")
        (next_arn,) = self.certificates("p-1")
        self.assertNotEqual(next_arn, arn)
        self.assertNotEqual((place / "certificate.pem").read_text(), first)

        self.provision("revoke", "p-1")
        with self.assertRaises(self.iot.exceptions.ResourceNotFoundException):
            self.iot.describe_thing(thingName="p-1")
        self.assertNotIn(next_arn, [c["certificateArn"] for c in self.iot.list_certificates()["certificates"]])
        self.assertEqual(self.registry_entry("p-1")["status"], "inactive")

    def registry_entry(self, device: str) -> dict:
        return json.loads(send_request("GET", f"/api/devices/{device}", issuer.token(READ, AUDIENCE))[1])


class OperatorTool(unittest.TestCase):
    """`iot-meter` finds queues, bucket, functions and their settings by the name of the stack."""

    def run_tool(self, *arguments: str) -> dict:
        environment = os.environ | CREDENTIALS | {"AWS_ENDPOINT_URL": deployed.endpoint.url}
        command = [binaries / "iot-meter", *arguments, "--stack", stack.STACK_NAME, "--output", "json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_recount_invokes_the_watchdog_function(self):
        counters = [counted["what"] for counted in self.run_tool("recount")["recounted"]]
        self.assertIn("devices by status", counters)

    def test_redrive_reads_the_outputs_of_the_stack(self):
        self.assertEqual(self.run_tool("redrive")["remaining"], {})

    def test_replay_reads_the_settings_of_the_ingest_function(self):
        self.assertEqual(self.run_tool("replay", "--start", "2020-01-01T00:00:00Z", "--stop", "2020-01-02T00:00:00Z")["messages"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
