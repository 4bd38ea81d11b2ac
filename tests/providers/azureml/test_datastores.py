"""Datastores of the workspace: no credential goes there, whatever happens; and the unmodified client reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator import datastores
from azureml_emulator.faults import ALWAYS, Fault
from azureml_emulator.server import RunningEmulator
from edgetrain.core.errors import Conflict, Denied, ProviderError, Rejected
from edgetrain.providers.azureml.attachments import AzuremlAttachments
from tests.contract.attachments import OWNER
from tests.contract.attachments import store as wanted
from tests.providers.azureml import support

pytestmark = pytest.mark.long(0.3)

KEY = "c2VjcmV0LWtleS1vZi10aGUtc2l0ZQ=="
PART = "/datastores"


@pytest.fixture
def emulator(workspace_emulator: RunningEmulator) -> Iterator[RunningEmulator]:
    """The emulated workspace; the datastores of a test go with it."""
    yield workspace_emulator
    workspace_emulator.change(lag=0.0, page_size=100)
    for name, _ in list(workspace_emulator.emulator.store.scan(datastores.KIND)):
        datastores.delete(workspace_emulator.emulator, name)


def place(emulator: RunningEmulator, state: Path, **more: Any) -> AzuremlAttachments:
    """As another process would have them."""
    return AzuremlAttachments(support.session(emulator, state, **more))


def writes(emulator: RunningEmulator) -> list[str]:
    return [
        one["method"]
        for one in emulator.requests
        if PART in one["path"] and one["method"] in ("POST", "PUT", "DELETE")
    ]


def stored(emulator: RunningEmulator, name: str = "hub_imaging") -> dict[str, Any]:
    return datastores.get(emulator.emulator, "localhost", name, secret=True)


def by_hand(emulator: RunningEmulator, name: str = "hub_imaging", tags: Any = None, **section: Any) -> None:
    """What somebody makes of it in the studio."""
    storage = {"accountName": "imaging", "containerName": "xray", "endpoint": "st-anna.hosp.example", **section}
    body = {"name": name, "dataStoreType": "AzureBlob", "tags": tags or {}, "azureStorageSection": storage}
    datastores.replace(emulator.emulator, name, body)


def test_the_unmodified_client_reads_it_and_finds_no_credential(
    emulator: RunningEmulator, tmp_path: Path, topology: str
) -> None:
    session = support.session(emulator, tmp_path / "state", topology)
    made = AzuremlAttachments(session).register(wanted(), OWNER)
    assert (made.owner, made.digest, made.fields) == (OWNER, wanted().digest, wanted().fields)
    found = session.call(lambda: session.workspace.datastores["hub_imaging"], "reading it")
    assert (found.account_name, found.container_name, found.endpoint, found.protocol) == (
        "imaging",
        "xray",
        "st-anna.hosp.example",
        "https",
    )
    assert (found.account_key, found.sas_token, found.credential_type) == (None, None, "None")
    assert found.name == "hub_imaging"


def test_what_is_sent_has_no_place_for_a_key(emulator: RunningEmulator, tmp_path: Path) -> None:
    made = place(emulator, tmp_path / "state")
    made.register(wanted(), OWNER)
    held = stored(emulator)
    assert held["tags"] == {"edgetrain.owner": OWNER, "edgetrain.digest": wanted().digest}
    assert held["azureStorageSection"] == {
        "accountName": "imaging",
        "containerName": "xray",
        "endpoint": "st-anna.hosp.example",
        "protocol": "https",
        "credentialType": "None",
        "areWorkspaceManagedIdentitiesAllowed": False,
        "serviceDataAccessAuthIdentity": "None",
    }
    [asked] = [one for one in emulator.requests if one["method"] == "POST" and PART in one["path"]]
    assert asked["query"] == {"createIfNotExists": "false", "skipValidation": "true"}
    # No field is there that could hold one, so nothing had to be kept out of the log either.
    sent = json.dumps(asked["body"]).lower()
    assert not [word for word in ('"credential"', "accountkey", "sastoken", "secret", "sig=") if word in sent]


def test_the_list_is_one_request_and_asks_for_no_secret(emulator: RunningEmulator, tmp_path: Path) -> None:
    by_hand(emulator, "theirs", credentialType="AccountKey", credential=KEY)
    made = place(emulator, tmp_path / "state")
    for number in range(3):
        made.register(wanted(f"store_{number}"), OWNER)
    emulator.emulator.log.clear()
    found = made.datastores()
    assert set(found) == {"store_0", "store_1", "store_2", "theirs", "workspaceblobstore"}
    assert KEY not in repr(found)
    assert (found["theirs"].owner, found["theirs"].fields["credential"]) == ("", "AccountKey")
    [asked] = support.asked(emulator, PART)
    assert asked["query"]["includeSecret"] == "false"
    emulator.change(page_size=2)
    assert made.datastores() == found


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"accountName": "elsewhere"}, "account"),
        ({"containerName": "other"}, "container"),
        ({"endpoint": "core.windows.net"}, "endpoint"),
        ({"protocol": "http"}, "protocol"),
        ({"credentialType": "AccountKey", "credential": KEY}, "credential"),
        ({"credentialType": "Sas", "credential": "sv=1&sig=" + KEY}, "credential"),
        ({"ServiceDataAccessAuthIdentity": "WorkspaceSystemAssignedIdentity"}, "credential"),
    ],
)
def test_a_change_by_hand_shows_and_is_mended(
    emulator: RunningEmulator, tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    made = place(emulator, tmp_path / "state")
    made.register(wanted(), OWNER)
    by_hand(emulator, tags=stored(emulator)["tags"], **change)
    assert set(wanted().drift(made.datastores()["hub_imaging"])) == {field}
    mended = made.register(wanted(), OWNER)
    assert wanted().drift(mended) == {}
    assert KEY not in json.dumps(stored(emulator))


def test_another_type_under_our_tags_shows(emulator: RunningEmulator, tmp_path: Path) -> None:
    made = place(emulator, tmp_path / "state")
    made.register(wanted(), OWNER)
    held = stored(emulator)
    datastores.replace(emulator.emulator, "hub_imaging", {**held, "dataStoreType": "AzureFile"})
    assert "type" in wanted().drift(made.datastores()["hub_imaging"])
    made.register(wanted(), OWNER)
    assert stored(emulator)["dataStoreType"] == "AzureBlob"


@pytest.mark.parametrize("tags", [{}, {"edgetrain.owner": "ba9876543210"}, {"edgetrain.owner": None}])
def test_what_is_not_ours_is_left_alone(emulator: RunningEmulator, tmp_path: Path, tags: dict[str, Any]) -> None:
    by_hand(emulator, tags=tags, credentialType="AccountKey", credential=KEY)
    made, before = place(emulator, tmp_path / "state"), stored(emulator)
    for act in (lambda: made.register(wanted(), OWNER), lambda: made.unregister("hub_imaging", OWNER)):
        with pytest.raises(Conflict) as raised:
            act()
        assert raised.value.reason == "NotOurs"
        assert KEY not in str(raised.value)
    assert writes(emulator) == []
    assert stored(emulator) == before


def test_the_workspaces_own_is_left_alone(emulator: RunningEmulator, tmp_path: Path) -> None:
    with pytest.raises(Conflict):
        place(emulator, tmp_path / "state").register(wanted("workspaceblobstore"), OWNER)
    assert writes(emulator) == []


def test_an_answer_that_was_lost_registers_once(emulator: RunningEmulator, tmp_path: Path) -> None:
    emulator.emulator.faults.add(Fault(f"POST .*{PART}", reset=True, after=True))
    made = place(emulator, tmp_path / "state").register(wanted(), OWNER)
    assert made.owner == OWNER
    assert len([1 for name in place(emulator, tmp_path / "state").datastores() if name == "hub_imaging"]) == 1


def test_again_writes_nothing_and_a_list_that_lags_does_no_harm(emulator: RunningEmulator, tmp_path: Path) -> None:
    emulator.change(lag=3600.0)
    made = place(emulator, tmp_path / "state")
    made.register(wanted("never_seen"), OWNER)
    assert "never_seen" not in made.datastores()
    place(emulator, tmp_path / "state").register(wanted("never_seen"), OWNER)
    assert writes(emulator) == ["POST"]
    made.unregister("never_seen", OWNER)
    made.unregister("never_seen", OWNER)
    assert writes(emulator) == ["POST", "DELETE"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("status", [403, 500])
def test_what_was_cut_short_is_made_good(
    emulator: RunningEmulator, tmp_path: Path, method: str, status: int
) -> None:
    made = place(emulator, tmp_path / "state")

    def act() -> None:
        if method == "DELETE":
            made.unregister("hub_imaging", OWNER)
        else:
            made.register(wanted(), OWNER)

    if method != "POST":
        made.register(wanted(container="before"), OWNER)
    emulator.emulator.faults.add(Fault(f"{method} .*{PART}", status=status, count=ALWAYS))
    with pytest.raises(ProviderError) as raised:
        act()
    assert isinstance(raised.value, Denied) == (status == 403)
    emulator.emulator.faults.clear()
    act()
    found = made.datastores().get("hub_imaging")
    assert found is None if method == "DELETE" else found is not None and not wanted().drift(found)


@pytest.mark.parametrize("kept", [{}, {"edgetrain.owner": OWNER}])
def test_a_service_that_keeps_no_tags_is_not_taken_for_done(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: dict[str, str]
) -> None:
    create = datastores.create

    def forgetful(emulator: Any, body: Any) -> None:
        create(emulator, {**body, "tags": kept})

    monkeypatch.setattr(datastores, "create", forgetful)
    with pytest.raises(Rejected) as raised:
        place(emulator, tmp_path / "state").register(wanted(), OWNER)
    assert raised.value.reason == "DatastoreNotKept"
    assert "azureml: none" in raised.value.fix


def test_a_reader_sees_and_changes_nothing(emulator: RunningEmulator, tmp_path: Path) -> None:
    by_hand(emulator, "theirs", credentialType="AccountKey", credential=KEY)
    auth = support.by_secret(emulator, "reader")
    secret = {"sp": emulator.principal("reader")["clientSecret"]}
    made = place(emulator, tmp_path / "state", auth=auth, secrets=secret)
    assert made.datastores()["theirs"].fields["credential"] == "AccountKey"
    with pytest.raises(Denied):
        made.register(wanted(), OWNER)


def test_nothing_secret_is_left_on_disk_or_in_logs(
    emulator: RunningEmulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    made = place(emulator, tmp_path / "state")
    made.register(wanted(), OWNER)
    by_hand(emulator, tags=stored(emulator)["tags"], credentialType="AccountKey", credential=KEY)
    made.datastores()
    made.register(wanted(), OWNER)
    assert KEY not in caplog.text
    assert KEY not in (emulator.folder / "requests.jsonl").read_text()
    for path in (tmp_path / "state").rglob("*"):
        assert not path.is_file() or KEY not in path.read_text("utf-8", "replace")
