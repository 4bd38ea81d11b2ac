"""What azureml-core takes from its process: folders, proxy, authorities, its loggers and its retries.

The SDK has no settings for these. Proxy and authorities are set in the environment of this process when a session
is used (`HTTPS_PROXY`, `NO_PROXY`, `REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE`; `NETRC`, so that nobody's passwords are
sent), and programs started later inherit them. Home and configuration folder are read by the SDK while it is
imported: they are set for that moment only. What `~` means changes for the importing thread alone, and `HOME` for
nobody: git and other programs that are started meanwhile, and secrets below `~`, need the user's.
"""

from __future__ import annotations

import importlib
import logging
import os
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgetrain.core.errors import Unavailable
from edgetrain.core.ports import Outbound
from edgetrain.providers.azureml.errors import shown

LOGGERS = ("adal", "azure", "azureml", "cli", "knack", "msal", "msrest", "requests_oauthlib")
# What of the SDK looks at the environment while it is imported, or imports what does.
_READ_HOME = (
    "azureml.core",
    "azureml._base_sdk_common.project_snapshot_cache",
    "azureml._base_sdk_common.service_discovery",
)
_PROXY = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy")
_BUNDLE = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
# Seconds to connect, and to wait for each part of an answer. The SDK sets none: a connection that died without a
# word, as firewalls let them, would be waited for without end (or, for blobs, for a day).
TIMEOUT = (30.0, 300.0)
# Of blobs: after 0 to 2 s, and only where the service said no. A connection that broke may have stored the blob.
_ONCE_MORE = {"random_jitter_range": 1, "retry_connect": 0, "retry_read": 0}
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_lock = threading.RLock()
_found: dict[str, str | None] = {}
_ours: dict[str, str | None] = {}
folders: set[str] = set()
_opened: list[bool] = []
# What the SDK had in the places that `_adapt` changes: whoever needs it as it comes finds it here.
adapted: list[tuple[Any, str, Any]] = []


@dataclass(frozen=True)
class Surroundings:
    """Where a session keeps things and how it reaches out. `bundle` is a PEM file, empty for the machine's."""

    folder: Path
    proxy: str = ""
    no_proxy: tuple[str, ...] = ()
    bundle: str = ""

    @property
    def home(self) -> Path:
        """The SDK's home folder."""
        return self.folder / "home"

    @property
    def configuration(self) -> Path:
        """The configuration folder of azure-cli-core, and of its copy inside the SDK."""
        return self.folder / "azure"

    def use(self) -> None:
        """Make this process's environment ours; where we say nothing, it is what it was."""
        wanted: dict[str, str] = {"NETRC": str(self.folder / "no-netrc")}
        if self.proxy:
            wanted |= {"HTTPS_PROXY": self.proxy, "https_proxy": self.proxy}
            wanted |= {"NO_PROXY": ",".join(self.no_proxy), "no_proxy": ",".join(self.no_proxy)}
        if self.bundle:
            wanted |= {"REQUESTS_CA_BUNDLE": self.bundle, "SSL_CERT_FILE": self.bundle}
        with _lock:
            for name in (*_PROXY, *_BUNDLE, "NETRC"):
                now = os.environ.get(name)
                if name not in _ours or now != _ours[name]:  # as it was found, or changed by somebody since
                    _found[name] = now
                _ours[name] = wanted.get(name, _found[name])
                _put(name, _ours[name])


def surroundings(state: Path, outbound: Outbound, bundles: tuple[str, ...] = ()) -> Surroundings:
    """The surroundings of a workspace below the site's state; `bundles` are further PEM files of authorities."""
    folder = state / "azureml"
    plain = Surroundings(folder)
    for path in (folder, plain.home, plain.configuration):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
    folders.add(str(plain.configuration))
    given = [path for path in (outbound.ca_bundle, *bundles) if path]
    bundle = folder / "authorities.pem"
    if given:
        _write(bundle, _authorities(given))
    return Surroundings(folder, outbound.proxy, outbound.no_proxy, str(bundle) if given else "")


def _authorities(given: list[str]) -> str:
    """The given authorities beside all that were trusted before: an SDK takes one file only, in their place."""
    import certifi

    with _lock:
        now = {name: os.environ.get(name) for name in _BUNDLE}
        before = [_found[name] if name in _ours and now[name] == _ours[name] else now[name] for name in _BUNDLE]
    usual = [certifi.where(), ssl.get_default_verify_paths().cafile, *before]
    blocks: dict[str, None] = {}
    for path in [*given, *(one for one in usual if one and Path(one).is_file())]:
        try:
            text = Path(path).expanduser().read_text("utf-8", "replace")
        except OSError:
            raise Unavailable(
                "the file of private certification authorities can't be read",
                reason="CaBundleMissing",
                fix="put the PEM file where caBundle in edgetrain.yaml says",
            ) from None
        for part in text.split(_BEGIN)[1:]:
            blocks[part.partition(_END)[0].strip()] = None
    return "".join(f"{_BEGIN}\n{block}\n{_END}\n" for block in blocks)


def _write(path: Path, text: str) -> None:
    if path.is_file() and path.read_text("utf-8") == text:
        return
    part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    part.write_text(text, "utf-8")
    part.replace(path)


def _put(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


@contextmanager
def importing(values: Mapping[str, str | None]) -> Iterator[None]:
    """An environment with these values for as long as something is imported; None takes a name away."""
    with _lock:
        before = {name: os.environ.get(name) for name in values}
        try:
            for name, value in values.items():
                _put(name, value)
            yield
        finally:
            for name, value in before.items():
                _put(name, value)


@contextmanager
def private(around: Surroundings) -> Iterator[None]:
    """Import an SDK inside, so that it neither reads nor writes the user's profile."""
    values = {
        "HOME": os.environ.get("HOME") or str(around.home),  # the SDK can't be imported without one
        "AZURE_CONFIG_DIR": str(around.configuration),
        "AZUREML_AUTH_CONFIG_DIR": str(around.home / ".azureml" / "auth"),
        "ARM_CLOUD_METADATA_URL": None,
        "AZUREML_DEFAULT_RETRIES": "0",
        "AZURE_CORE_COLLECT_TELEMETRY": "no",
    }
    with importing(values), _at_home(str(around.home)):
        yield


@contextmanager
def _at_home(home: str) -> Iterator[None]:
    """This thread, and no other, has its home there."""
    usual, thread = os.path.expanduser, [threading.get_ident()]

    def expanduser(path: Any) -> Any:
        if threading.get_ident() in thread and isinstance(path, str) and (path == "~" or path.startswith("~/")):
            return home + path[1:]
        return usual(path)

    os.path.expanduser = expanduser
    try:
        yield
    finally:
        os.path.expanduser = usual
        thread.clear()  # who imported ours by its name goes on with it


def open_sdk(around: Surroundings) -> None:
    """Import azureml-core, once for the process: privately, quietly, and without retries of its own."""
    with _lock:
        if _opened:
            return
        quieten()
        with private(around):
            for name in _READ_HOME:
                importlib.import_module(name)
        _adapt(around)
        _opened.append(True)


def _adapt(around: Surroundings) -> None:
    """The one place that reaches into the SDK. It keeps its caches in our folder, and it tries once: `Session.call`
    tries again, honours Retry-After everywhere, and would else multiply with four layers of retries below it.
    Nothing is waited for without end; this goes for every user of requests in the process that sets no time-out."""
    from azureml._base_sdk_common import common as folders_of
    from azureml._base_sdk_common import utils as common
    from azureml._project import file_utilities
    from azureml._restclient import clientbase
    from azureml._restclient import utils as rest
    from azureml._vendor.azure_storage.blob._shared import base_client
    from azureml._vendor.azure_storage.blob._shared.policies import ExponentialRetry
    from msrest.universal_http import requests as senders
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    def home() -> str:
        folder = around.home / ".azureml"
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    def policy(before: Any = senders.ClientRetryPolicy) -> Any:
        """msrest's policy, and by its `retries` that of the SDK's clients above it."""
        made = before()
        made.retries = 0
        made.policy.status_forcelist = ()
        return made

    def once(num_retry: int = 0) -> Retry:
        return Retry(total=0, connect=0, read=0, raise_on_status=False)

    def send(
        adapter: Any, request: Any, stream: bool = False, timeout: Any = None, *more: Any, **named: Any
    ) -> Any:
        return sent(adapter, request, stream, TIMEOUT if timeout is None else timeout, *more, **named)

    sent = HTTPAdapter.send
    for owner, name, ours in (
        (HTTPAdapter, "send", send),
        (base_client, "READ_TIMEOUT", TIMEOUT[1]),
        (folders_of, "USER_PATH", str(around.home / ".config")),
        (folders_of, "CREDENTIALS_PATH", str(around.home / ".azureml")),
        (file_utilities, "get_home_settings_directory", home),
        (clientbase, "DEFAULT_RETRIES", 0),
        (senders, "ClientRetryPolicy", policy),
        (common, "get_retry_policy", once),
        (rest, "get_retry_policy", once),
        (base_client, "ExponentialRetry", partial(ExponentialRetry, 0, 1, 1, **_ONCE_MORE)),
    ):
        if not hasattr(owner, name):
            raise Unavailable(
                f"this release of azureml-core has no {owner.__name__}.{name}",
                reason="SdkNotSupported",
                fix="install the release that pyproject.toml names",
            )
        if all((one, what) != (owner, name) for one, what, _ in adapted):
            adapted.append((owner, name, getattr(owner, name)))
        setattr(owner, name, ours)


class _Redacted(logging.Handler):
    """Hands the SDKs' warnings on to the root logger's handlers without secrets; the rest is dropped: at DEBUG they
    log bodies, which hold keys and signatures."""

    def emit(self, record: logging.LogRecord) -> None:
        plain = logging.LogRecord(
            record.name, record.levelno, record.pathname, record.lineno, shown(record.getMessage()), None, None
        )
        logging.getLogger().handle(plain)


class Discreet(logging.Filter):
    """Redacts what passes a logger that others use too."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always lets it pass."""
        record.msg, record.args = shown(record.getMessage(), longest=2000), None
        return True


_handler = _Redacted(logging.WARNING)
_discreet = Discreet()


def quieten() -> None:
    """Let the SDKs' loggers say warnings only, and those without secrets."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.propagate = False
        if _handler not in logger.handlers:
            logger.handlers[:] = [_handler]
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)
    for name in ("urllib3.connectionpool", "urllib3.util.retry", "requests"):
        logging.getLogger(name).addFilter(_discreet)
