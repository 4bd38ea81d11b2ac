"""A throw-away certification authority and certificates for the testbed's servers, as files of one folder."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from azureml_emulator import certificates

LIFE = datetime.timedelta(days=2)


@dataclass(frozen=True)
class Certificate:
    """PEM files of one certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """An authority whose own certificate is the PEM file `bundle`."""

    def __init__(self, folder: Path, name: str = "edgetrain testbed") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._own = certificates.Authority(name, LIFE)
        self.bundle = folder / "ca.pem"
        self.bundle.write_bytes(self._own.pem)

    def issue(self, *hosts: str, name: str = "server") -> Certificate:
        """A server certificate for names and addresses."""
        files = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        certificate, key = self._own.issue(*hosts)
        files.certificate.write_bytes(certificate)
        certificates.write_private(files.key, key)
        return files
