"""The identity of a device: certificate, key and endpoint, as files in a folder."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

CA_FILE, CERTIFICATE_FILE, KEY_FILE = "ca.pem", "certificate.pem", "private.key"


@dataclass(frozen=True)
class Identity:
    device_id: str
    ca: str
    certificate: str
    key: str
    host: str
    port: int

    def write(self, folder: Path) -> Path:
        """Writes the files to `folder`/device id. Only their owner can read the key."""
        place = folder / self.device_id
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(place / KEY_FILE, self.key)
        (place / CERTIFICATE_FILE).write_text(self.certificate)
        (place / CA_FILE).write_text(self.ca)
        connect = {"client_id": self.device_id, "host": self.host, "port": self.port}
        (place / "connect.json").write_text(json.dumps(connect, indent=2) + "\n")
        return place

    def example_commands(self, folder: Path) -> str:
        """Returns commands that publish with this identity."""
        place = folder / self.device_id
        files = f"--cafile {place / CA_FILE} --cert {place / CERTIFICATE_FILE} --key {place / KEY_FILE}"
        message = json.dumps({"device_id": self.device_id, "temperature": 23.5, "unit": "celsius"}, separators=(",", ":"))
        return (
            f"$ mosquitto_pub -h {self.host} -p {self.port} -i {self.device_id} {files} "
            f"-q 1 -t iot/{self.device_id}/telemetry -m '{message}'\n"
            f"$ cargo run --quiet --package simulator -- --broker {self.host}:{self.port} --identities {folder} --device-id {self.device_id}\n"
        )


def write_secret(path: Path, text: str) -> None:
    """Replaces a file by one that only its owner can read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
