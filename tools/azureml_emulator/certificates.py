"""The emulator's own authority and server certificate, in the data folder: made once, kept while they are good.

The testbed's servers get theirs from the same `Authority`.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = timedelta(days=365)
RENEWED = timedelta(days=30)
HOSTS = (
    "localhost",
    "127.0.0.1",
    "management.azure.com",
    "login.microsoftonline.com",
    "ml.azure.com",
    "*.api.azureml.ms",
    "*.blob.core.windows.net",
    "*.azurecr.io",
)


@dataclass(frozen=True)
class Certificates:
    """PEM files. `authority` is the authority alone, `bundle` it and the public ones."""

    authority: Path
    bundle: Path
    certificate: Path
    key: Path


def ensure(folder: Path) -> Certificates:
    """The data folder's certificates."""
    place = folder / "tls"
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = Certificates(place / "ca.pem", place / "bundle.pem", place / "server.pem", place / "server.key")
    if not _good(files):
        _make(files)
    return files


def _good(files: Certificates) -> bool:
    if not all(path.is_file() for path in (files.authority, files.bundle, files.certificate, files.key)):
        return False
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    return certificate.not_valid_after_utc - datetime.now(UTC) > RENEWED


def _make(files: Certificates) -> None:
    # The authority's key is not kept: nothing else is ever signed with it.
    authority = Authority("azureml-emulator", LIFE)
    certificate, key = authority.issue(*HOSTS)
    files.authority.write_bytes(authority.pem)
    files.bundle.write_bytes(Path(certifi.where()).read_bytes() + b"\n" + authority.pem)
    files.certificate.write_bytes(certificate)
    write_private(files.key, key)


class Authority:
    """An authority whose key stays in this process. `pem` is its own certificate."""

    def __init__(self, name: str, life: timedelta) -> None:
        self._name, self._life = _name(name), life
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        own = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(self._identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = own.public_bytes(serialization.Encoding.PEM)

    def issue(self, *hosts: str) -> tuple[bytes, bytes]:
        """A server certificate for names and addresses, and its key, both as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(_name(hosts[0]), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return certificate.public_bytes(pem), plain

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + self._life)
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only this account may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
