"""The IoT policy and the broker of `make run SECURE=1` give a device the same permissions."""

import copy
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import uuid
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "infra"))

from provision import broker, policy  # noqa: E402
from provision.authority import CertificateAuthority  # noqa: E402
from provision.identity import CA_FILE, CERTIFICATE_FILE, KEY_FILE, Identity  # noqa: E402

PUBLISH_TOPICS = ["telemetry", "hello", "status", "command/ack", "ota/status"]
# Fails a wait or a request; long enough for a slow machine.
TIMEOUT_S = 300
# The time in which a message that the broker forwards by mistake would arrive; usually
# milliseconds.
NO_MESSAGE_WAIT_S = 1.5

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Broker:
    """Mosquitto with the listeners of the secure profile."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.authority = CertificateAuthority(folder / "authority")
        self.port, self.iot_core_port = free_ports(2)
        lines = broker.write_broker_config(self.authority, self.port, self.iot_core_port)
        (folder / "mosquitto.conf").write_text(lines + "user root\nlog_dest stdout\n")
        self.password = (folder / "authority" / broker.IOT_CORE_PASSWORD).read_text()
        self.start()

    def start(self) -> None:
        with (self.folder / "mosquitto.log").open("a") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", self.folder / "mosquitto.conf"], stdout=log, stderr=log)
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def provision_device(self, device: str) -> "Device":
        certificate, key = self.authority.device(device)
        identity = Identity(device, self.authority.ca, certificate, key, "127.0.0.1", self.port)
        return Device(device, identity.write(self.folder / "devices"), self)

    def as_iot_core(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self.iot_core_port), "-u", broker.IOT_CORE, "-P", self.password]


class Device:
    def __init__(self, name: str, place: Path, to: Broker):
        self.name = name
        self._connection = ["-h", "127.0.0.1", "-p", str(to.port), "--cafile", place / CA_FILE, "-i", name]
        self._identity = ["--cert", place / CERTIFICATE_FILE, "--key", place / KEY_FILE]

    def with_client_id(self, name: str) -> "Device":
        """The same certificate under another client id."""
        other = copy.copy(self)
        other._connection = [name if part == self.name else part for part in self._connection]
        return other

    def publish(self, topic: str, text: str, *more: str) -> int:
        return self._run("mosquitto_pub", ["-q", "1", "-t", topic, "-m", text, *more])

    def can_connect(self, identity: list | None = None) -> bool:
        """Whether the broker accepts a connection with the certificate or another identity."""
        given = self._identity if identity is None else identity
        command = ["mosquitto_pub", *self._connection, *given, "-q", "1", "-t", f"iot/{self.name}/hello", "-m", "x"]
        return subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False).returncode == 0

    def subscribe(self, topic: str) -> "Subscriber":
        return Subscriber(["mosquitto_sub", *self._connection, *self._identity, "-q", "1", "-t", topic])

    def _run(self, program: str, arguments: list) -> int:
        command = [program, *self._connection, *self._identity, *arguments]
        return subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False).returncode


class Subscriber:
    """A subscription; the constructor waits for its acknowledgement."""

    def __init__(self, command: list):
        command = ["stdbuf", "-oL", *command, "-d", "-v"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._output = ""
        os.set_blocking(self._process.stdout.fileno(), False)
        if not self._wait_for("SUBACK", TIMEOUT_S):
            self.stop()
            raise AssertionError(f"the subscription was not acknowledged: {self._output}")

    def receives(self, text: str, within_s: float = TIMEOUT_S) -> bool:
        return self._wait_for(text, within_s)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()

    def _wait_for(self, text: str, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while text not in self._output and time.monotonic() < deadline:
            self._output += (self._process.stdout.read() or b"").decode()
            time.sleep(0.02)
        return text in self._output


class BrokerAuthorization(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="iot-meter-devices-"))
        cls.broker = Broker(Path(folder))
        cls.addClassCleanup(cls.broker.stop)
        cls.a, cls.b = cls.broker.provision_device("a-1"), cls.broker.provision_device("b-1")
        cls.iot_core = Subscriber(["mosquitto_sub", *cls.broker.as_iot_core(), "-t", "#"])
        cls.addClassCleanup(cls.iot_core.stop)

    def is_forwarded(self, device: Device, topic: str) -> bool:
        """Whether the broker forwards a message. A permitted message follows, which ends the wait.
        """
        text, after = uuid.uuid4().hex, uuid.uuid4().hex
        device.publish(topic, text)
        device.publish(f"iot/{device.name}/telemetry", after)
        self.assertTrue(self.iot_core.receives(after))
        return self.iot_core.receives(text, 0)

    def test_broker_and_policy_permit_the_same_topics(self):
        permissions = policy.device_permissions()
        topics = [f"iot/{name}/{kind}" for name in ("a-1", "b-1") for kind in [*PUBLISH_TOPICS, "command", "config"]]
        for topic in [*topics, "iot/a-1", "other", "$aws/things/a-1/shadow/update"]:
            with self.subTest(topic):
                allowed = policy.allows(permissions, "a-1", "iot:Publish", f"topic/{topic}")
                self.assertEqual(self.is_forwarded(self.a, topic), allowed)

    def test_publishing_as_another_device_is_rejected(self):
        for kind in PUBLISH_TOPICS:
            self.assertFalse(self.is_forwarded(self.a, f"iot/b-1/{kind}"), kind)

    def test_publishing_a_command_is_rejected(self):
        self.assertFalse(self.is_forwarded(self.a, "iot/a-1/command"))

    def test_commands_are_delivered_only_to_their_device(self):
        for topic in ("iot/b-1/command", "iot/+/command", "#"):
            with self.subTest(topic):
                spy = self.a.subscribe(topic)
                rightful = self.b.subscribe("iot/b-1/command")
                text = uuid.uuid4().hex
                command = ["mosquitto_pub", *self.broker.as_iot_core(), "-q", "1", "-t", "iot/b-1/command", "-m", text]
                subprocess.run(command, check=True, timeout=TIMEOUT_S)
                self.assertTrue(rightful.receives(text))
                self.assertFalse(spy.receives(text, NO_MESSAGE_WAIT_S))
                spy.stop()
                rightful.stop()

    def test_status_is_retained(self):
        text = uuid.uuid4().hex
        self.assertEqual(self.a.publish("iot/a-1/status", text, "--retain"), 0)
        late = Subscriber(["mosquitto_sub", *self.broker.as_iot_core(), "-t", "iot/a-1/status"])
        self.assertTrue(late.receives(text))
        late.stop()

    def test_connection_requires_a_certificate_of_the_authority(self):
        self.assertTrue(self.a.can_connect())
        self.assertFalse(self.a.can_connect([]))
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = CertificateAuthority(Path(folder)).device("a-1")
            (Path(folder) / CERTIFICATE_FILE).write_text(certificate)
            (Path(folder) / KEY_FILE).write_text(key)
            forged = ["--cert", f"{folder}/{CERTIFICATE_FILE}", "--key", f"{folder}/{KEY_FILE}"]
            self.assertFalse(self.a.can_connect(forged))

    def test_certificate_determines_the_device_id(self):
        text = uuid.uuid4().hex
        as_a = self.b.with_client_id("a-1")
        as_a.publish("iot/a-1/telemetry", text)
        as_a.publish("iot/b-1/telemetry", f"after {text}")
        self.assertTrue(self.iot_core.receives(f"iot/b-1/telemetry after {text}"))
        self.assertFalse(self.iot_core.receives(f"iot/a-1/telemetry {text}", 0))

    def test_listener_of_the_iot_core_emulator_requires_a_password(self):
        command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.broker.iot_core_port), "-t", "x", "-m", "x"]
        self.assertNotEqual(subprocess.run(command, capture_output=True, check=False).returncode, 0)


class Revocation(unittest.TestCase):
    def test_revoked_certificate_is_rejected_and_a_new_one_accepted(self):
        with tempfile.TemporaryDirectory(prefix="iot-meter-devices-") as folder:
            at = Broker(Path(folder))
            self.addCleanup(at.stop)
            device = at.provision_device("a-1")
            self.assertTrue(device.can_connect())
            at.authority.revoke((Path(folder) / "devices/a-1" / CERTIFICATE_FILE).read_text())
            at.stop()
            at.start()
            self.assertFalse(device.can_connect())
            self.assertTrue(at.provision_device("a-1").can_connect())


class IotPolicy(unittest.TestCase):
    def test_each_permission_names_the_thing(self):
        for permission in policy.device_permissions():
            self.assertIn(policy.THING, permission.resource)

    def test_only_status_messages_may_be_retained(self):
        permissions = policy.device_permissions()
        allowed = [k for k in PUBLISH_TOPICS if policy.allows(permissions, "a-1", "iot:RetainPublish", f"topic/iot/a-1/{k}")]
        self.assertEqual(allowed, ["status"])

    def test_basic_ingest_is_limited_to_topics_of_the_thing(self):
        permissions = policy.device_permissions()
        # The name of the rule is not substituted in these permissions.
        rule = "topic/$aws/rules/${TelemetryRule}"
        self.assertTrue(policy.allows(permissions, "a-1", "iot:Publish", f"{rule}/iot/a-1/telemetry"))
        for other in ("iot/b-1/telemetry", "iot/a-1/hello", "iot/a-1/telemetry/x"):
            self.assertFalse(policy.allows(permissions, "a-1", "iot:Publish", f"{rule}/{other}"), other)

    def test_permission_that_mosquitto_does_not_support_is_an_error(self):
        for permission in (
            policy.Permission("iot:GetThingShadow", f"thing/{policy.THING}"),
            policy.Permission("iot:Publish", "topic/iot/*"),
            policy.Permission("iot:Subscribe", f"topicfilter/iot/{policy.THING}/other"),
            policy.Permission("iot:RetainPublish", f"topic/iot/{policy.THING}/other"),
        ):
            with self.subTest(permission), self.assertRaises(ValueError):
                policy.mosquitto_acl([*policy.device_permissions(), permission])


if __name__ == "__main__":
    unittest.main(verbosity=2)
