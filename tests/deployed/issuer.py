"""An OpenID Connect issuer: serves its configuration and keys over TLS, with its own CA."""

import datetime
import http.server
import ipaddress
import json
import ssl
import threading
import time
from base64 import urlsafe_b64encode
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

KEY_ID = "k1"


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _json(value: dict) -> str:
    return _base64url(json.dumps(value).encode())


class Issuer:
    """Serves until the end of the `with` block. Clients must trust the CA in the file `ca`."""

    def __init__(self, folder: Path):
        self.ca = folder / "issuer.pem"
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        key = folder / "issuer.key"
        _self_signed(self.ca, key)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._answer))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.ca, key)
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Issuer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, scope: str, audience: str, expires_in_s: int = 300, key: rsa.RSAPrivateKey | None = None) -> str:
        """A signed access token. With another key the signature is invalid."""
        now = int(time.time())
        claims = {"iss": self.url, "sub": "test", "aud": audience, "scope": scope, "exp": now + expires_in_s}
        signed = f"{_json({'alg': 'RS256', 'typ': 'JWT', 'kid': KEY_ID})}.{_json(claims)}"
        signature = (key or self._key).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"

    def _answer(self, path: str) -> dict | None:
        numbers = self._key.public_key().public_numbers()
        modulus = _base64url(numbers.n.to_bytes(256))
        exponent = _base64url(numbers.e.to_bytes(3))
        jwk = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID, "n": modulus, "e": exponent}
        documents = {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": {"keys": [jwk]},
        }
        return documents.get(path)


def generate_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _handler(answer):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = answer(self.path)
            self.send_response(200 if document else 404)
            self.end_headers()
            self.wfile.write(json.dumps(document or {}).encode())

        def log_message(self, *_) -> None:
            pass

    return Handler


def _self_signed(certificate: Path, key_file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test issuer")])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
