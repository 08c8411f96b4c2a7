"""The certificate authority of the local broker, with its certificate revocation list.

On AWS, AWS IoT issues the certificates.
"""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .identity import CA_FILE, write_secret

CERTIFICATE_LIFETIME = datetime.timedelta(days=3650)
CRL_FILE = "revoked.pem"
_CA_KEY_FILE = "ca.key"


class CertificateAuthority:
    """A certificate authority in a folder, created if it does not exist."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (folder / _CA_KEY_FILE).is_file():
            self._key = serialization.load_pem_private_key((folder / _CA_KEY_FILE).read_bytes(), None)
            self._certificate = x509.load_pem_x509_certificate((folder / CA_FILE).read_bytes())
            return
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = _x509_name("IoT Meter, local devices")
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self._certificate = (
            _certificate_builder(name, name, self._key.public_key(), CERTIFICATE_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        write_secret(folder / _CA_KEY_FILE, _pem_of_key(self._key))
        (folder / CA_FILE).write_text(self.ca)
        self._write_crl([])

    @property
    def ca(self) -> str:
        return _pem(self._certificate)

    def device(self, device_id: str) -> tuple[str, str]:
        """Issues a client certificate; returns it with its private key."""
        return self._issue(device_id, ExtendedKeyUsageOID.CLIENT_AUTH, [])

    def broker(self) -> tuple[str, str]:
        """Issues the server certificate for loopback; returns it with its private key."""
        here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return self._issue("broker", ExtendedKeyUsageOID.SERVER_AUTH, [here, x509.DNSName("localhost")])

    def revoke(self, certificate: str) -> None:
        """Adds the certificate to the revocation list, which the broker reads at start and on SIGHUP."""
        number = x509.load_pem_x509_certificate(certificate.encode()).serial_number
        listed = x509.load_pem_x509_crl((self.folder / CRL_FILE).read_bytes())
        numbers = [entry.serial_number for entry in listed]
        self._write_crl([*numbers, *({number} - set(numbers))])

    def _issue(self, name: str, usage, alternatives: list) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _certificate_builder(_x509_name(name), self._certificate.subject, key.public_key(), CERTIFICATE_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return _pem(builder.sign(self._key, hashes.SHA256())), _pem_of_key(key)

    def _write_crl(self, numbers: list[int]) -> None:
        now = _now()
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._certificate.subject)
        builder = builder.last_update(now).next_update(now + CERTIFICATE_LIFETIME)
        for number in numbers:
            entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        (self.folder / CRL_FILE).write_text(_pem(builder.sign(self._key, hashes.SHA256())))


def _x509_name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=False)])


def _now() -> datetime.datetime:
    # A minute in the past, for clients with a slow clock.
    return datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=1)


def _certificate_builder(subject: x509.Name, issuer: x509.Name, key, lifetime: datetime.timedelta) -> x509.CertificateBuilder:
    now = _now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + lifetime)
    )


def _pem(thing) -> str:
    return thing.public_bytes(serialization.Encoding.PEM).decode()


def _pem_of_key(key) -> str:
    private, no_password = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, private, no_password).decode()
