"""The configuration of the local broker, which applies the permissions of the IoT policy."""

import base64
import hashlib
import secrets
from pathlib import Path

from .authority import CRL_FILE, CertificateAuthority
from .identity import CA_FILE, write_secret
from .policy import device_permissions, mosquitto_acl

# The user of the IoT Core emulator, which may use all topics, on a listener of its own.
IOT_CORE = "iot-core"
IOT_CORE_PASSWORD = "iot-core.password"
_DEVICES_PORT = "devices.port"
_ITERATIONS = 10_000


def write_broker_config(authority: CertificateAuthority, devices_port: int, iot_core_port: int) -> str:
    """Writes the files of the listeners; returns the lines of mosquitto.conf that use them."""
    folder = authority.folder
    certificate, key = authority.broker()
    (folder / "broker.pem").write_text(certificate)
    write_secret(folder / "broker.key", key)
    (folder / _DEVICES_PORT).write_text(f"{devices_port}\n")
    (folder / "devices.acl").write_text(mosquitto_acl(device_permissions()))
    (folder / "iot-core.acl").write_text(f"user {IOT_CORE}\ntopic readwrite #\n")
    password = secrets.token_urlsafe(24)
    write_secret(folder / IOT_CORE_PASSWORD, password)
    write_secret(folder / "passwords", f"{IOT_CORE}:{_hash_password(password)}\n")
    return f"""\
per_listener_settings true

listener {iot_core_port} 127.0.0.1
allow_anonymous false
password_file {folder / "passwords"}
acl_file {folder / "iot-core.acl"}

# The common name of the certificate is the user name and client id, as the thing name is on AWS.
listener {devices_port} 127.0.0.1
allow_anonymous false
cafile {folder / CA_FILE}
certfile {folder / "broker.pem"}
keyfile {folder / "broker.key"}
crlfile {folder / CRL_FILE}
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
acl_file {folder / "devices.acl"}
"""


def devices_port(folder: Path) -> int:
    """The port where devices connect to the broker of an authority's folder; 8883 before its first start."""
    path = folder / _DEVICES_PORT
    return int(path.read_text()) if path.is_file() else 8883


def _hash_password(password: str) -> str:
    """Hashes a password in the format of mosquitto_passwd: PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
