"""Datastores as the unmodified client uses them, with and without credentials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator.server import RunningEmulator
from azureml_emulator.tokens import Tokens
from tests.emulator import support

pytestmark = pytest.mark.long(0.3)

KEY = "c2VjcmV0LWtleQ=="


def base(emulator: RunningEmulator) -> str:
    return f"/datastore/v1.0{emulator.emulator.workspace_path}"


def ask(
    emulator: RunningEmulator, method: str, path: str, body: Any = None, principal: str = "owner"
) -> tuple[int, Any]:
    jwt = Tokens(emulator.emulator).issue(principal, "aml")
    status, said, _ = support.ask(emulator, method, base(emulator) + path, body, jwt)
    return status, said


def hub(ws: Any, name: str = "edge", **more: Any) -> Any:
    """A blob container of a hub."""
    from azureml.core import Datastore

    return Datastore.register_azure_blob_container(
        ws, name, "data", "acct1", endpoint="local.azurestack.external", skip_validation=True, **more
    )


def test_credentials_come_back_where_the_client_looks(emulator: RunningEmulator) -> None:
    from azureml.core import Datastore

    ws = support.connect(emulator)
    made = hub(ws, account_key=KEY)
    assert (made.account_key, made.sas_token) == (KEY, None)
    assert (made.account_name, made.container_name, made.endpoint) == ("acct1", "data", "local.azurestack.external")
    assert hub(ws, "by_sas", sas_token="sv=1&sig=2").sas_token == "sv=1&sig=2"
    bare = hub(ws, "bare")
    assert (bare.account_key, bare.sas_token) == (None, None)
    assert Datastore.get(ws, "EDGE").account_key == KEY
    assert sorted(ws.datastores) == ["bare", "by_sas", "edge", "workspaceblobstore"]
    assert ws.datastores["edge"].account_key == KEY
    log = (emulator.folder / "requests.jsonl").read_text()
    assert KEY not in log


def test_overwriting_and_unregistering(emulator: RunningEmulator) -> None:
    from azureml.core import Datastore
    from azureml.exceptions import UserErrorException

    ws = support.connect(emulator)
    hub(ws, account_key=KEY)
    with pytest.raises(UserErrorException, match="same name already exists"):
        hub(ws)
    assert hub(ws, overwrite=True).account_key is None
    Datastore.get(ws, "edge").unregister()
    with pytest.raises(UserErrorException, match="Could not find datastore"):
        Datastore.get(ws, "edge")
    assert ask(emulator, "DELETE", "/datastores/edge")[0] == 204


def test_default_datastore(emulator: RunningEmulator) -> None:
    from azureml.core import Datastore
    from azureml.exceptions import UserErrorException

    ws = support.connect(emulator)
    assert ws.get_default_datastore().name == "workspaceblobstore"
    hub(ws)
    ws.set_default_datastore("edge")
    assert ws.get_default_datastore().name == "edge"
    with pytest.raises(UserErrorException):
        ws.set_default_datastore("nosuch")
    with pytest.raises(UserErrorException, match="default"):
        Datastore.get(ws, "edge").unregister()


def test_files_go_to_the_workspaces_own_datastore_and_come_back(emulator: RunningEmulator, tmp_path: Path) -> None:
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "a.csv").write_bytes(b"1,2\n" * 1000)
    store = support.connect(emulator).get_default_datastore()
    store.upload(str(tmp_path / "up"), target_path="data", show_progress=False)
    assert store.download(str(tmp_path / "down"), prefix="data", show_progress=False) == 1
    assert (tmp_path / "down" / "data" / "a.csv").read_bytes() == b"1,2\n" * 1000


def test_reader_gets_no_secret(emulator: RunningEmulator) -> None:
    hub(support.connect(emulator), account_key=KEY)
    seen = support.connect(emulator, "reader").datastores["edge"]
    assert (seen.account_name, seen.account_key) == ("acct1", None)
    for path in ("/datastores", "/datastores/edge", "/default", "/datastores?includeSecret=true"):
        said = str(ask(emulator, "GET", path, principal="reader")[1])
        assert KEY not in said
        assert "sasToken" not in said
    for method, path in (("POST", "/datastores"), ("DELETE", "/datastores/edge"), ("PUT", "/default/edge")):
        assert ask(emulator, method, path, {}, principal="reader")[0] == 403
    assert KEY not in str(ask(emulator, "GET", "/datastores?includeSecret=false")[1])
    assert KEY in str(ask(emulator, "GET", "/datastores?count=100&includeSecret=true")[1])


def test_lists_have_pages(emulator: RunningEmulator) -> None:
    from azureml.data.datastore_client import _DatastoreClient

    ws = support.connect(emulator)
    for index in range(4):
        hub(ws, f"d{index}")
    found = _DatastoreClient.list(ws, count=2)
    assert [store.name for store in found] == ["d0", "d1"]
    names, token = [], ""
    while token is not None:
        said = ask(emulator, "GET", f"/datastores?count=2&continuationToken={token}")[1]
        names += [item["name"] for item in said["value"]]
        token = said["continuationToken"]
    assert names == ["d0", "d1", "d2", "d3", "workspaceblobstore"]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"name": "a-b", "dataStoreType": "AzureBlob", "azureStorageSection": {}},
        {"name": "a", "dataStoreType": "Floppy"},
        {"name": "a", "dataStoreType": "AzureBlob"},
        {"name": "a", "dataStoreType": "AzureBlob", "azureStorageSection": {"accountName": "x"}},
        {
            "name": "a",
            "dataStoreType": "AzureBlob",
            "azureStorageSection": {"accountName": "x", "containerName": "y", "credentialType": "AccountKey"},
        },
        {
            "name": "a",
            "dataStoreType": "AzureBlob",
            "azureStorageSection": {"accountName": "x", "containerName": "y", "credentialType": "Magic"},
        },
    ],
)
def test_bad_datastores_are_refused(emulator: RunningEmulator, body: Any) -> None:
    assert ask(emulator, "POST", "/datastores", body)[0] == 400
    assert len(ask(emulator, "GET", "/datastores")[1]["value"]) == 1


def test_other_kinds_are_kept(emulator: RunningEmulator) -> None:
    from azureml.core import Datastore

    ws = support.connect(emulator)
    made = Datastore.register_azure_data_lake_gen2(
        ws, "lake", "files", "acct2", tenant_id="t", client_id="00000000-0000-4000-8000-000000000001",
        client_secret="lake-secret",
    )  # fmt: skip
    assert (made.account_name, made.client_secret) == ("acct2", "lake-secret")
    assert "lake-secret" not in str(ask(emulator, "GET", "/datastores/lake", principal="reader")[1])


def test_datastores_outlive_the_emulator(make_emulator: Callable[..., RunningEmulator]) -> None:
    first = make_emulator()
    ws = support.connect(first)
    hub(ws, account_key=KEY)
    ws.set_default_datastore("edge")
    first.stop()
    second = make_emulator(folder=first.folder)
    said = ask(second, "GET", "/default")[1]
    assert (said["name"], said["azureStorageSection"]["accountKey"]) == ("edge", KEY)
