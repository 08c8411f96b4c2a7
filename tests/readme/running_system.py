"""The system that `make run` starts, on ports of its own, and a shell beside it."""

import fcntl
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
BINARIES = Path(os.environ.get("CARGO_TARGET_DIR", CHECKOUT / "target")) / "debug"
# Variables of `make run` and their defaults.
PORT_VARIABLES = {
    "PORT": 8080,
    "MQTT_PORT": 1883,
    "ENDPOINT_PORT": 4566,
    "IOT_DATA_PORT": 4568,
    "RUNTIME_PORT": 9000,
    "TIMESTREAM_PORT": 4567,
    "TLS_PORT": 8883,
}
# Fails a start or a command; long enough for a slow machine.
TIMEOUT_S = 300


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return listener.connect_ex(("127.0.0.1", port)) != 0


def reserve_ports(count: int) -> tuple[list[int], list]:
    """Free ports, and the locks that reserve them. Blocks and locks are those of
    local/devstack/src/ports.rs.
    """
    folder = Path(tempfile.gettempdir()) / "iot-meter-ports"
    folder.mkdir(exist_ok=True)
    ports, locks = [], []
    for block in range(1_000):
        lock = (folder / str(block)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        locks.append(lock)
        first = 25_000 + 6 * block
        ports += [port for port in range(first, first + 6) if _is_free(port)]
        if len(ports) >= count:
            return ports[:count], locks
    raise AssertionError("no free ports")


class RunningSystem:
    """Starts as `make run`, without its installation and build. A second start keeps the data."""

    def __init__(self, data: Path):
        ports, self._locks = reserve_ports(len(PORT_VARIABLES))
        self.env = dict(zip(PORT_VARIABLES, map(str, ports), strict=True)) | {"DATA": str(data)}
        self.ports = dict(zip(PORT_VARIABLES.values(), ports, strict=True))
        self._log = data.with_suffix(".log")
        self._process: subprocess.Popen | None = None

    def start(self, **variables: str) -> None:
        """Starts the system with variables of `make run`, after the end of the one before."""
        self.stop()
        environment = os.environ | variables | self.env
        with self._log.open("w") as log:
            command = [BINARIES / "devstack", "run"]
            self._process = subprocess.Popen(command, env=environment, cwd=CHECKOUT, stdout=log, stderr=log)
        deadline = time.monotonic() + TIMEOUT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the system did not start:\n{self._log.read_text()}")
            time.sleep(0.1)

    def stop(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(TIMEOUT_S)
            self._process = None

    def close(self) -> None:
        self.stop()
        for lock in self._locks:
            lock.close()

    def _is_ready(self) -> bool:
        if "REST API" not in self._log.read_text():
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.env['PORT']}/readyz", timeout=TIMEOUT_S):
                return True
        except OSError:
            return False


class Shell:
    """A bash session: variables and functions last from one command to the next."""

    MARK = "--- exit status"

    def __init__(self, environment: dict[str, str]):
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            env=os.environ | environment,
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> tuple[int, str]:
        """The exit status and the output of a command."""
        timer = threading.Timer(TIMEOUT_S, self.close)
        timer.start()
        self._bash.stdin.write(f"{{ {command}\n}} </dev/null; printf '\\n{self.MARK} %s\\n' $?\n")
        self._bash.stdin.flush()
        output = []
        for line in self._bash.stdout:
            if line.startswith(self.MARK):
                timer.cancel()
                return int(line.removeprefix(self.MARK)), "".join(output)[:-1]
            output.append(line)
        raise AssertionError(f"the command did not end within {TIMEOUT_S} s:\n{command}\n{''.join(output)}")

    def close(self) -> None:
        if self._bash.poll() is None:
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()
