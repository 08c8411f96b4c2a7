"""A proxy between a function and the AWS endpoint that records the IAM permissions of each call."""

import http.client
import http.server
import json
import re
import threading
from collections.abc import Callable
from contextlib import contextmanager
from urllib.parse import parse_qs, unquote, urlsplit

REGION_AND_ACCOUNT = "us-east-1:000000000000"
# A transaction requires the permission of each of its parts.
TRANSACTION_ACTIONS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
PARTIQL_STATEMENT = re.compile(r'\s*(INSERT\s+INTO|UPDATE|DELETE\s+FROM|SELECT\s.*?FROM)\s+"([^"]+)"', re.I | re.S)

TIMESTREAM_TABLE = re.compile(r'\bFROM\s+"([^"]+)"\."([^"]+)"', re.I)

# The SDK does not retry it.
ACCESS_DENIED = (
    400,
    {"content-type": "application/x-amz-json-1.0"},
    json.dumps({"__type": "com.amazon.coral.service#AccessDeniedException", "message": "rejected by the test"}).encode(),
)

Permission = tuple[str, str]


class Recorder:
    """Records the calls of a function: `permissions` are pairs of action and resource."""

    def __init__(self, endpoint: str):
        self.permissions: set[Permission] = set()
        self._upstream = urlsplit(endpoint).netloc
        self._denied: Callable[[Permission], bool] = lambda _: False
        self._drops_response: Callable[[Permission], bool] = lambda _: False
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def denying(self, *actions: str, on: str = ""):
        """Rejects the calls that require one of these actions."""
        self._denied = lambda permission: permission[0] in actions and on in permission[1]
        try:
            yield
        finally:
            self._denied = lambda _: False

    @contextmanager
    def dropping_responses(self, *actions: str, on: str = ""):
        """Forwards the calls that require one of these actions, and responds as if they were
        rejected.
        """
        self._drops_response = lambda permission: permission[0] in actions and on in permission[1]
        try:
            yield
        finally:
            self._drops_response = lambda _: False

    def forward(self, method: str, path: str, headers, body: bytes):
        permissions = required_permissions(method, path, headers, body)
        self.permissions |= permissions
        if any(self._denied(permission) for permission in permissions):
            return ACCESS_DENIED
        connection = http.client.HTTPConnection(self._upstream, timeout=300)
        # `Host` names the upstream.
        kept = {name: value for name, value in headers.items() if name.lower() not in ("host", "connection")}
        connection.request(method, path, body, kept)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status == 404 and any(action == "s3:GetObject" for action, _ in permissions):
            # Without permission to list the bucket, S3 responds with 403 instead of 404.
            bucket = unquote(urlsplit(path).path).lstrip("/").split("/", 1)[0]
            self.permissions.add(("s3:ListBucket", f"arn:aws:s3:::{bucket}"))
        connection.close()
        if any(self._drops_response(permission) for permission in permissions):
            return ACCESS_DENIED
        return answer.status, dict(answer.getheaders()), content


def required_permissions(method: str, path: str, headers, body: bytes) -> set[Permission]:
    """The IAM permissions of a request. An unknown request is an error."""
    target = headers.get("x-amz-target", "")
    if target.startswith("DynamoDB_"):
        return _dynamodb(target.split(".")[1], json.loads(body))
    if target.startswith("AmazonSQS."):
        queue = json.loads(body)["QueueUrl"].rsplit("/", 1)[1]
        return {(f"sqs:{target.split('.')[1]}", f"arn:aws:sqs:{REGION_AND_ACCOUNT}:{queue}")}
    if target.startswith("Timestream_"):
        return _timestream(target.split(".")[1], json.loads(body))
    place = unquote(urlsplit(path).path)
    if place.startswith("/topics/"):
        return {("iot:Publish", f"arn:aws:iot:{REGION_AND_ACCOUNT}:topic/{place.removeprefix('/topics/')}")}
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        if form.get("Action") == "Publish":
            return {("sns:Publish", form["TopicArn"])}
    if "/s3/aws4_request" in headers.get("authorization", ""):
        return _s3(method, place)
    raise AssertionError(f"unknown request, so its permission is unknown: {method} {path} {target}")


def _dynamodb(operation: str, request: dict) -> set[Permission]:
    def permission(action: str, table: str, index: str | None = None) -> Permission:
        arn = f"arn:aws:dynamodb:{REGION_AND_ACCOUNT}:table/{table}"
        return f"dynamodb:{action}", f"{arn}/index/{index}" if index else arn

    match operation:
        case "BatchGetItem" | "BatchWriteItem":
            return {permission(operation, table) for table in request["RequestItems"]}
        case "TransactWriteItems":
            parts = [part for item in request["TransactItems"] for part in item.items()]
            return {permission(TRANSACTION_ACTIONS[kind], part["TableName"]) for kind, part in parts}
        case "TransactGetItems":
            return {permission("GetItem", item["Get"]["TableName"]) for item in request["TransactItems"]}
        case "BatchExecuteStatement":
            found = [PARTIQL_STATEMENT.match(statement["Statement"]) for statement in request["Statements"]]
            return {permission(f"PartiQL{match[1].split()[0].title()}", match[2]) for match in found}
        case _:
            return {permission(operation, request["TableName"], request.get("IndexName"))}


def _timestream(operation: str, request: dict) -> set[Permission]:
    match operation:
        case "WriteRecords":
            action, tables = "WriteRecords", [(request["DatabaseName"], request["TableName"])]
        case "Query":
            # Further pages of a result require the same permission.
            action, tables = "Select", TIMESTREAM_TABLE.findall(request["QueryString"])
        case _:
            raise AssertionError(f"unknown operation, so its permission is unknown: timestream:{operation}")
    assert tables, request
    permissions = {(f"timestream:{action}", timestream_table(database, table)) for database, table in tables}
    # On AWS the SDK calls DescribeEndpoints first. It does not with a configured endpoint, as here.
    return permissions | {("timestream:DescribeEndpoints", "*")}


def timestream_table(database: str, table: str) -> str:
    return f"arn:aws:timestream:{REGION_AND_ACCOUNT}:database/{database}/table/{table}"


def _s3(method: str, place: str) -> set[Permission]:
    bucket, _, key = place.lstrip("/").partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    if not key:
        assert method in ("HEAD", "GET"), method
        return {("s3:ListBucket", arn)}
    action = {"GET": "GetObject", "HEAD": "GetObject", "PUT": "PutObject", "DELETE": "DeleteObject"}[method]
    return {(f"s3:{action}", f"{arn}/{key}")}


def _handler(recorder: Recorder):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, headers, content = recorder.forward(self.command, self.path, self.headers, body)
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

        def log_message(self, *_) -> None:
            pass

    return Handler
