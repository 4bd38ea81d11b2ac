"""What the client asks and the emulator answers, held to what Microsoft publishes of the real services."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator.server import RunningEmulator
from azureml_emulator.tokens import Tokens
from testbed.registry import Registry
from tests.emulator import support
from tests.emulator.described import Description
from tests.emulator.images import push_image
from tests.emulator.test_registry import Client


def held(emulator: RunningEmulator, file: str) -> set[str]:
    """The described operations that were not asked for; those that were are as described."""
    description = Description(file)
    names, faults = set(), []
    for entry in emulator.requests:
        operation = description.operation(entry["method"], entry["path"])
        if operation is not None:
            names.add(operation.name)
            faults += description.faults(entry, entry["path"])
    assert faults == []
    return {operation.name for operation in description.operations} - names


def plain(emulator: RunningEmulator, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """A request that the client has no call for."""
    where = path.replace("{WS}", emulator.emulator.workspace_path)
    status, said, _ = support.ask(emulator, method, where, body, Tokens(emulator.emulator).issue("owner", "arm"))
    return status, said


def test_model_management(
    make_emulator: Callable[..., RunningEmulator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azureml.core import Experiment, Model
    from azureml.core.resource_configuration import ResourceConfiguration
    from azureml.exceptions import WebserviceException

    emulator = make_emulator(page_size=2)
    monkeypatch.chdir(tmp_path)
    ws = support.connect(emulator)
    run = Experiment(ws, "e").start_logging(snapshot_directory=None)
    (tmp_path / "m.bin").write_bytes(b"model")
    run.upload_file("outputs/m.bin", "m.bin")
    run.register_model("m", model_path="outputs/m.bin", tags={"a": "b"}, properties={"c": "d"})
    run.complete()
    for _ in range(2):
        made = Model.register(
            ws, "m.bin", "m", tags={"a": "b"}, description="text", model_framework=Model.Framework.SCIKITLEARN,
            model_framework_version="1.5", resource_configuration=ResourceConfiguration(cpu=1, memory_in_gb=0.5),
        )  # fmt: skip
    made.add_tags({"x": "y"})
    made.add_properties({"z": "1"})
    made.update(description="other")
    assert len(Model.list(ws, tags=[["a", "b"]], latest=True)) == 1
    assert len(Model.list(ws)) == 3
    made.download(str(tmp_path / "down"))
    made.delete()
    made.delete()
    assert Model(ws, id="m:1").version == 1
    with contextlib.suppress(WebserviceException):
        Model(ws, id="m:3")
    _, asset = plain(emulator, "POST", "/modelmanagement/v1.0{WS}/assets", {"name": "a"})
    one = f"/modelmanagement/v1.0{{WS}}/assets/{asset['id']}"
    assert plain(emulator, "PATCH", one, [{"op": "add", "path": "/kvTags/a", "value": "b"}])[0] == 200
    assert plain(emulator, "GET", "/modelmanagement/v1.0{WS}/assets?count=1")[0] == 200
    assert plain(emulator, "DELETE", one)[0] == 200
    assert plain(emulator, "GET", one)[0] == 404
    package = {"imageName": "i", "imageRequest": {"modelIds": ["m:1"]}}
    assert plain(emulator, "POST", "/modelmanagement/v1.0{WS}/packages", package)[0] == 202
    key = emulator.emulator.store.scan("package")[0][0]
    assert plain(emulator, "GET", f"/modelmanagement/v1.0{{WS}}/operations/{key}")[0] == 200
    assert held(emulator, "model_management.json") == set()


def test_datastores(emulator: RunningEmulator) -> None:
    from azureml.core import Datastore
    from azureml.exceptions import UserErrorException

    ws = support.connect(emulator)

    def register(name: str, **more: Any) -> Any:
        return Datastore.register_azure_blob_container(ws, name, "data", "acct", **more)

    register("bare", endpoint="local.azurestack.external")
    register("keyed", account_key="a2V5")
    register("signed", sas_token="sv=1&sig=x")
    register("keyed", account_key="b3RoZXI=", overwrite=True)
    Datastore.register_azure_file_share(ws, "share", "files", "acct", account_key="a2V5")
    Datastore.register_azure_data_lake_gen2(
        ws, "lake", "fs", "acct", tenant_id=support_uuid(1), client_id=support_uuid(2), client_secret="s"
    )
    assert len(ws.datastores) == 6
    ws.set_default_datastore("bare")
    assert ws.get_default_datastore().name == "bare"
    Datastore.get(ws, "keyed").unregister()
    with contextlib.suppress(UserErrorException):
        Datastore.get(ws, "keyed")
    with contextlib.suppress(UserErrorException):
        register("bare")
    assert held(emulator, "datastore.json") == set()


def support_uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


@pytest.mark.needs("registry")
def test_container_registry(make_emulator: Callable[..., RunningEmulator]) -> None:
    with Registry("open") as real:
        emulator = make_emulator(registry=real.url)
        client = Client(emulator)
        digest = push_image(client.url, "team/image", "1", call=client)
        base, version = f"{client.url}/acr/v1/team/image", "?api-version=2021-07-01"
        for path in ("", "/_tags", "/_tags/1", "/_manifests", f"/_manifests/{digest}"):
            assert client("GET", base + path + version).status_code == 200
        assert client("GET", f"{client.url}/acr/v1/_catalog{version}&n=1").status_code == 200
        assert client("GET", f"{base}/_tags/nosuch{version}").status_code == 404
        refresh = client.exchange().json()["refresh_token"]
        query = {"service": client.service, "scope": "repository:team/image:pull"}
        signed_in = ("00000000-0000-0000-0000-000000000000", refresh)
        answer = client.session.get(f"{client.url}/oauth2/token", params=query, auth=signed_in, timeout=60)
        assert answer.status_code == 200
        assert held(emulator, "container_registry.json") == set()


def test_what_is_not_described_is_found(emulator: RunningEmulator) -> None:
    """The check itself: each fault that is put into good traffic is seen."""
    made = {"name": "m", "url": "https://x.test/m", "mimeType": "application/json"}
    assert plain(emulator, "POST", "/modelmanagement/v1.0{WS}/models", made)[0] == 200
    assert plain(emulator, "GET", "/modelmanagement/v1.0{WS}/models/m:9")[0] == 404
    good = [entry for entry in emulator.requests if entry["route"] in ("register", "get_model")]
    described = Description("model_management.json")
    assert [described.faults(entry, entry["path"]) for entry in good] == [[], []]

    def faults(index: int, part: str, **fields: Any) -> list[str]:
        bad = copy.deepcopy(good[index])
        bad[part].update(fields)
        return described.faults(bad, bad["path"])

    assert faults(0, "answer", invented=1)
    assert faults(0, "answer", version="1")
    assert faults(0, "answer", createdTime="yesterday")
    assert faults(0, "answer", url=None)
    assert faults(0, "body", url=None)
    assert faults(0, "query", invented="1")
    assert faults(1, "answer", invented="1")
    assert described.faults({**good[0], "status": 201}, good[0]["path"])
