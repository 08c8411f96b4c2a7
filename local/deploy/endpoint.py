"""MiniStack without data, on a given port."""

import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": REGION}
# Fails the start; long enough for a slow machine, whose first start compiles Python's byte code.
TIMEOUT_S = 300


class DeploymentFailed(Exception):
    """A deployment failed; the message contains the solution."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Endpoint:
    """A process that ends with the `with` block. Its data is discarded."""

    def __init__(self, tools: Path, port: int, log: Path, environment: dict[str, str] | None = None):
        self.url = f"http://127.0.0.1:{port}"
        self._program = str(tools / "ministack")
        self._log = log
        self._environment = {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "MINISTACK_HOST": "127.0.0.1",
            # Both services would listen on every interface.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            # The endpoint of the native functions. The default is a host name that DNS does not
            # resolve.
            "AWS_ENDPOINT_URL": self.url,
        } | (environment or {})

    def __enter__(self) -> "Endpoint":
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [self._program],
                env=os.environ | self._environment,
                cwd=self._log.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + TIMEOUT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise DeploymentFailed(f"MiniStack does not respond; see its log: {self._log}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=10):
                return True
        except OSError:
            return False
