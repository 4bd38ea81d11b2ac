"""Canary secrets and names: in no log at any level, no error, no representation and no file written."""

from __future__ import annotations

import base64
import json
import logging
import time
import traceback
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgetrain.core.errors import Denied, ProviderError
from edgetrain.core.ports import CheckStatus, Outbound, Settings
from edgetrain.providers.azure_blob import artifacts, datastore
from edgetrain.providers.azure_blob.account import account_of
from edgetrain.providers.azure_blob.sas import container_sas
from testbed.azurite import MAIN, Azurite
from testbed.ca import Authority
from testbed.install import azurite_folder
from testbed.part import Process

from .proxy import Fault, RecordingProxy
from .stores import declared, new_container

pytestmark = pytest.mark.needs("azurite")

NAME = "canary_doe_jane"


def written(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


class _Formatted(logging.Filter):
    """What MLflow's filter does once MLflow is imported: the line is put together before ours sees it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = record.getMessage().replace("sig=", "s=[REDACTED]"), None
        return True


@pytest.mark.parametrize("credential", ["accountKey", "sas"])
def test_nothing_secret_is_logged_told_or_written(
    azurite: Azurite,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
    credential: str,
) -> None:
    container = new_container(azurite, {f"cxr/{NAME}.dcm": b"1", f"cxr/{NAME}/{NAME}": b"2"})
    sas = container_sas(
        account=azurite.account,
        container=container,
        key=azurite.key,
        version="2019-07-07",
        now=datetime.now(UTC),
        lifetime=timedelta(hours=1),
        secure=False,
    )
    settings = declared(azurite, container, tmp_path, credential, sas if credential == "sas" else None)
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("azure", "urllib3", "requests")):
            caplog.set_level(logging.DEBUG, name)
    logger, theirs = logging.getLogger("urllib3.connectionpool"), _Formatted()
    logger.filters.insert(0, theirs)
    request.addfinalizer(lambda: logger.removeFilter(theirs))
    told = [exercise(settings), exercise_a_broken(azurite, settings)]
    signature = urllib.parse.parse_qs(told[0])["sig"][0]
    assert signature  # the canary is a real one
    logging.getLogger("urllib3.connectionpool").debug("a line about %s", "another host")
    assert "another host" in caplog.text
    hidden = [azurite.key, NAME, "sig=", signature, urllib.parse.quote(signature, safe="")]
    hidden += urllib.parse.parse_qs(sas)["sig"]
    for canary in hidden:
        assert canary not in caplog.text
        assert canary.encode() not in written(tmp_path)
        assert canary not in told[1]


def exercise(settings: Settings) -> str:
    """Use all of both providers; the signature that a target would get."""
    store = datastore.from_settings(settings)
    assert store.digest("cxr").files == 2
    source = store.source("cxr")
    assert source.stream is not None
    for entry in source.stream.entries():
        assert list(source.stream.read(entry))
    checks = list(store.diagnose(["cxr"]))
    kept = artifacts.from_settings(settings)
    if "accountKey" in settings.block["credential"]:
        checks += kept.diagnose()
    assert {check.status for check in checks} == {CheckStatus.PASS}
    for shown in (repr(source), repr(settings), repr(account_of(settings)), repr(store), repr(checks)):
        assert source.access["sas"] not in shown
        assert "sig=" not in shown
    return source.access["sas"]


def exercise_a_broken(azurite: Azurite, settings: Settings) -> str:
    """Use both over a wire that breaks in all manners; what the errors tell."""

    told = []
    for faults in (
        {"GET": Fault(403), "PUT": Fault(403)},
        {"GET": Fault(500), "PUT": Fault(500)},
        {"GET": Fault(404), "PUT": Fault(409), "HEAD": Fault(404)},
        {"GET": Fault(keep=10), "PUT": Fault(400)},
    ):
        with RecordingProxy(lambda request, faults=faults: faults.get(request.method)) as proxy:
            broken = Settings(**{**vars(settings), "outbound": Outbound(proxy=proxy.url)})
            account = account_of(broken)
            store = datastore.AzureBlobDatastore(account=account, cache=settings.state / "x", retries=0)
            kept = artifacts.AzureBlobArtifacts(account=account, retries=0)
            for use in (lambda store=store: store.digest("cxr"), lambda kept=kept: kept.put_bytes(b"weights")):
                try:
                    use()
                except ProviderError as error:
                    told.append("".join(traceback.format_exception(error)))
    assert len(told) >= 6
    assert not any(azurite.key in text for text in told)
    return "\n".join(told)


class SignedIn(Azurite):
    """Azurite that takes Entra tokens; it checks their claims, not their signature."""

    def _launch(self, port: int) -> Process:
        assert self.tls is not None
        command = ["node", str(azurite_folder() / MAIN), "--blobHost", self.bind, "--blobPort", str(port)]
        command += ["-l", str(self.folder / "blobs"), "--disableTelemetry", "--oauth", "basic"]
        command += ["--cert", str(self.tls.certificate), "--key", str(self.tls.key)]
        return Process(command, self.log, {"AZURITE_ACCOUNTS": f"{self.account}:{self.key}"})


@pytest.fixture(scope="module")
def signed_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedIn]:
    authority = Authority(tmp_path_factory.mktemp("ca"))
    with SignedIn(tls=authority.issue("127.0.0.1"), ca_bundle=authority.bundle) as part:
        yield part


def token(lasts: int, audience: str = "https://storage.azure.com") -> str:
    now = int(time.time())
    tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"
    claims = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{tenant}/",
        "iat": now - 60,
        "nbf": now - 60,
        "exp": now + lasts,
        "oid": "23657296-5cd5-45b0-a809-d972a7f4dfe1",
        "tid": tenant,
    }
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in [*parts, b"canary-signature"])


def test_a_token_reads_over_tls_and_delegates(
    signed_in: SignedIn, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    container = new_container(signed_in, {f"cxr/{NAME}.dcm": b"1"})
    caplog.set_level(logging.DEBUG)
    block = {"caBundle": str(signed_in.ca_bundle)}
    given = token(3600)
    store = datastore.from_settings(declared(signed_in, container, tmp_path, "token", given, **block))
    assert store.digest("cxr").files == 1
    source = store.source("cxr")
    delegated = dict(urllib.parse.parse_qsl(source.access["sas"]))
    assert (delegated["sp"], delegated["sr"], delegated["spr"]) == ("rl", "c", "https")
    assert delegated["skoid"] == "23657296-5cd5-45b0-a809-d972a7f4dfe1"
    for canary in (given, NAME, delegated["sig"], "sig="):
        assert canary not in caplog.text
        assert canary.encode() not in written(tmp_path / "digests")

    expired = token(-30)
    with pytest.raises(Denied) as caught:
        datastore.from_settings(declared(signed_in, container, tmp_path, "token", expired, **block)).digest("cxr")
    assert caught.value.reason == "TokenRefused"
    assert expired not in "".join(traceback.format_exception(caught.value))
