"""The blob service, by Microsoft's own storage client and by hand: what signed addresses open, and what not."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobClient, ContainerClient

from azureml_emulator import blobs, sas
from azureml_emulator.server import RunningEmulator
from tests.emulator import support

pytestmark = pytest.mark.long(0.3)

HOST = "x.blob.core.windows.net"


def signed(emulator: RunningEmulator, path: str, permissions: str = "racwd", life: float | None = None) -> str:
    """What follows host and port."""
    query = sas.sign(emulator.emulator, "azureml", path, permissions, life)
    return f"/azureml/{quote(path)}?{query}"


def client(emulator: RunningEmulator, path: str, permissions: str = "racwd", **options: Any) -> BlobClient:
    """Microsoft's client of one blob, by topology A."""
    return BlobClient.from_blob_url(
        emulator.emulator.urls(HOST).blob + signed(emulator, path, permissions), retry_total=0, **options
    )


def refused(
    emulator: RunningEmulator, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, str]:
    """Status and error code of a plain request."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, _, got = support.ask(emulator, method, path, body, headers=named)
    return status, got.get("x-ms-error-code", "")


def test_whole_blobs(emulator: RunningEmulator) -> None:
    blob = client(emulator, "a/b ü.txt")
    data = b"0123456789"
    blob.upload_blob(data, validate_content=True)
    assert blob.download_blob().readall() == data
    found = blob.get_blob_properties()
    assert (found.size, found.blob_type) == (10, "BlockBlob")
    assert base64.b64encode(bytes(found.content_settings.content_md5)) == base64.b64encode(
        hashlib.md5(data, usedforsecurity=False).digest()
    )
    assert blob.download_blob(offset=3, length=4).readall() == b"3456"
    assert blob.download_blob(offset=8, length=40).readall() == b"89"
    with pytest.raises(ResourceExistsError):
        blob.upload_blob(b"other")
    blob.upload_blob(b"other", overwrite=True)
    assert blob.download_blob().readall() == b"other"
    blob.delete_blob()
    with pytest.raises(ResourceNotFoundError):
        blob.download_blob()
    assert blob.exists() is False


def test_blocks(emulator: RunningEmulator) -> None:
    blob = client(emulator, "big", max_single_put_size=1000, max_block_size=700)
    data = bytes(range(256)) * 20
    blob.upload_blob(data)
    assert blob.download_blob().readall() == data
    assert [entry for entry in emulator.requests if entry["query"].get("comp") == "block"]
    with pytest.raises(ResourceExistsError):
        blob.upload_blob(data)
    blob.stage_block("MDE=", b"left")
    assert "MDE=" in [block.id for block in blob.get_block_list("uncommitted")[1]]
    with pytest.raises(HttpResponseError):
        blob.commit_block_list(["MDI="])


def test_append(emulator: RunningEmulator) -> None:
    blob = client(emulator, "log.txt")
    blob.create_append_blob()
    blob.append_block(b"one ")
    blob.append_block(b"two", appendpos_condition=4)
    with pytest.raises(HttpResponseError) as late:
        blob.append_block(b"three", appendpos_condition=4)
    assert late.value.status_code == 412
    assert blob.download_blob().readall() == b"one two"
    client(emulator, "block").upload_blob(b"x")
    with pytest.raises(ResourceExistsError):
        client(emulator, "block").append_block(b"y")


def test_lists(emulator: RunningEmulator) -> None:
    for name in ("a/1", "a/2", "a/b/3", "c & d"):
        blobs.put(emulator.emulator, "azureml", name, name.encode())
    query = sas.sign(emulator.emulator, "azureml", "", "rl")
    container = ContainerClient.from_container_url(
        f"{emulator.emulator.urls(HOST).blob}/azureml?{query}", retry_total=0
    )
    found = list(container.list_blobs(results_per_page=1))
    assert [(one.name, one.size) for one in found] == [("a/1", 3), ("a/2", 3), ("a/b/3", 5), ("c & d", 5)]
    assert [one.name for one in container.list_blobs(name_starts_with="a/")] == ["a/1", "a/2", "a/b/3"]
    assert sorted(one.name for one in container.walk_blobs("a/", delimiter="/")) == ["a/1", "a/2", "a/b/"]
    assert container.exists()
    lists = [entry for entry in emulator.requests if entry["query"].get("comp") == "list"]
    assert [bool(entry["query"].get("marker")) for entry in lists] == [False, True, False, False]


def test_what_a_signature_does_not_open(emulator: RunningEmulator) -> None:
    blobs.put(emulator.emulator, "azureml", "a", b"secret")
    blobs.put(emulator.emulator, "azureml", "b", b"secret")
    ours = signed(emulator, "a", "r")
    assert support.ask(emulator, "GET", ours)[1] == b"secret"
    denied, unable = (403, "AuthenticationFailed"), (403, "AuthorizationPermissionMismatch")
    assert refused(emulator, "GET", "/azureml/a") == denied
    assert refused(emulator, "GET", ours.replace("/azureml/a", "/azureml/b")) == denied
    assert refused(emulator, "GET", ours.replace("/azureml/a", "/snapshots/a")) == denied
    assert refused(emulator, "GET", ours.replace("sp=r", "sp=rw")) == denied
    assert refused(emulator, "GET", ours[:-6] + "AAAAAA") == denied
    assert refused(emulator, "GET", signed(emulator, "a", "r", life=-1)) == denied
    assert refused(emulator, "GET", signed(emulator, "a", "w")) == unable
    assert refused(emulator, "DELETE", signed(emulator, "a", "rw")) == unable
    kind = {"x_ms_blob_type": "BlockBlob"}
    assert refused(emulator, "PUT", ours, b"x", **kind) == unable
    # Who may create may not write over, with or without asking first.
    assert refused(emulator, "PUT", signed(emulator, "a", "c"), b"x", **kind) == unable
    exists = refused(emulator, "PUT", signed(emulator, "a", "c"), b"x", If_None_Match="*", **kind)
    assert exists == (409, "BlobAlreadyExists")
    assert refused(emulator, "PUT", signed(emulator, "new", "c"), b"x", **kind) == (201, "")
    listing = ours.replace("/azureml/a?", "/azureml?restype=container&comp=list&")
    assert refused(emulator, "GET", listing)[0] == 403
    whole = sas.sign(emulator.emulator, "azureml", "", "r")
    assert support.ask(emulator, "GET", f"/azureml/b?{whole}")[1] == b"secret"


def test_expiry_follows_the_option(emulator: RunningEmulator) -> None:
    blobs.put(emulator.emulator, "azureml", "a", b"x")
    emulator.change(sas_life=-1.0)
    assert refused(emulator, "GET", signed(emulator, "a", "r"))[0] == 403


def test_refusals_in_its_own_words(emulator: RunningEmulator) -> None:
    kind = {"x_ms_blob_type": "BlockBlob"}
    wrong = base64.b64encode(b"0" * 16).decode()
    assert refused(emulator, "PUT", signed(emulator, "a"), b"x", Content_MD5=wrong, **kind) == (400, "Md5Mismatch")
    assert blobs.get(emulator.emulator, "azureml", "a") is None
    assert refused(emulator, "PUT", signed(emulator, "a"), b"x") == (400, "InvalidHeaderValue")
    status, said, headers = support.ask(emulator, "GET", signed(emulator, "none"))
    assert (status, headers["x-ms-error-code"]) == (404, "BlobNotFound")
    assert b"<Code>BlobNotFound</Code>" in said
    assert refused(emulator, "HEAD", signed(emulator, "none")) == (404, "BlobNotFound")
    blobs.put(emulator.emulator, "azureml", "a", b"x")
    assert refused(emulator, "GET", signed(emulator, "a"), x_ms_range="bytes=5-") == (416, "InvalidRange")
    bomb = b'<!DOCTYPE x [<!ENTITY a "b">]><BlockList><Latest>&a;</Latest></BlockList>'
    assert refused(emulator, "PUT", signed(emulator, "a") + "&comp=blocklist", bomb) == (400, "InvalidXmlDocument")
    assert refused(emulator, "PUT", signed(emulator, "a") + "&comp=lease", b"") == (400, "UnsupportedOperation")


def test_bytes_of_an_append_that_never_finished_are_not_seen(emulator: RunningEmulator, tmp_path: Path) -> None:
    blob = blobs.append(emulator.emulator, "azureml", "log", b"one ")
    with blob.file.open("ab") as torn:
        torn.write(b"half a li")
    assert support.ask(emulator, "GET", signed(emulator, "log"))[1] == b"one "
    blobs.append(emulator.emulator, "azureml", "log", b"two")
    assert support.ask(emulator, "GET", signed(emulator, "log"))[1] == b"one two"
    blobs.copy_out(blobs.append(emulator.emulator, "azureml", "log", b""), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"one two"
