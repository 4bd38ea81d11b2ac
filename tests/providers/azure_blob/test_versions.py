"""Each supported version by what goes over the wire: the pinned one in every request, and nothing newer in it."""

from __future__ import annotations

import io
import urllib.parse
from pathlib import Path

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import Rejected
from edgetrain.core.ports import CheckStatus, Outbound
from edgetrain.providers.azure_blob import artifacts, client, datastore
from edgetrain.providers.azure_blob.account import account_of
from testbed.azurite import Azurite

from .proxy import RecordingProxy
from .stores import VERSIONS, declared, new_container

pytestmark = pytest.mark.needs("azurite")

# What version 2017-11-09 knows; the service ignores the other names that HTTP and the SDK's tracing bring.
KNOWN = {
    "x-ms-version",
    "x-ms-date",
    "x-ms-client-request-id",
    "x-ms-return-client-request-id",
    "x-ms-range",
    "x-ms-blob-type",
    "x-ms-blob-content-type",
    "x-ms-delete-snapshots",
    "x-ms-lease-action",
    "x-ms-lease-duration",
    "x-ms-lease-id",
    "x-ms-proposed-lease-id",
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("credential", ["accountKey", "sas"])
def test_every_request_carries_the_pinned_version_and_nothing_newer(
    azurite: Azurite, tmp_path: Path, version: str, credential: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BLOCK", 2**20)  # so that a small artifact goes in blocks
    secret = None
    container = new_container(azurite, {"a/x.csv": b"1", "b.csv": b"22"})
    if credential == "sas":
        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        secret = generate_container_sas(
            azurite.account,
            container,
            account_key=azurite.key,
            permission=ContainerSasPermissions(read=True, list=True, write=True, delete=True, create=True),
            expiry="2099-01-01T00:00:00Z",
            start="2020-01-01T00:00:00Z",
        )
        sv = dict(urllib.parse.parse_qsl(secret))["sv"]
        secret = resign(secret, sv, azurite, container)
    with RecordingProxy() as proxy:
        settings = declared(
            azurite, container, tmp_path, credential, secret, Outbound(proxy=proxy.url), apiVersion=version
        )
        store = datastore.from_settings(settings)
        assert store.digest(".").files == 2
        source = store.source("a")
        assert source.access["apiVersion"] == version
        assert {check.status for check in store.diagnose(["a"])} <= {CheckStatus.PASS, CheckStatus.WARN}
        kept = artifacts.from_settings(settings)
        large = bytes(3 * 2**20)
        assert kept.put_bytes(large) == digest_bytes(large)
        with kept.open(digest_bytes(large)) as stream:
            assert stream.read() == large
        assert {check.status for check in kept.diagnose()} == {CheckStatus.PASS}
    methods = {(request.method, request.query.get("comp", "")) for request in proxy.requests}
    assert {("GET", "list"), ("GET", ""), ("HEAD", ""), ("PUT", ""), ("PUT", "lease"), ("DELETE", "")} <= methods
    assert {("PUT", "block"), ("PUT", "blocklist")} <= methods
    for request in proxy.requests:
        assert request.headers["x-ms-version"] == version, request
        assert {name for name in request.headers if name.startswith("x-ms-")} <= KNOWN, request
        assert set(request.query.get("include", "metadata").split(",")) == {"metadata"}, request
    if credential == "accountKey":
        assert dict(urllib.parse.parse_qsl(source.access["sas"]))["sv"] == version
    else:
        assert "sas" not in source.access  # it allows writing: data goes through the runner
        assert source.stream is not None


def resign(sas: str, sv: str, azurite: Azurite, container: str) -> str:
    """The same signature in a version that Azurite takes: the SDK signs for its newest only."""
    from edgetrain.providers.azure_blob.sas import sign

    query = dict(urllib.parse.parse_qsl(sas)) | {"sv": "2019-07-07"}
    resource = f"/blob/{azurite.account}/{container}"
    parts = [query["sp"], query["st"], query["se"], resource, "", "", "", "2019-07-07", "c", "", "", "", "", "", ""]
    assert sv > "2019-07-07"
    return urllib.parse.urlencode(query | {"sig": sign(azurite.key, "\n".join(parts))})


def test_creating_is_conditional_and_reading_too(azurite: Azurite, tmp_path: Path) -> None:
    container = new_container(azurite, {"x": b"1"})
    with RecordingProxy() as proxy:
        settings = declared(azurite, container, tmp_path, outbound=Outbound(proxy=proxy.url))
        artifacts.from_settings(settings).put_bytes(b"weights")
        artifacts.from_settings(settings).claim("ticket", b"mine")
        datastore.from_settings(settings).digest("x")
    writes = [request for request in proxy.requests if request.method == "PUT"]
    assert len(writes) == 2
    assert all(request.headers["if-none-match"] == "*" for request in writes)
    reads = [request for request in proxy.requests if request.method == "GET" and "comp" not in request.query]
    assert reads
    assert all(request.headers["if-match"].startswith('"') for request in reads)


def test_blocks_are_committed_only_if_nothing_is_there(
    azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BLOCK", 2**20)
    container = new_container(azurite)
    with RecordingProxy() as proxy:
        settings = declared(azurite, container, tmp_path, outbound=Outbound(proxy=proxy.url))
        made = client.Container(account_of(settings))
        assert made.create("large", io.BytesIO(bytes(3 * 2**20)), 3 * 2**20)
        assert not made.create("large", io.BytesIO(b"x" * 3 * 2**20), 3 * 2**20)
    commits = [request for request in proxy.requests if request.query.get("comp") == "blocklist"]
    assert len(commits) == 2
    assert all(request.headers["if-none-match"] == "*" for request in commits)
    assert b"".join(made.read(made.look("large") or pytest.fail("gone"))) == bytes(3 * 2**20)


@pytest.mark.parametrize("version", ["2016-05-31", "1999-01-01", "9999-12-31"])
def test_a_version_nobody_knows_is_refused(azurite: Azurite, tmp_path: Path, version: str) -> None:
    settings = declared(azurite, new_container(azurite), tmp_path, apiVersion=version)
    with pytest.raises(Rejected) as caught:
        datastore.from_settings(settings).digest(".")
    assert caught.value.reason == "ApiVersionUnsupported"
    assert "2017-11-09" in caught.value.fix


def test_a_version_that_the_service_does_not_speak_is_told(azurite: Azurite, tmp_path: Path) -> None:
    settings = declared(azurite, new_container(azurite), tmp_path, apiVersion="2026-10-06")
    with pytest.raises(Rejected) as caught:
        datastore.from_settings(settings).digest(".")
    assert caught.value.reason == "ApiVersionRefused"


def test_the_endpoint_names_the_account(azurite: Azurite, tmp_path: Path) -> None:
    for endpoint, name in (
        ("https://imaging.blob.local.azurestack.external", "imaging"),
        ("https://imaging.blob.core.windows.net/", "imaging"),
        ("http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1"),
        ("https://[fd00::1]:10000/edge", "edge"),
    ):
        assert account_of(declared(azurite, "c", tmp_path, endpoint=endpoint)).name == name
    for endpoint in ("http://127.0.0.1:10000", "https://localhost", "https://a.example/b/c"):
        with pytest.raises(Rejected) as caught:
            account_of(declared(azurite, "c", tmp_path, endpoint=endpoint))
        assert caught.value.reason == "EndpointWithoutAccount"


@pytest.mark.parametrize("host", ["blob.st-anna.azurestack.example", "blob.core.windows.net"])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_hosts_of_azure_stack_hub_and_azure_are_signed_for(
    azurite: Azurite, tmp_path: Path, host: str, version: str
) -> None:
    container = new_container(azurite, {"a/x.csv": b"1"})
    with RecordingProxy(to=f"{azurite.near}:{azurite.port}") as proxy:
        block = {"endpoint": f"http://{azurite.account}.{host}", "apiVersion": version}
        settings = declared(azurite, container, tmp_path, outbound=Outbound(proxy=proxy.url), **block)
        source = datastore.from_settings(settings).source("a")
        assert source.location == f"http://{azurite.account}.{host}/{container}"
        assert artifacts.from_settings(settings).claim("t", b"mine") == b"mine"
        with_sas = declared(
            azurite, container, tmp_path, "sas", source.access["sas"], Outbound(proxy=proxy.url), **block
        )
        assert datastore.from_settings(with_sas).digest("a").files == 1
    assert {request.headers["host"] for request in proxy.requests} == {f"{azurite.account}.{host}"}
    assert {request.headers["x-ms-version"] for request in proxy.requests} == {version}
