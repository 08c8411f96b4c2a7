"""A function as a process, with a Lambda runtime API that sends it events."""

import http.server
import json
import os
import queue
import subprocess
import threading
from pathlib import Path

# Fails an invocation; long enough for a slow machine.
INVOCATION_TIMEOUT_S = 300


class Function:
    def __init__(self, binary: Path, env_vars: dict[str, str], log: Path):
        self._events: queue.Queue = queue.Queue()
        self._results: queue.Queue = queue.Queue()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._events, self._results))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        env_vars = kept | env_vars | {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": binary.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": "us-east-1",
        }
        self._log = log.open("w")
        self._process = subprocess.Popen([binary], env=env_vars, stdout=self._log, stderr=self._log)

    def invoke(self, event: dict):
        """Invokes the function and returns its response. An error of the function is raised."""
        self._events.put(event)
        kind, answer = self._results.get(timeout=INVOCATION_TIMEOUT_S)
        if kind != "response":
            raise AssertionError(f"{self._log.name}: {answer}")
        return answer

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._server.shutdown()
        self._server.server_close()
        self._log.close()


def _handler(events: queue.Queue, results: queue.Queue):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            event = json.dumps(events.get()).encode()
            self.send_response(200)
            self.send_header("lambda-runtime-aws-request-id", "00000000-0000-4000-8000-000000000000")
            self.send_header("lambda-runtime-deadline-ms", "4102444800000")
            self.send_header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:f")
            self.send_header("content-length", str(len(event)))
            self.end_headers()
            self.wfile.write(event)

        def do_POST(self) -> None:
            length = self.headers.get("content-length")
            body = self.rfile.read(int(length)) if length else self._read_chunked()
            results.put((self.path.rsplit("/", 1)[1], json.loads(body or b"null")))
            self.send_response(202)
            self.send_header("content-length", "0")
            self.end_headers()

        def _read_chunked(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, *_) -> None:
            pass

    return Handler
