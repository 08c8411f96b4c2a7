"""All functions with the stores of one AWS endpoint, each behind its own recorder."""

import base64
import itertools
import json
import time
from pathlib import Path
from urllib.parse import urlencode

import boto3
from deploy.endpoint import Endpoint
from function import Function
from recorder import Recorder
from roles import Template, TimestreamTemplate
from timestream import Timestream

STORES = "stores"


def deploy_stores(client, template: Path) -> dict[str, str]:
    """Creates the stack of the stores and returns its outputs."""
    client.create_stack(
        StackName=STORES, TemplateBody=template.read_text(), Capabilities=["CAPABILITY_AUTO_EXPAND"]
    )
    while True:
        stack = client.describe_stacks(StackName=STORES)["Stacks"][0]
        if stack["StackStatus"] == "CREATE_COMPLETE":
            return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        if not stack["StackStatus"].endswith("IN_PROGRESS"):
            raise AssertionError(f"{stack['StackStatus']}: {stack.get('StackStatusReason')}")
        time.sleep(0.05)


class Environment:
    def __init__(self, checkout: Path, binaries: Path, folder: Path, endpoint: Endpoint):
        self._endpoint = endpoint
        self.outputs = deploy_stores(self.client("cloudformation"), checkout / "infra/stores/template.yaml")
        self.template = Template(checkout / "template.yaml", self.outputs)
        self._binaries = binaries
        self._folder = folder
        self._numbers = itertools.count()
        self._started_functions: list[Function] = []
        self.recorders = {name: Recorder(endpoint.url) for name in self.template.functions}
        parameters = self.template.nested_parameters("Timestream")
        self.timestream_template = TimestreamTemplate(checkout / "infra/timestream/template.yaml", parameters)
        self._timestream = Timestream(binaries / "timestream", folder)
        self._timestream.create_table(parameters["DatabaseName"], parameters["TableName"])
        # The calls of Timestream, by the functions with permissions for it.
        self.timestream_recorders = {
            name: Recorder(self._timestream.url)
            for name in self.template.functions
            if self.template.role(name) in self.timestream_template.roles()
        }
        self._functions = {name: self.start(name) for name in self.template.functions}

    def client(self, service: str):
        return boto3.client(
            service,
            endpoint_url=self._endpoint.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )

    def start(self, name: str, **settings: str) -> Function:
        """Starts a function with the settings of the template, overridden by these."""
        env_vars = self.template.settings() | {
            "AWS_ENDPOINT_URL": self.recorders[name].url,
            "API_AUTH": "none",
            # Commands time out at once.
            "COMMAND_TIMEOUT_S": "1",
            # Old messages do not expire.
            "MESSAGE_TTL_DAYS": "0",
            "RUST_LOG": "warn",
        }
        log = self._folder / f"{name}-{next(self._numbers)}.log"
        function = Function(self._binaries / name, env_vars | settings, log)
        self._started_functions.append(function)
        return function

    def start_with_timestream(self, name: str) -> Function:
        """Starts a function with Timestream as its metric store."""
        url = self.timestream_recorders[name].url
        endpoints = {f"AWS_ENDPOINT_URL_TIMESTREAM_{api}": url for api in ("WRITE", "QUERY")}
        return self.start(name, METRIC_STORE="timestream", **endpoints)

    def stop(self) -> None:
        for function in self._started_functions:
            function.stop()
        for recorder in itertools.chain(self.recorders.values(), self.timestream_recorders.values()):
            recorder.stop()
        self._timestream.stop()

    def rest(self, function: str, method: str, path: str, body: dict | None = None, headers=None, **query: str):
        """Sends a request to a function; returns the status and the body, parsed if it is JSON."""
        return self.rest_with(self._functions[function], method, path, body, headers, **query)

    def rest_with(self, function: Function, method: str, path: str, body: dict | None = None, headers=None, **query: str):
        """Sends a request to a function that was started separately."""
        event = {
            "rawPath": path,
            "rawQueryString": urlencode(query),
            "headers": {"content-type": "application/json"} | (headers or {}),
            "body": json.dumps(body) if body is not None else None,
            "requestContext": {"stage": "$default", "http": {"method": method, "path": path}},
        }
        answer = function.invoke(event)
        try:
            return answer["statusCode"], json.loads(answer["body"])
        except ValueError:
            return answer["statusCode"], answer["body"]

    def publish(self, device: str, category: str, payload: dict | bytes, ago_s: int = 0, ingest: Function | None = None):
        """Invokes ingest with a message as from an IoT rule; returns whether it was processed."""
        return self.publish_all([(device, category, payload)], ago_s, ingest)

    def publish_all(self, messages: list, ago_s: int = 0, ingest: Function | None = None):
        """Invokes ingest with a batch of (device, category, payload)."""
        received_at = int((time.time() - ago_s) * 1000)
        records = [_record(number, received_at, *message) for number, message in enumerate(messages)]
        answer = (ingest or self._functions["ingest"]).invoke({"Records": records})
        return not answer["batchItemFailures"]

    def invoke_watchdog(self, **request):
        return self._functions["watchdog"].invoke(request)

    def invoke_provisioning(self, device: str, certificate: str):
        """Invokes the pre-provisioning hook as AWS IoT does for a claim certificate."""
        claim = {"claimCertificateId": "c" * 64, "certificateId": certificate, "parameters": {"DeviceId": device}}
        return self._functions["provisioning"].invoke(claim)

    def make_all_due(self, table: str) -> None:
        """Sets all due times of a table to the past."""
        dynamodb = self.client("dynamodb")
        name = self.outputs[table]
        description = dynamodb.describe_table(TableName=name)["Table"]
        keys = [key["AttributeName"] for key in description["KeySchema"]]
        for item in dynamodb.scan(TableName=name)["Items"]:
            if "due_at" in item:
                dynamodb.update_item(
                    TableName=name,
                    Key={key: item[key] for key in keys},
                    UpdateExpression="SET due_at = :past",
                    ExpressionAttributeValues={":past": {"S": "1970-01-01T00:00:00.000000000Z"}},
                )

    def delete_archive_objects(self, prefix: str) -> None:
        s3 = self.client("s3")
        bucket = self.outputs["ArchiveBucketName"]
        for found in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=found["Key"])


def _record(number: int, received_at: int, device: str, category: str, payload: dict | bytes) -> dict:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    body = {
        "payload": base64.b64encode(data).decode(),
        "topic": f"iot/{device}/{category}",
        "received_at": received_at,
    }
    return {
        "messageId": str(number),
        "receiptHandle": "r",
        "body": json.dumps(body),
        "eventSource": "aws:sqs",
        "attributes": {},
        "messageAttributes": {},
    }
