"""Docker distribution: a registry that is open, or asks for a password or for tokens. It stands for ACR."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Literal

from testbed.ca import Authority
from testbed.part import Part, Process, serve
from testbed.tokens import Account, TokenServer
from testbed.vm import HOST_ADDRESSES

Auth = Literal["open", "basic", "token"]


def installed() -> bool:
    """Whether distribution and what makes its password file are on this machine."""
    return shutil.which("docker-registry") is not None and shutil.which("htpasswd") is not None


class Registry(Part):
    """One registry, empty at first.

    `auth`: "open" is plain http without sign-in; "basic" is https with one user; "token" is https with `tokens`, a
    token server. `host` is the address that others reach it by: with a VM's `host_address` the VM can pull. `bind`
    is where it listens. `accounts` are for "token"; by default `username` may do everything.
    """

    def __init__(
        self,
        auth: Auth = "open",
        *,
        host: str = "127.0.0.1",
        bind: str = "127.0.0.1",
        port: int | None = None,
        accounts: Mapping[str, Account] | None = None,
        anonymous: Mapping[str, Sequence[str]] | None = None,
        token_lifetime: int = 300,
        tls: bool | None = None,
    ) -> None:
        super().__init__("registry")
        self.auth: Auth = auth
        self.host, self.bind, self.port = host, bind, port or 0
        self.username = "pusher"
        self.password = secrets.token_urlsafe(16)
        self.log = self.folder / "registry.log"
        self.authority = Authority(self.folder / "ca")
        hosts = dict.fromkeys((host, "127.0.0.1", "localhost", *HOST_ADDRESSES))
        self._tls = self.authority.issue(*hosts) if (auth != "open" if tls is None else tls) else None
        self.tokens: TokenServer | None = None
        self._accounts = dict(accounts or {self.username: Account(self.password)})
        self._anonymous, self._lifetime = anonymous, token_lifetime
        self._process: Process | None = None

    @property
    def name(self) -> str:
        """`host:port`, as it stands before a repository's name."""
        return f"{self.host}:{self.port}"

    def name_at(self, host: str = "") -> str:
        """`host:port` as seen from where `host` is this machine, such as a VM's `host_address`."""
        return f"{host or self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self._tls else 'http'}://{self.name}"

    @property
    def plain(self) -> bool:
        """Whether it speaks http without TLS."""
        return self._tls is None

    @property
    def ca_bundle(self) -> str:
        """The PEM file of the authority to trust; empty where there is no TLS."""
        return str(self.authority.bundle) if self._tls else ""

    def start(self) -> None:
        """Start, and wait until it listens."""
        if self.auth == "token" and self.tokens is None:
            self.tokens = TokenServer(
                self.folder,
                service=self.host,
                tls=self._tls,
                host=self.host,
                bind=self.bind,
                accounts=self._accounts,
                lifetime=self._lifetime,
                anonymous=self._anonymous,
            )
        near = "127.0.0.1" if self.bind == "0.0.0.0" else self.bind  # noqa: S104
        self._process, self.port = serve(self._launch, near, self.port or None)

    def stop(self) -> None:
        """Stop the registry; the token server, if any, goes on until `close`."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def close(self) -> None:
        """Stop everything and remove the scratch folder."""
        if self.tokens is not None:
            self.tokens.close()
        super().close()

    def restart(self) -> None:
        """Stop and start on the same port, with the same images."""
        self.stop()
        self.start()

    def skopeo(self, side: str = "dest") -> list[str]:
        """The options that skopeo needs for this registry as "src" or "dest" (or "" for inspect)."""
        dash = f"--{side}-" if side else "--"
        options = [f"{dash}tls-verify=false" if self.plain else f"{dash}cert-dir={self._certs()}"]
        if self.auth != "open":
            options.append(f"{dash}creds={self.username}:{self.password}")
        return options

    def _certs(self) -> str:
        folder = self.folder / "certs.d"
        folder.mkdir(exist_ok=True)
        shutil.copyfile(self.authority.bundle, folder / "ca.crt")
        return str(folder)

    def _launch(self, port: int) -> Process:
        settings: dict[str, object] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}, "delete": {"enabled": True}},
            "http": {"addr": f"{self.bind}:{port}", "relativeurls": True, "secret": "testbed"},
        }
        if self._tls is not None:
            pair = {"certificate": str(self._tls.certificate), "key": str(self._tls.key)}
            settings["http"] = {**settings["http"], "tls": pair}  # type: ignore[dict-item]
        if self.auth == "basic":
            passwords = self.folder / "htpasswd"
            command = ["htpasswd", "-niB", self.username]
            made = subprocess.run(command, input=self.password, capture_output=True, text=True, check=True)
            passwords.write_text(made.stdout)
            settings["auth"] = {"htpasswd": {"realm": "testbed", "path": str(passwords)}}
        elif self.tokens is not None:
            settings["auth"] = {
                "token": {
                    "realm": f"{self.tokens.url}/token",
                    "service": self.tokens.service,
                    "issuer": "edgetrain-testbed",
                    "rootcertbundle": str(self.tokens.root),
                }
            }
        # JSON is YAML: no emitter is needed.
        config = self.folder / "registry.yml"
        config.write_text(json.dumps(settings))
        return Process(["docker-registry", "serve", str(config)], self.log)
