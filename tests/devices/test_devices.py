"""What a device may do, on AWS by its IoT policy and locally at the broker of `make run SECURE=1`: the same."""

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
from provision.authority import Authority  # noqa: E402
from provision.identity import CA, CERTIFICATE, KEY, Identity  # noqa: E402

PUBLISHED = ["telemetry", "hello", "status", "command/ack", "ota/status"]
PATIENCE_S = 20
# In which nothing comes that the broker keeps back; what it lets through takes milliseconds.
SILENCE_S = 1.5

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
        self.authority = Authority(folder / "authority")
        self.port, self.edge_port = free_ports(2)
        lines = broker.prepare(self.authority, self.port, self.edge_port)
        (folder / "mosquitto.conf").write_text(lines + "user root\nlog_dest stdout\n")
        self.password = (folder / "authority" / broker.EDGE_PASSWORD).read_text()
        self.start()

    def start(self) -> None:
        with (self.folder / "mosquitto.log").open("a") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", self.folder / "mosquitto.conf"], stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
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

    def provide(self, device: str) -> "Device":
        certificate, key = self.authority.device(device)
        identity = Identity(device, self.authority.ca, certificate, key, "127.0.0.1", self.port)
        return Device(device, identity.write(self.folder / "devices"), self)

    def as_edge(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self.edge_port), "-u", broker.EDGE, "-P", self.password]


class Device:
    def __init__(self, name: str, place: Path, to: Broker):
        self.name = name
        self._connection = ["-h", "127.0.0.1", "-p", str(to.port), "--cafile", place / CA, "-i", name]
        self._identity = ["--cert", place / CERTIFICATE, "--key", place / KEY]

    def calling_itself(self, name: str) -> "Device":
        """The same certificate under another client id."""
        other = copy.copy(self)
        other._connection = [name if part == self.name else part for part in self._connection]
        return other

    def publish(self, topic: str, text: str, *more: str) -> int:
        return self._run("mosquitto_pub", ["-q", "1", "-t", topic, "-m", text, *more])

    def connects(self, identity: list | None = None) -> bool:
        """Whether the broker takes it, with a certificate of its own or what is given instead."""
        given = self._identity if identity is None else identity
        command = ["mosquitto_pub", *self._connection, *given, "-q", "1", "-t", f"iot/{self.name}/hello", "-m", "x"]
        return subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False).returncode == 0

    def listen(self, topic: str) -> "Listener":
        return Listener(["mosquitto_sub", *self._connection, *self._identity, "-q", "1", "-t", topic])

    def _run(self, program: str, arguments: list) -> int:
        command = [program, *self._connection, *self._identity, *arguments]
        return subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False).returncode


class Listener:
    """A subscription that is there once this is made."""

    def __init__(self, command: list):
        command = ["stdbuf", "-oL", *command, "-d", "-v"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._said = ""
        os.set_blocking(self._process.stdout.fileno(), False)
        if not self._until("SUBACK", PATIENCE_S):
            self.stop()
            raise AssertionError(f"no subscription: {self._said}")

    def hears(self, text: str, within_s: float = PATIENCE_S) -> bool:
        return self._until(text, within_s)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()

    def _until(self, text: str, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while text not in self._said and time.monotonic() < deadline:
            self._said += (self._process.stdout.read() or b"").decode()
            time.sleep(0.02)
        return text in self._said


class AtTheBroker(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="iot-meter-devices-"))
        cls.broker = Broker(Path(folder))
        cls.addClassCleanup(cls.broker.stop)
        cls.a, cls.b = cls.broker.provide("a-1"), cls.broker.provide("b-1")
        cls.edge = Listener(["mosquitto_sub", *cls.broker.as_edge(), "-t", "#"])
        cls.addClassCleanup(cls.edge.stop)

    def arrives(self, device: Device, topic: str) -> bool:
        """Whether a publication gets past the broker. One that is allowed follows, so that nothing is waited for."""
        text, after = uuid.uuid4().hex, uuid.uuid4().hex
        device.publish(topic, text)
        device.publish(f"iot/{device.name}/telemetry", after)
        self.assertTrue(self.edge.hears(after))
        return self.edge.hears(text, 0)

    def test_the_broker_and_the_policy_agree_on_every_publication(self):
        rights = policy.device_rights()
        topics = [f"iot/{name}/{kind}" for name in ("a-1", "b-1") for kind in [*PUBLISHED, "command", "config"]]
        for topic in [*topics, "iot/a-1", "other", "$aws/things/a-1/shadow/update"]:
            with self.subTest(topic):
                allowed = policy.allows(rights, "a-1", "iot:Publish", f"topic/{topic}")
                self.assertEqual(self.arrives(self.a, topic), allowed)

    def test_a_device_cannot_publish_as_another(self):
        for kind in PUBLISHED:
            self.assertFalse(self.arrives(self.a, f"iot/b-1/{kind}"), kind)

    def test_a_device_cannot_command_itself(self):
        self.assertFalse(self.arrives(self.a, "iot/a-1/command"))

    def test_a_device_hears_its_commands_and_nobody_elses(self):
        for topic in ("iot/b-1/command", "iot/+/command", "#"):
            with self.subTest(topic):
                spy = self.a.listen(topic)
                rightful = self.b.listen("iot/b-1/command")
                text = uuid.uuid4().hex
                command = ["mosquitto_pub", *self.broker.as_edge(), "-q", "1", "-t", "iot/b-1/command", "-m", text]
                subprocess.run(command, check=True, timeout=PATIENCE_S)
                self.assertTrue(rightful.hears(text))
                self.assertFalse(spy.hears(text, SILENCE_S))
                spy.stop()
                rightful.stop()

    def test_presence_is_retained(self):
        text = uuid.uuid4().hex
        self.assertEqual(self.a.publish("iot/a-1/status", text, "--retain"), 0)
        late = Listener(["mosquitto_sub", *self.broker.as_edge(), "-t", "iot/a-1/status"])
        self.assertTrue(late.hears(text))
        late.stop()

    def test_nobody_connects_without_a_certificate_of_this_authority(self):
        self.assertTrue(self.a.connects())
        self.assertFalse(self.a.connects([]))
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Authority(Path(folder)).device("a-1")
            (Path(folder) / CERTIFICATE).write_text(certificate)
            (Path(folder) / KEY).write_text(key)
            forged = ["--cert", f"{folder}/{CERTIFICATE}", "--key", f"{folder}/{KEY}"]
            self.assertFalse(self.a.connects(forged))

    def test_a_device_is_its_certificate_whatever_id_it_gives(self):
        text = uuid.uuid4().hex
        as_a = self.b.calling_itself("a-1")
        as_a.publish("iot/a-1/telemetry", text)
        as_a.publish("iot/b-1/telemetry", f"after {text}")
        self.assertTrue(self.edge.hears(f"iot/b-1/telemetry after {text}"))
        self.assertFalse(self.edge.hears(f"iot/a-1/telemetry {text}", 0))

    def test_the_edges_listener_asks_for_its_password(self):
        command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.broker.edge_port), "-t", "x", "-m", "x"]
        self.assertNotEqual(subprocess.run(command, capture_output=True, check=False).returncode, 0)


class Revoked(unittest.TestCase):
    def test_a_revoked_certificate_opens_nothing_and_the_next_one_does(self):
        with tempfile.TemporaryDirectory(prefix="iot-meter-devices-") as folder:
            at = Broker(Path(folder))
            self.addCleanup(at.stop)
            device = at.provide("a-1")
            self.assertTrue(device.connects())
            at.authority.revoke((Path(folder) / "devices/a-1" / CERTIFICATE).read_text())
            at.stop()
            at.start()
            self.assertFalse(device.connects())
            self.assertTrue(at.provide("a-1").connects())


class OnAws(unittest.TestCase):
    def test_the_policy_binds_every_topic_to_the_thing(self):
        for right in policy.device_rights():
            self.assertIn(policy.THING, right.resource)

    def test_only_presence_is_retained(self):
        rights = policy.device_rights()
        allowed = [k for k in PUBLISHED if policy.allows(rights, "a-1", "iot:RetainPublish", f"topic/iot/a-1/{k}")]
        self.assertEqual(allowed, ["status"])

    def test_basic_ingest_binds_what_follows_the_rule(self):
        rights = policy.device_rights()
        # Names of rules stand for themselves here: ${TelemetryRule}.
        rule = "topic/$aws/rules/${TelemetryRule}"
        self.assertTrue(policy.allows(rights, "a-1", "iot:Publish", f"{rule}/iot/a-1/telemetry"))
        for other in ("iot/b-1/telemetry", "iot/a-1/hello", "iot/a-1/telemetry/x"):
            self.assertFalse(policy.allows(rights, "a-1", "iot:Publish", f"{rule}/{other}"), other)

    def test_what_mosquitto_cannot_do_is_an_error(self):
        for right in (
            policy.Right("iot:GetThingShadow", f"thing/{policy.THING}"),
            policy.Right("iot:Publish", "topic/iot/*"),
            policy.Right("iot:Subscribe", f"topicfilter/iot/{policy.THING}/other"),
            policy.Right("iot:RetainPublish", f"topic/iot/{policy.THING}/other"),
        ):
            with self.subTest(right), self.assertRaises(ValueError):
                policy.mosquitto_acl([*policy.device_rights(), right])


if __name__ == "__main__":
    unittest.main(verbosity=2)
