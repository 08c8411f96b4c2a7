"""The local broker with the rules of AWS IoT: Mosquitto's listeners, over an authority's folder."""

import base64
import hashlib
import secrets
from pathlib import Path

from .authority import REVOKED, Authority
from .identity import CA, write_secret
from .policy import device_rights, mosquitto_acl

# The stand-in of IoT Core's rules sees and says everything, on a listener of its own.
EDGE = "edge"
EDGE_PASSWORD = "edge.password"
_ITERATIONS = 10_000


def prepare(authority: Authority, devices_port: int, edge_port: int) -> str:
    """Writes what the listeners need into the authority's folder; the lines of mosquitto.conf that use it."""
    folder = authority.folder
    certificate, key = authority.broker()
    (folder / "broker.pem").write_text(certificate)
    write_secret(folder / "broker.key", key)
    (folder / "devices.acl").write_text(mosquitto_acl(device_rights()))
    (folder / "edge.acl").write_text(f"user {EDGE}\ntopic readwrite #\n")
    password = secrets.token_urlsafe(24)
    write_secret(folder / EDGE_PASSWORD, password)
    write_secret(folder / "passwords", f"{EDGE}:{_hashed(password)}\n")
    return f"""\
per_listener_settings true

listener {edge_port} 127.0.0.1
allow_anonymous false
password_file {folder / "passwords"}
acl_file {folder / "edge.acl"}

# A certificate's name is the user and the client id, as a thing's name is on AWS.
listener {devices_port} 127.0.0.1
allow_anonymous false
cafile {folder / CA}
certfile {folder / "broker.pem"}
keyfile {folder / "broker.key"}
crlfile {folder / REVOKED}
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
acl_file {folder / "devices.acl"}
"""


def _hashed(password: str) -> str:
    """As mosquitto_passwd writes it: PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
