"""The blob datastore: strange names, changes under way, what a target gets, and what is remembered."""

from __future__ import annotations

import gc
import gzip
import http.client
import secrets
import sqlite3
import traceback
import urllib.parse
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.storage.blob import BlobProperties, ContentSettings

from edgetrain.core.digest import digest_bytes, tree_digest
from edgetrain.core.errors import NotFound, Rejected, Transient
from edgetrain.core.ports import CheckStatus, Outbound, Settings
from edgetrain.core.secret import Secret
from edgetrain.providers.azure_blob.account import account_of
from edgetrain.providers.azure_blob.client import PAGE
from edgetrain.providers.azure_blob.datastore import AzureBlobDatastore, from_settings
from edgetrain.providers.azure_blob.names import Tree
from edgetrain.providers.azure_blob.sas import container_sas, sign
from testbed.azurite import Azurite
from tests.onsite.blob_server import SAS, BlobServer

from .proxy import Fault, RecordingProxy, Request
from .stores import declared, new_container

pytestmark = pytest.mark.needs("azurite")

SECRET = "doe_jane-1948"


def opened(azurite: Azurite, container: str, state: Path, **block: str) -> AzureBlobDatastore:
    return from_settings(declared(azurite, container, state, **block))


def folder_marker(azurite: Azurite, container: str, name: str) -> None:
    with azurite.client() as service:
        service.get_blob_client(container, name).upload_blob(b"", metadata={"hdi_isfolder": "true"})


def test_folder_markers_are_no_files(azurite: Azurite, tmp_path: Path) -> None:
    container = new_container(azurite, {"cxr/a.dcm": b"1", "cxr/b/": b"", "cxr/b/c.dcm": b"2", "empty/": b""})
    for name in ("cxr", "cxr/d", "hollow"):
        folder_marker(azurite, container, name)
    store = opened(azurite, container, tmp_path)
    expected = tree_digest([("a.dcm", digest_bytes(b"1")), ("b/c.dcm", digest_bytes(b"2"))])
    assert store.digest("cxr").digest == expected
    assert store.source("cxr").path == "cxr"
    for path in ("empty", "hollow"):
        assert store.digest(path).files == 0
    with pytest.raises(NotFound):
        store.digest("cxr/x")


@pytest.mark.parametrize(
    "name",
    [
        f"cxr//{SECRET}",
        f"cxr/a/../{SECRET}",
        f"cxr/./{SECRET}",
        f"cxr/{SECRET}\x7f",
        f"cxr/{SECRET}\x85",
        f"cxr/{SECRET}{'x' * 250}",
        f"cxr/{'d/' * 64}{SECRET}",
        f"cxr/{SECRET}/",
    ],
)
def test_a_name_that_no_file_can_have_is_refused_untold(azurite: Azurite, tmp_path: Path, name: str) -> None:
    store = opened(azurite, raw_container(azurite, name), tmp_path)
    stream = store.source("cxr").stream
    assert stream is not None
    for use in (lambda: store.digest("cxr"), lambda: list(stream.entries())):
        with pytest.raises(Rejected) as caught:
            use()
        assert caught.value.reason == "UnsafeName"
        assert caught.value.fix
        assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_backslash_is_refused_too() -> None:  # Azurite makes a slash of it; Azure keeps it
    with pytest.raises(Rejected) as caught:
        Tree("cxr").admit(f"{SECRET}\\x")
    assert caught.value.reason == "UnsafeName"
    assert SECRET not in caught.value.message


def raw_container(azurite: Azurite, name: str) -> str:
    """A container with one blob under a name that HTTP clients would tidy: each byte is escaped."""
    container = new_container(azurite)
    start, end = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"
    text = f"rcw\n{start}\n{end}\n/blob/{azurite.account}/{container}\n\n\nhttps,http\n2019-07-07\nc\n\n\n\n\n\n"
    query = {"sv": "2019-07-07", "sr": "c", "sp": "rcw", "st": start, "se": end, "spr": "https,http"}
    signed = urllib.parse.urlencode(query | {"sig": sign(azurite.key, text)})
    escaped = "".join(f"%{byte:02X}" for byte in name.encode())
    there = http.client.HTTPConnection(azurite.near, azurite.port)
    headers = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2019-07-07"}
    there.request("PUT", f"/{azurite.account}/{container}/{escaped}?{signed}", b"1", headers)
    assert there.getresponse().status == 201
    there.close()
    return container


def test_a_file_that_is_a_folder_too_is_refused(azurite: Azurite, tmp_path: Path) -> None:
    blobs = {f"cxr/{SECRET}": b"1", f"cxr/{SECRET}-2": b"2", f"cxr/{SECRET}.x/y": b"", f"cxr/{SECRET}/deep/y": b"2"}
    store = opened(azurite, new_container(azurite, blobs), tmp_path)
    for path in ("cxr", f"cxr/{SECRET}"):
        with pytest.raises(Rejected) as caught:
            store.digest(path)
        assert caught.value.reason == "FileAndFolder"
    assert SECRET not in str(store.digest(f"cxr/{SECRET}-2"))


def test_names_are_sorted_as_bytes_whatever_the_service_does(azurite: Azurite, tmp_path: Path) -> None:
    # UTF-16, as JavaScript and .NET sort, puts the first before the second; UTF-8 does not.
    names = [
        "t/\U0001f600.csv",
        "t/\uffee.csv",
        "t/a-b",
        "t/a/b",
        "t/a.b",
        "t/A",
        "t/é",
        "t/ leading",
        "t/100%25",
        "t/a?b#c+d&e=f",
    ]
    store = opened(azurite, new_container(azurite, {name: name.encode() for name in names}), tmp_path)
    expected = tree_digest((name.removeprefix("t/"), digest_bytes(name.encode())) for name in names)
    assert store.digest("t").digest == expected


def test_a_blob_with_a_content_encoding_counts_as_it_is_stored(azurite: Azurite, tmp_path: Path) -> None:
    container = new_container(azurite)
    data = gzip.compress(b"a,b\n" * 1000)
    with azurite.client() as service:
        service.get_blob_client(container, "d/x.csv").upload_blob(
            data, content_settings=ContentSettings(content_encoding="gzip", content_type="text/csv")
        )
    store = opened(azurite, container, tmp_path)
    assert store.digest("d").digest == tree_digest([("x.csv", digest_bytes(data))])


def test_a_listing_is_read_a_page_at_a_time(tmp_path: Path) -> None:
    count = 2 * PAGE + 1

    def names(_prefix: str, first: int, most: int) -> tuple[list[tuple[str, int, str]], bool]:
        last = min(first + most, count)
        return [(f"{n:07}.dcm", 0, f"0x{n:X}") for n in range(first, last)], last < count

    server = BlobServer()
    server.names = names
    with server.running():
        location = server.source()["location"]
        block = {
            "endpoint": location.removesuffix("/data"),
            "container": "data",
            "credential": {"sas": {"secret": "s"}},
        }
        stream = from_settings(Settings("s", block, tmp_path, secret=lambda _: Secret(SAS))).source(".").stream
        assert stream is not None
        server.served.clear()
        alive = 0
        for n, _ in enumerate(stream.entries()):
            assert server.served["list"] == n // PAGE + 1
            if n % PAGE == PAGE // 2:
                alive = max(alive, sum(type(thing) is BlobProperties for thing in gc.get_objects()))
        assert n == count - 1
        assert 0 < alive < 1.5 * PAGE  # the page before is not kept


def test_what_was_read_is_not_read_again(azurite: Azurite, tmp_path: Path) -> None:
    container = new_container(azurite, {f"d/{n}": secrets.token_bytes(100) for n in range(510)})
    with RecordingProxy() as proxy:
        settings = declared(azurite, container, tmp_path, outbound=Outbound(proxy=proxy.url))
        told: list[int] = []
        first = from_settings(settings).digest("d", told.append)
        assert (sum(told), first.bytes, first.files) == (51_000, 51_000, 510)
        proxy.requests.clear()
        told.clear()
        assert from_settings(settings).digest("d", told.append) == first
        assert told == []
        assert all(request.query.get("comp") == "list" or request.method == "HEAD" for request in proxy.requests)

        azurite.put(container, {"d/7": b"changed"})
        changed = from_settings(settings).digest("d", told.append)
        assert changed.digest != first.digest
        assert told == [7]
    # A new ETag over the same bytes only triggers a look.
    azurite.put(container, {"d/7": b"changed"})
    assert opened(azurite, container, tmp_path).digest("d") == changed


def test_the_memory_of_digests_holds_no_names_and_may_be_spoilt(azurite: Azurite, tmp_path: Path) -> None:
    store = opened(azurite, new_container(azurite, {f"d/{SECRET}": b"1"}), tmp_path)
    digest = store.digest("d")
    file = tmp_path / "digests" / "hub-imaging" / "blobs.sqlite3"
    with sqlite3.connect(file) as base:
        assert base.execute("SELECT count(*) FROM digest").fetchone() == (1,)
    for written in file.parent.iterdir():
        assert SECRET.encode() not in written.read_bytes()
    file.write_bytes(b"not a database" * 1000)
    assert store.digest("d") == digest
    file.unlink()
    file.mkdir()
    assert store.digest("d") == digest


def test_a_blob_that_changed_or_went_since_it_was_listed_is_told(azurite: Azurite, tmp_path: Path) -> None:
    container = new_container(azurite, {f"d/{SECRET}-1": b"1" * 100, f"d/{SECRET}-2": b"2" * 100, "d/empty": b""})
    stream = opened(azurite, container, tmp_path).source("d").stream
    assert stream is not None
    entries = {entry.name: entry for entry in stream.entries()}
    azurite.put(container, {f"d/{SECRET}-1": b"x" * 100, "d/empty": b""})
    with azurite.client() as service:
        service.get_blob_client(container, f"d/{SECRET}-2").delete_blob()
    for entry in entries.values():
        for offset in (0, 50, entry.size):
            with pytest.raises(Rejected) as caught:
                list(stream.read(entry, offset))
            assert caught.value.reason == "DataChanged"
            assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("change", ["written", "deleted"])
def test_a_change_in_the_middle_of_a_large_blob_is_told(azurite: Azurite, tmp_path: Path, change: str) -> None:
    container = new_container(azurite, {"d/large": bytes(12 * 2**20)})
    stream = opened(azurite, container, tmp_path).source("d").stream
    assert stream is not None
    (entry,) = stream.entries()
    chunks = stream.read(entry)
    assert len(next(chunks)) < entry.size
    with azurite.client() as service:
        if change == "written":
            azurite.put(container, {"d/large": b"1" + bytes(12 * 2**20 - 1)})
        else:
            service.get_blob_client(container, "d/large").delete_blob()
    with pytest.raises(Rejected) as caught:
        list(chunks)
    assert caught.value.reason == "DataChanged"


def test_a_change_while_digesting_is_worth_another_try(azurite: Azurite, tmp_path: Path) -> None:
    container = new_container(azurite, {"d/a": b"1", "d/b": b"2"})

    def change(request: Request) -> Fault | None:
        if request.method == "GET" and request.path.endswith("/d/b"):
            azurite.put(container, {"d/b": b"3"})
        return None

    with RecordingProxy(change) as proxy:
        settings = declared(azurite, container, tmp_path, outbound=Outbound(proxy=proxy.url))
        with pytest.raises(Transient) as caught:
            from_settings(settings).digest("d")
    assert caught.value.reason == "DataChanging"


def test_a_target_gets_a_fresh_signature_each_time(azurite: Azurite, tmp_path: Path) -> None:
    times = [datetime(2026, 7, 1, 12, tzinfo=UTC), datetime(2026, 7, 1, 12, 50, tzinfo=UTC)]
    container = new_container(azurite, {"site/cxr/a": b"1"})
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    settings = declared(
        azurite, container, tmp_path, prefix="site", apiVersion="2018-11-09", caBundle=str(tmp_path / "ca.pem")
    )
    store = AzureBlobDatastore(
        account=account_of(settings),
        cache=tmp_path,
        sas_lifetime=timedelta(minutes=20),
        sas_addresses="198.51.100.7",
        clock=lambda: times[0],
    )
    source = store.source("cxr/")
    assert (source.kind, source.location, source.path) == (
        "azure-blob",
        f"{azurite.endpoint}/{container}",
        "site/cxr",
    )
    assert source.access["apiVersion"] == "2018-11-09"
    assert source.access["caBundle"] == "-----BEGIN CERTIFICATE-----\n"
    first = dict(urllib.parse.parse_qsl(source.access["sas"]))
    assert {key: first[key] for key in ("sv", "sr", "sp", "st", "se", "sip")} == {
        "sv": "2018-11-09",
        "sr": "c",
        "sp": "rl",
        "st": "2026-07-01T11:55:00Z",
        "se": "2026-07-01T12:20:00Z",
        "sip": "198.51.100.7",
    }
    times.pop(0)
    assert source.renew is not None
    renewed = source.renew()
    assert renewed == source
    assert dict(urllib.parse.parse_qsl(renewed.access["sas"]))["se"] == "2026-07-01T13:10:00Z"
    assert azurite.key not in str(source.access)
    assert first["sig"] not in repr(source)


def test_only_a_given_signature_that_reads_and_lists_is_handed_on(azurite: Azurite, tmp_path: Path) -> None:
    container = new_container(azurite, {"a": b"1"})
    reading = container_sas(
        account=azurite.account,
        container=container,
        key=azurite.key,
        version="2019-07-07",
        now=datetime.now(UTC),
        lifetime=timedelta(hours=1),
        secure=False,
    )
    store = from_settings(declared(azurite, container, tmp_path, "sas", f"?{reading}"))
    assert store.source("a").access["sas"] == reading
    assert store.digest("a").files == 1
    assert [check.status for check in store.diagnose(["a"])] == [CheckStatus.PASS] * 4


def test_a_token_is_never_sent_without_tls(azurite: Azurite, tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        from_settings(declared(azurite, "c", tmp_path, "token", "eyJ.a.b")).digest(".")
    assert caught.value.reason == "HttpsNeeded"


def test_a_diagnosis_tells_version_clock_access_and_data(azurite: Azurite, tmp_path: Path) -> None:
    container = new_container(azurite, {"a/x": b"1"})
    settings = declared(azurite, container, tmp_path, apiVersion="2017-11-09")
    store = from_settings(settings)
    checks = store.diagnose(["a", "absent"])
    assert [(check.name, check.status.value, check.reason) for check in checks] == [
        ("blob-store", "pass", ""),
        ("blob-clock", "pass", ""),
        ("blob-access", "pass", ""),
        ("blob-data", "pass", ""),
        ("blob-data", "fail", "DataMissing"),
    ]
    assert "2017-11-09" in checks[0].message
    wrong = AzureBlobDatastore(
        account=account_of(settings), cache=tmp_path, clock=lambda: datetime.now(UTC) + timedelta(hours=1)
    )
    clock = wrong.diagnose([])[1]
    assert (clock.status, clock.reason) == (CheckStatus.FAIL, "ClockSkew")
    assert "behind" in clock.message


@pytest.mark.parametrize(("lifetime", "fit"), [("1m", True), ("7d", True), ("59s", False), ("8d", False)])
def test_the_lifetime_of_signatures_is_short(azurite: Azurite, tmp_path: Path, lifetime: str, fit: bool) -> None:
    settings = declared(azurite, "c", tmp_path, sasLifetime=lifetime)
    if fit:
        assert from_settings(settings)
        return
    with pytest.raises(Rejected) as caught:
        from_settings(settings)
    assert caught.value.reason == "LifetimeUnfit"
