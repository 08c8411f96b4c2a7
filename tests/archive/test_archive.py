"""DuckDB reads the archive with the queries of docs/archive.md.

Runs in `devstack exec`, which sets the environment.
"""

import gzip
import json
import os
import re
import tempfile
import time
import unittest
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import duckdb
import requests
from samcli.yamlhelper import yaml_parse

CHECKOUT = Path(__file__).resolve().parents[2]
CATALOG = CHECKOUT / "infra/archive-catalog/template.yaml"
REST = os.environ["REST_URL"]
BUCKET = os.environ["ARCHIVE_BUCKET"]
# Fails a wait or a request; long enough for a slow machine.
TIMEOUT_S = 300
# The device of the documented queries, one that is purged, and one with protocol version 1.
DEVICE, PURGED, OLD = "dc-meter-001", "purged", "old"


def documented_query(prefix: str) -> str:
    """The documented query with a prefix."""
    chapter = (CHECKOUT / "docs/archive.md").read_text().split("## Athena")[0]
    queries = re.findall(r"```sql\n(.+?)```", chapter, re.S)
    [found] = [text for text in queries if text.startswith(prefix)]
    return found


def aws_client(service: str, endpoint: str):
    return boto3.client(service, endpoint_url=os.environ[endpoint], region_name=os.environ["AWS_REGION"])


def publish(device: str, message: str) -> None:
    client = aws_client("iot-data", "AWS_ENDPOINT_URL_IOT_DATA_PLANE")
    client.publish(topic=f"iot/{device}/telemetry", qos=1, payload=message)


def sample_messages(device: str) -> list[str]:
    """Messages of 20 seconds with line breaks, duplicate names in an object and conflicting points.
    """
    start = (datetime.now(UTC) - timedelta(minutes=1)).replace(microsecond=0)
    messages = []
    for n in range(20):
        message = {
            "v": 2,
            "device_id": device,
            "ts": (start + timedelta(seconds=n)).isoformat(),
            "seq": n,
            "msg_type": "telemetry",
            "measurements": [
                {"type": "pf", "val": n},
                {"type": "pf", "val": -n},
                {"type": "temperature", "val": 0.1 * n, "ts": (start + timedelta(seconds=n // 3)).isoformat()},
            ],
        }
        messages.append(json.dumps(message, indent=1 if n % 2 else None))
    twice = messages[0].replace('"seq": 0', '"seq": 20, "note": {"a": 1, "a": [2]}')
    return [*messages, twice.replace('"val": 0}', '"val": 100}')]


def get_list(path: str) -> list:
    """A list of the REST API with one page."""
    answer = requests.get(f"{REST}{path}", timeout=TIMEOUT_S)
    answer.raise_for_status()
    assert "link" not in answer.headers
    return answer.json()


def wait_for_count(count: int, path: str) -> list:
    deadline = time.monotonic() + TIMEOUT_S
    while len(found := get_list(path)) != count:
        if time.monotonic() > deadline:
            raise AssertionError(f"{path}: expected {count} items, actual {len(found)}")
        time.sleep(0.1)
    return found


def wait_until_queue_empty() -> None:
    """Waits, since a message that is processed after the purge would be stored again."""
    counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    deadline = time.monotonic() + TIMEOUT_S
    sqs = aws_client("sqs", "AWS_ENDPOINT_URL")
    while True:
        answer = sqs.get_queue_attributes(QueueUrl=os.environ["INGEST_QUEUE_URL"], AttributeNames=counts)
        if all(answer["Attributes"][name] == "0" for name in counts):
            return
        if time.monotonic() > deadline:
            raise AssertionError(answer["Attributes"])
        time.sleep(0.1)


def download_bucket(folder: Path) -> list[str]:
    """Downloads all objects of the bucket and returns their keys."""
    s3 = aws_client("s3", "AWS_ENDPOINT_URL")
    keys = [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    for key in keys:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(BUCKET, key, path)
    return keys


def compact_json(text: str) -> str:
    """JSON without whitespace between tokens, as DuckDB returns it."""
    return "".join(re.findall(r'"(?:[^"\\]|\\.)*"|[^\s"]+', text))


class ArchiveFixture:
    """The published messages and the resulting objects."""

    def __init__(self):
        self.sent = {device: sample_messages(device) for device in (DEVICE, PURGED)}
        self.sent[OLD] = [json.dumps({"device_id": OLD, "temperature": 21.5, "unit": "celsius"})]
        for device in self.sent:
            body = {"device_id": device, "device_name": device}
            requests.post(f"{REST}/api/devices", json=body, timeout=TIMEOUT_S).raise_for_status()
        for messages in zip(*(self.sent[device] for device in (DEVICE, PURGED)), strict=True):
            # Alternating, so that the devices share objects; each message twice.
            for device, message in zip((DEVICE, PURGED), messages, strict=True):
                publish(device, message)
                publish(device, message)
        publish(OLD, self.sent[OLD][0])
        for device, messages in self.sent.items():
            wait_for_count(len(messages), f"/api/devices/{device}/raw-data?limit=1000")
        wait_until_queue_empty()
        self.day = datetime.now(UTC).date()
        self.points = get_list(f"/api/devices/{DEVICE}/metrics?start=-1d")

        requests.delete(f"{REST}/api/devices/{PURGED}?purge=true", timeout=TIMEOUT_S).raise_for_status()
        wait_for_count(0, f"/api/devices/{PURGED}/raw-data")

        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        self.objects = {key: (self.folder / key).read_bytes() for key in download_bucket(self.folder) if key.startswith("archive/")}

    def remove(self) -> None:
        self._folder.cleanup()


def setUpModule():
    global fixture
    fixture = ArchiveFixture()
    unittest.addModuleCleanup(fixture.remove)


class Archive(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.duckdb = duckdb.connect()
        cls.addClassCleanup(cls.duckdb.close)
        cls.duckdb.execute("SET TimeZone = 'UTC'")
        cls.duckdb.execute(documented_query("CREATE VIEW").replace("s3://BUCKET", str(fixture.folder)))

    def test_each_message_is_archived_once_and_purged_ones_are_removed(self):
        rows = self.duckdb.sql("SELECT topic, payload FROM messages").fetchall()
        found = [(topic, compact_json(payload)) for topic, payload in rows]
        sent = [
            (f"iot/{device}/telemetry", compact_json(message))
            for device, messages in fixture.sent.items()
            for message in messages
            if device != PURGED
        ]
        self.assertEqual(sorted(found), sorted(sent))

    def test_objects_are_shared_and_contain_redacted_lines(self):
        """The precondition of the other tests."""
        objects = fixture.objects.values()
        members = [body.count(b"\x1f\x8b\x08") for body in objects]
        lines = [len(gzip.decompress(body).splitlines()) for body in objects]
        self.assertGreater(max(members), 1)
        self.assertGreater(sum(lines), sum(len(fixture.sent[device]) for device in (DEVICE, OLD)))

    def test_documented_count_by_device_and_category_is_correct(self):
        text = documented_query("SELECT device_id").replace("dt = '2026-03-01'", f"dt >= '{fixture.day - timedelta(days=1)}'")
        self.assertEqual(
            self.duckdb.sql(text).fetchall(),
            [(device, "telemetry", len(fixture.sent[device])) for device in (DEVICE, OLD)],
        )
        other = documented_query("SELECT device_id").replace("2026-03-01", "2001-01-01")
        self.assertEqual(self.duckdb.sql(other).fetchall(), [])

    def test_measurements_equal_those_of_the_rest_api(self):
        rows = self.duckdb.sql(documented_query("SELECT time, metric")).fetchall()
        found = sorted((at, metric, value) for at, metric, _, value in rows)
        expected = sorted((datetime.fromisoformat(p["time"]), p["metric"], p["value"]) for p in fixture.points)
        self.assertEqual(found, expected)
        self.assertLess(len(found), 3 * len(fixture.sent[DEVICE]), "there are no conflicting points")


class Catalog(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        resources = yaml_parse(CATALOG.read_text())["Resources"]
        cls.table = resources["Messages"]["Properties"]["TableInput"]

    def test_table_partitions_match_the_object_keys(self):
        parameters = self.table["Parameters"]
        template = parameters["storage.location.template"]["Fn::Sub"]
        digits = int(parameters["projection.hh.digits"])
        hours = range(*(int(n) + m for m, n in enumerate(parameters["projection.hh.range"].split(","))))
        self.assertEqual(parameters["projection.dt.format"], "yyyy-MM-dd")
        now = datetime.now(UTC)
        places = {
            template.replace("${!dt}", f"{day:%Y-%m-%d}").replace("${!hh}", f"{hour:0{digits}}")
            for day in (now, now - timedelta(days=1))
            for hour in hours
        }
        self.assertEqual(len(places), 48)
        for key in fixture.objects:
            self.assertIn("s3://${ArchiveBucketName}/" + key.rsplit("/", 1)[0], places)
        self.assertEqual([part["Name"] for part in self.table["PartitionKeys"]], ["dt", "hh"])

    def test_table_columns_match_the_fields_of_a_line(self):
        columns = [column["Name"] for column in self.table["StorageDescriptor"]["Columns"]]
        lines = [line for body in fixture.objects.values() for line in gzip.decompress(body).splitlines()]
        self.assertTrue(lines)
        for line in lines:
            self.assertEqual(list(json.loads(line)), columns)


if __name__ == "__main__":
    unittest.main()
