"""What goes wrong with a blob store: each fault has its kind, reason and fix, and tells no secret and no name."""

from __future__ import annotations

import base64
import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import Conflict, Denied, NotFound, ProviderError, Rejected, Transient
from edgetrain.core.ports import CheckStatus, Outbound, Settings
from edgetrain.providers.azure_blob import client
from edgetrain.providers.azure_blob.account import account_of
from edgetrain.providers.azure_blob.artifacts import AzureBlobArtifacts
from edgetrain.providers.azure_blob.datastore import AzureBlobDatastore, from_settings
from edgetrain.providers.azure_blob.sas import container_sas
from testbed.azurite import Azurite
from testbed.ca import Authority

from .proxy import Fault, RecordingProxy, Request
from .stores import declared, new_container

pytestmark = pytest.mark.needs("azurite")

NAME = "doe_jane-1948.dcm"
BLOBS = {f"cxr/{NAME}": b"pixels" * 100}


def fails(use: Callable[[], object], *secrets: str) -> ProviderError:
    """The error of `use`, which tells no name, no query and no secret, not even in its causes."""
    with pytest.raises(ProviderError) as caught:
        use()
    told = "".join(traceback.format_exception(caught.value))
    for hidden in (NAME, "sig=", "?comp", *secrets):
        assert hidden not in told
    assert caught.value.fix
    return caught.value


def sas(azurite: Azurite, container: str, begins: timedelta, lasts: timedelta, key: str = "") -> str:
    return container_sas(
        account=azurite.account,
        container=container,
        key=key or azurite.key,
        version="2019-07-07",
        now=datetime.now(UTC) + begins,
        lifetime=lasts,
        secure=False,
    )


def test_a_store_that_is_down_is_worth_another_try_and_comes_back(tmp_path: Path) -> None:
    with Azurite() as part:
        container = new_container(part, BLOBS)
        settings = declared(part, container, tmp_path)
        patient = from_settings(settings)
        digest = patient.digest("cxr")
        part.stop()
        hasty = AzureBlobDatastore(account=account_of(settings), cache=tmp_path / "other", retries=0)
        error = fails(lambda: hasty.digest("cxr"), part.key)
        assert (type(error), error.reason) == (Transient, "StoreUnreachable")
        assert [check.reason for check in hasty.diagnose(["cxr"])] == ["StoreUnreachable"]
        part.start()
        assert patient.digest("cxr") == digest
        assert hasty.digest("cxr") == digest


@pytest.fixture
def served(azurite: Azurite) -> str:
    return new_container(azurite, BLOBS)


def test_an_expired_signature_is_told(azurite: Azurite, served: str, tmp_path: Path) -> None:
    expired = sas(azurite, served, -timedelta(hours=2), timedelta(hours=1))
    store = from_settings(declared(azurite, served, tmp_path, "sas", expired))
    error = fails(lambda: store.digest("cxr"), expired)
    assert (type(error), error.reason) == (Denied, "SasExpired")


def test_a_signature_that_expires_under_way_is_told(azurite: Azurite, served: str, tmp_path: Path) -> None:
    # As a service answers it whose clock is past the end of our signature.
    late = {"Date": "Thu, 01 Jan 2099 00:00:00 GMT", "x-ms-error-code": "AuthenticationFailed"}
    good = sas(azurite, served, timedelta(), timedelta(hours=1))
    over = threading.Event()
    with RecordingProxy(lambda _: Fault(403, late) if over.is_set() else None) as proxy:
        store = from_settings(declared(azurite, served, tmp_path, "sas", good, Outbound(proxy=proxy.url)))
        stream = store.source("cxr").stream
        assert stream is not None
        (entry,) = stream.entries()
        over.set()
        error = fails(lambda: list(stream.read(entry)), good)
    assert (type(error), error.reason) == (Denied, "SasExpired")


def test_a_signature_not_begun_means_that_a_clock_is_off(azurite: Azurite, served: str, tmp_path: Path) -> None:
    early = sas(azurite, served, timedelta(hours=1), timedelta(hours=1))
    error = fails(lambda: from_settings(declared(azurite, served, tmp_path, "sas", early)).digest("cxr"), early)
    assert (type(error), error.reason) == (Denied, "ClockSkew")


def test_a_clock_that_is_off_is_told_from_a_wrong_key(azurite: Azurite, served: str, tmp_path: Path) -> None:
    wrong = base64.b64encode(b"w" * 64).decode()
    store = from_settings(declared(azurite, served, tmp_path, secret=wrong))
    error = fails(lambda: store.digest("cxr"), wrong, azurite.key)
    assert (type(error), error.reason) == (Denied, "KeyRefused")

    hour = (datetime.now(UTC) + timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    answer = {"Date": hour, "x-ms-error-code": "AuthenticationFailed"}
    with RecordingProxy(lambda _: Fault(403, answer)) as proxy:
        settings = declared(azurite, served, tmp_path, outbound=Outbound(proxy=proxy.url))
        error = fails(lambda: from_settings(settings).digest("cxr"), azurite.key)
    assert (type(error), error.reason) == (Denied, "ClockSkew")
    assert "60 min" in error.message


@pytest.mark.parametrize("wrong", ["not base64!", "abc"])
def test_a_key_that_is_none_is_told(azurite: Azurite, served: str, tmp_path: Path, wrong: str) -> None:
    error = fails(lambda: from_settings(declared(azurite, served, tmp_path, secret=wrong)).digest("cxr"), wrong)
    assert (type(error), error.reason) == (Denied, "KeyMalformed")


def test_a_signature_by_another_key_is_told(azurite: Azurite, served: str, tmp_path: Path) -> None:
    forged = sas(azurite, served, timedelta(), timedelta(hours=1), base64.b64encode(b"w" * 64).decode())
    error = fails(lambda: from_settings(declared(azurite, served, tmp_path, "sas", forged)).digest("cxr"), forged)
    assert (type(error), error.reason) == (Denied, "SasRefused")


def test_a_right_that_is_missing_is_told(azurite: Azurite, served: str, tmp_path: Path) -> None:
    reading = sas(azurite, served, timedelta(), timedelta(hours=1))
    store = AzureBlobArtifacts(account=account_of(declared(azurite, served, tmp_path, "sas", reading)))
    error = fails(lambda: store.put_bytes(b"weights"), reading)
    assert (type(error), error.reason) == (Denied, "RightMissing")
    checks = {check.name: check for check in store.diagnose()}
    assert {check.status for check in checks.values()} == {CheckStatus.FAIL}


def test_an_absent_container_is_not_an_empty_one(azurite: Azurite, tmp_path: Path) -> None:
    settings = declared(azurite, "absent-container", tmp_path)
    kept = AzureBlobArtifacts(account=account_of(settings))
    digest = digest_bytes(b"x")
    for use in (
        lambda: from_settings(settings).digest("."),
        lambda: from_settings(settings).source("cxr"),
        lambda: kept.size(digest),
        lambda: kept.put_bytes(b"x"),
        lambda: kept.delete(digest),
        lambda: list(kept.digests()),
        lambda: list(kept.claims("t/")),
        lambda: kept.claim("t/a", b"x"),
        lambda: kept.lock("m").__enter__(),
    ):
        error = fails(use)
        assert (type(error), error.reason) == (NotFound, "ContainerMissing")


@pytest.mark.parametrize("code", ["ContainerBeingDeleted", "BlobImmutableDueToPolicy"])
def test_a_conflict_of_another_kind_is_not_taken_for_stored(
    azurite: Azurite, served: str, tmp_path: Path, code: str
) -> None:
    answer = {"x-ms-error-code": code}
    with RecordingProxy(lambda request: Fault(409, answer) if request.method == "PUT" else None) as proxy:
        settings = declared(azurite, served, tmp_path, outbound=Outbound(proxy=proxy.url))
        kept = AzureBlobArtifacts(account=account_of(settings))
        for use in (
            lambda: kept.put_bytes(b"weights"),
            lambda: kept.claim("t", b"x"),
            lambda: kept.lock("m").__enter__(),
        ):
            error = fails(use)
            assert (type(error), error.reason) == (Conflict, code)


def test_an_archived_blob_is_not_taken_for_a_changed_one(azurite: Azurite, served: str, tmp_path: Path) -> None:
    answer = {"x-ms-error-code": "BlobArchived"}

    def archived(request: Request) -> Fault | None:
        return Fault(409, answer) if request.method == "GET" and "comp" not in request.query else None

    with RecordingProxy(archived) as proxy:
        settings = declared(azurite, served, tmp_path, outbound=Outbound(proxy=proxy.url))
        error = fails(lambda: from_settings(settings).digest("cxr"))
    assert (type(error), error.reason) == (Rejected, "BlobArchived")


@pytest.fixture
def flaky(azurite: Azurite, served: str, tmp_path: Path) -> Iterator[tuple[RecordingProxy, Settings]]:
    with RecordingProxy() as proxy:
        yield proxy, declared(azurite, served, tmp_path, outbound=Outbound(proxy=proxy.url))


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_service_is_asked_again_and_then_left(flaky: tuple[RecordingProxy, Settings], status: int) -> None:
    proxy, settings = flaky
    failures = iter([Fault(status)])
    proxy.meddle = lambda _: next(failures, None)
    store = AzureBlobDatastore(account=account_of(settings), cache=settings.state, retries=2)
    if status != 429:  # the SDK leaves that one to its caller
        assert store.digest("cxr").files == 1
    proxy.meddle = lambda _: Fault(status)
    hasty = AzureBlobDatastore(account=account_of(settings), cache=settings.state, retries=0)
    error = fails(lambda: hasty.digest("cxr"))
    assert (type(error), error.reason) == (Transient, "StoreFault" if status == 500 else "StoreBusy")


def test_an_answer_cut_short_is_asked_for_again(flaky: tuple[RecordingProxy, Settings], azurite: Azurite) -> None:
    proxy, settings = flaky
    azurite.put(settings.block["container"], {"cxr/large": bytes(range(256)) * 2**15})
    cuts = iter([Fault(keep=1000), Fault(keep=2**20)])

    def cut(request: Request) -> Fault | None:
        return next(cuts, None) if request.method == "GET" and request.path.endswith("/large") else None

    proxy.meddle = cut
    store = AzureBlobDatastore(account=account_of(settings), cache=settings.state)
    stream = store.source("cxr/large").stream
    assert stream is not None
    (entry,) = stream.entries()
    assert b"".join(stream.read(entry)) == bytes(range(256)) * 2**15
    proxy.meddle = lambda request: Fault(keep=1000) if request.method == "GET" else None
    error = fails(lambda: list(stream.read(entry)))
    assert isinstance(error, Transient)


def test_no_redirect_is_followed(flaky: tuple[RecordingProxy, Settings]) -> None:
    proxy, settings = flaky
    proxy.meddle = lambda _: Fault(307, {"Location": "http://elsewhere.example/"})
    error = fails(lambda: from_settings(settings).digest("cxr"))
    assert isinstance(error, Rejected)
    assert all("elsewhere" not in str(request) for request in proxy.requests)


def test_a_host_without_need_of_a_proxy_is_reached_straight(azurite: Azurite, served: str, tmp_path: Path) -> None:
    nowhere = Outbound(proxy="http://127.0.0.1:9", no_proxy=("127.0.0.1", ".example"))
    assert from_settings(declared(azurite, served, tmp_path, outbound=nowhere)).digest("cxr").files == 1


def test_an_answer_that_is_lost_after_the_write_changes_nothing(
    flaky: tuple[RecordingProxy, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BLOCK", 2**20)
    proxy, settings = flaky
    lost: set[tuple[str, str]] = set()

    def lose_first(request: Request) -> Fault | None:
        kind = (request.method, request.query.get("comp", ""))
        if request.method != "PUT" or kind in lost:
            return None
        lost.add(kind)
        return Fault(lose=True)

    proxy.meddle = lose_first
    kept = AzureBlobArtifacts(account=account_of(settings))
    data = bytes(3 * 2**20)
    assert kept.size(kept.put_bytes(data)) == len(data)
    assert kept.claim("ticket", b"mine") == b"mine"
    with kept.lock("m"):
        pass
    assert {("PUT", ""), ("PUT", "block"), ("PUT", "blocklist"), ("PUT", "lease")} == lost
    assert list(kept.digests()) == [(digest_bytes(data), len(data))]


def test_a_store_that_fails_before_the_last_block_shows_nothing(
    flaky: tuple[RecordingProxy, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BLOCK", 2**20)
    proxy, settings = flaky
    kept = AzureBlobArtifacts(account=account_of(settings), retries=0)
    data = bytes(3 * 2**20)
    for step in ("block", "blocklist"):
        proxy.meddle = lambda request, step=step: Fault(500) if request.query.get("comp") == step else None
        error = fails(lambda: kept.put_bytes(data))
        assert (type(error), error.reason) == (Transient, "StoreFault")
        assert kept.size(digest_bytes(data)) is None
        assert list(kept.digests()) == []
    proxy.meddle = lambda _: None
    assert kept.size(kept.put_bytes(data)) == len(data)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[Azurite]:
    with Azurite(tls=authority.issue("127.0.0.1"), ca_bundle=authority.bundle) as part:
        yield part


def test_a_private_authority_is_trusted_only_where_declared(
    secure: Azurite, authority: Authority, tmp_path: Path
) -> None:
    container = new_container(secure, BLOBS)
    stranger = Authority(tmp_path / "stranger")
    for bundle in (None, stranger.bundle):
        block = {"caBundle": str(bundle)} if bundle else {}
        store = AzureBlobDatastore(
            account=account_of(declared(secure, container, tmp_path, **block)), cache=tmp_path, retries=0
        )
        error = fails(lambda store=store: store.digest("cxr"), secure.key)
        assert (type(error), error.reason) == (Rejected, "CertificateUntrusted")

    outbound = Outbound(ca_bundle=str(authority.bundle))
    for settings in (
        declared(secure, container, tmp_path, caBundle=str(authority.bundle)),
        declared(secure, container, tmp_path, outbound=outbound),
    ):
        source = from_settings(settings).source("cxr")
        assert source.stream is not None
        assert len(list(source.stream.entries())) == 1
        assert source.access["caBundle"] == authority.bundle.read_text()
        assert "spr=https&" in source.access["sas"]


def test_an_authority_that_is_not_there_is_told(secure: Azurite, tmp_path: Path) -> None:
    settings = declared(secure, new_container(secure, BLOBS), tmp_path, caBundle=str(tmp_path / "absent.pem"))
    error = fails(lambda: from_settings(settings).digest("cxr"))
    assert error.reason == "CaBundleMissing"
