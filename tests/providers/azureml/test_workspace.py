"""The Azure ML workspace: hand-made changes are told, in few requests; lags and others at work double nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator import artifacts, experiments, metrics, models, runs
from azureml_emulator.message import Principal
from azureml_emulator.server import RunningEmulator
from edgetrain.core.errors import Conflict, NotFound
from edgetrain.core.ports import MetricPoint
from edgetrain.providers.azureml.attachments import AzuremlAttachments
from edgetrain.providers.azureml.models import POINTER
from edgetrain.providers.azureml.tracking import PARAMETER_KEY
from edgetrain.providers.azureml.workspace import AzuremlWorkspace
from tests.contract.workspace import DIGEST, OTHER, RUN
from tests.providers.azureml import support
from tests.providers.azureml.workspaces import Workspaces, a_run, changed

pytestmark = pytest.mark.long(0.35)

PERSON = Principal("somebody", "contributor")


def by_hand(emulator: RunningEmulator, name: str, **more: Any) -> dict[str, Any]:
    """A version that somebody registers."""
    body = {"name": name, "url": "https://example.org/m", "mimeType": "application/json", **more}
    return models.register(emulator.emulator, body, PERSON)


def retag(emulator: RunningEmulator, name: str, number: str, tags: dict[str, str]) -> None:
    """What somebody makes of a version's tags."""
    patch = [{"op": "replace", "path": "/kvTags", "value": tags}]
    models.change(emulator.emulator, models.MODEL, f"{name}:{number}", patch, PERSON)


def numbers(emulator: RunningEmulator, name: str) -> list[int]:
    """Azure ML's own numbers of a model's versions, of the first nine."""
    return [number for number in range(1, 10) if models.model(emulator.emulator, f"{name}:{number}")]


# --- in few requests -------------------------------------------------------------------------------------


def test_what_did_not_change_costs_no_request_of_its_own(
    workspace_emulator: RunningEmulator, tmp_path: Path, unique: str
) -> None:
    stand_in = workspace_emulator.emulator
    for number in range(500):
        experiments.ensure(stand_in, f"{unique}-{number}")
    names = [f"{unique}-{number}" for number in range(200)]
    for name in names:
        keys = {"edgetrain.version": "1", "edgetrain.digest": DIGEST}
        by_hand(workspace_emulator, name, kvTags=keys, properties=keys)
    workspace_emulator.emulator.log.clear()
    session = support.session(workspace_emulator, tmp_path / "state")
    assert session.workspace.name == session.name
    found = AzuremlWorkspace(session).observe(names)
    AzuremlAttachments(session).attached()
    AzuremlAttachments(session).datastores()
    assert set(found) == set(names)
    assert all(set(model.versions) == {1} for model in found.values())
    assert len(workspace_emulator.requests) <= 20
    assert changed(workspace_emulator) == []


def test_what_is_as_wanted_is_not_written_again(
    workspace_emulator: RunningEmulator, workspaces: Workspaces, unique: str
) -> None:
    def bring(workspace: AzuremlWorkspace) -> None:
        run = workspace.track(a_run(unique))
        workspace.register(unique, 1, run, DIGEST, {"edgetrain.commit": "c0ffee"})
        workspace.mark(unique, 1, {"a": "1"})
        workspace.alias(unique, "production", 1)

    bring(workspaces())
    workspace_emulator.emulator.log.clear()
    bring(workspaces())
    assert changed(workspace_emulator) == []


# --- what people do by hand ------------------------------------------------------------------------------


def test_somebody_registers_a_version(
    workspace_emulator: RunningEmulator, workspace: AzuremlWorkspace, unique: str
) -> None:
    first = workspace.register(unique, 1, "", DIGEST, {})
    # Tags can be copied; properties are what we gave.
    tags = {"edgetrain.version": "2", "edgetrain.digest": OTHER, "edgetrain.channel.production": "true"}
    theirs = by_hand(workspace_emulator, unique, kvTags=tags)
    model = workspace.observe([unique])[unique]
    assert set(model.versions) == {1}
    assert model.foreign == (str(theirs["version"]),)
    assert model.channels == {"production": -1}
    second = workspace.register(unique, 2, "", DIGEST, {})
    assert len({first, second, str(theirs["version"])}) == 3
    workspace.alias(unique, "production", 2)
    assert workspace.observe([unique])[unique].channels == {"production": 2}


def test_somebody_takes_our_tags_away(
    workspace_emulator: RunningEmulator, workspaces: Workspaces, unique: str
) -> None:
    number = workspaces().register(unique, 4, "", DIGEST, {"edgetrain.commit": "c0ffee"})
    theirs = {"edgetrain.version": "9", "their own": "kept"}
    retag(workspace_emulator, unique, number, theirs)
    workspace = workspaces()
    seen = workspace.observe([unique])[unique]
    assert set(seen.versions) == {4}
    assert seen.versions[4].tags == theirs
    assert workspace.register(unique, 4, "", DIGEST, {"edgetrain.commit": "c0ffee"}) == number
    assert workspace.observe([unique])[unique].versions[4].tags == {
        "edgetrain.version": "4",
        "edgetrain.digest": DIGEST,
        "edgetrain.commit": "c0ffee",
        "their own": "kept",
    }


def test_somebody_deletes_a_version(
    workspace_emulator: RunningEmulator, workspaces: Workspaces, unique: str
) -> None:
    workspace = workspaces()
    number = workspace.register(unique, 1, "", DIGEST, {})
    assert models.delete(workspace_emulator.emulator, models.MODEL, f"{unique}:{number}")
    assert workspace.observe([unique]) == {}
    with pytest.raises(NotFound):
        workspace.mark(unique, 1, {"a": "1"})
    again = workspaces().register(unique, 1, "", DIGEST, {})
    assert again != number
    assert workspace.observe([unique])[unique].versions[1].number == again


def test_somebody_puts_a_channel_on_a_second_version(
    workspace_emulator: RunningEmulator, workspaces: Workspaces, unique: str
) -> None:
    workspace = workspaces()
    held = [workspace.register(unique, version, "", DIGEST, {}) for version in (1, 2)]
    workspace.alias(unique, "production", 1)
    retag(workspace_emulator, unique, held[1], {"edgetrain.channel.production": "true"})
    assert workspaces().observe([unique])[unique].channels == {"production": -1}
    workspaces().alias(unique, "production", 1)
    assert workspaces().observe([unique])[unique].channels == {"production": 1}


def test_somebody_else_changes_tags_at_the_same_moment(
    workspace_emulator: RunningEmulator, workspace: AzuremlWorkspace, unique: str
) -> None:
    number = workspace.register(unique, 1, "", DIGEST, {})
    send, theirs = workspace._session.patch, []

    def patch(service: str, path: str, json: Any = None, **more: Any) -> Any:
        answer = send(service, path, json=json, **more)
        if not theirs:  # the whole map, as they knew it before
            theirs.append(retag(workspace_emulator, unique, number, {"edgetrain.version": "1", "theirs": "1"}))
        return answer

    workspace._session.patch = patch  # type: ignore[method-assign]
    workspace.mark(unique, 1, {"ours": "1"})
    tags = workspace.observe([unique])[unique].versions[1].tags
    assert (tags["ours"], tags["theirs"]) == ("1", "1")


# --- lists that lag, and two at once ---------------------------------------------------------------------


def test_lists_that_lag_double_nothing(
    workspace_emulator: RunningEmulator, workspaces: Workspaces, unique: str
) -> None:
    workspace_emulator.change(lag=3600.0)
    first = workspaces()
    number = first.register(unique, 1, first.track(a_run(unique)), DIGEST, {"a": "1"})
    assert first.observe([unique])[unique].versions[1].number == number
    assert workspaces().observe([unique]) == {}
    killed = workspaces()
    assert killed.register(unique, 1, killed.track(a_run(unique)), DIGEST, {"a": "1"}) == number
    workspaces().mark(unique, 1, {"a": "2"})
    workspaces().alias(unique, "production", 1)
    assert numbers(workspace_emulator, unique) == [int(number)]
    assert killed.register(unique, 2, "", DIGEST, {}) == str(int(number) + 1)
    first.mark(unique, 1, {"a": "3"})
    seen = first.observe([unique])[unique]
    assert seen.versions[1].tags["a"] == "3"
    assert seen.channels == {"production": 1}


def between(workspace: AzuremlWorkspace, act: Callable[[], object]) -> None:
    """Let `act` happen after the workspace has looked for a version and before it makes one."""
    create = workspace._models.create

    def late(*given: Any) -> Any:
        act()
        return create(*given)

    workspace._models.create = late  # type: ignore[method-assign]


def test_two_runners_register_the_same_version(
    workspace_emulator: RunningEmulator, workspaces: Workspaces, unique: str
) -> None:
    first, second, numbers_seen = workspaces(), workspaces(), []
    between(second, lambda: numbers_seen.append(first.register(unique, 1, "", DIGEST, {"a": "1"})))
    assert second.register(unique, 1, "", DIGEST, {"a": "1"}) == numbers_seen[0]
    assert numbers(workspace_emulator, unique) == [int(numbers_seen[0])]
    assert workspaces().observe([unique])[unique].foreign == ()


def test_two_runners_register_different_artifacts(
    workspace_emulator: RunningEmulator, workspaces: Workspaces, unique: str
) -> None:
    first, second = workspaces(), workspaces()
    between(second, lambda: first.register(unique, 1, "", DIGEST, {}))
    with pytest.raises(Conflict) as raised:
        second.register(unique, 1, "", OTHER, {})
    assert raised.value.reason == "DigestDiffers"
    assert len(numbers(workspace_emulator, unique)) == 1
    assert workspaces().observe([unique])[unique].versions[1].tags["edgetrain.digest"] == DIGEST


def test_a_runner_killed_before_it_saw_the_other(
    workspace_emulator: RunningEmulator, workspaces: Workspaces, unique: str
) -> None:
    first, killed, found = workspaces(), workspaces(), []
    between(killed, lambda: found.append(first.register(unique, 1, "", DIGEST, {})))

    def die(name: str, number: int) -> None:
        raise KeyboardInterrupt

    killed._models.delete = die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        killed.register(unique, 1, "", DIGEST, {})
    assert len(numbers(workspace_emulator, unique)) == 2
    for workspace in (first, workspaces()):
        assert workspace.register(unique, 1, "", DIGEST, {}) == found[0]
        seen = workspace.observe([unique])[unique]
        assert (seen.versions[1].number, seen.foreign) == (found[0], ())


# --- runs that Azure ML made itself ----------------------------------------------------------------------


def submitted(emulator: RunningEmulator, name: str, status: str) -> str:
    """A run that Azure ML ran, with a file that passed the guard."""
    stand_in = emulator.emulator
    experiment = experiments.ensure(stand_in, name)
    run_id = f"{name}-0123456789ab-1"
    told = {"runType": "azureml.scriptrun", "target": "gpu-01", "properties": {"theirs": "1"}}
    runs.create(stand_in, experiment, run_id, told, definition={"Configuration": {}})
    runs.set_status(stand_in, run_id, "Running")
    runs.add_artifact(stand_in, run_id, "outputs/model.bin", b"passed")
    runs.set_status(stand_in, run_id, status)
    return run_id


@pytest.mark.parametrize("status", ["Running", "Completed", "Failed", "Canceled"])
def test_a_run_of_azure_mls_own_keeps_what_it_has(
    workspace_emulator: RunningEmulator, workspace: AzuremlWorkspace, unique: str, status: str
) -> None:
    run_id = submitted(workspace_emulator, unique, status)
    before = runs.get(workspace_emulator.emulator, run_id)
    for _ in range(2):
        assert workspace.track(a_run(unique, outcome="failed")) == run_id
    after = runs.get(workspace_emulator.emulator, run_id)
    assert before and after
    assert after["tags"] == {**RUN.tags, "edgetrain.run": run_id, "edgetrain.outcome": "failed"}
    for key in ("status", "startTimeUtc", "endTimeUtc"):
        assert after[key] == before[key]
    told = {f"{PARAMETER_KEY}{name}": value for name, value in RUN.parameters.items()}
    assert after["properties"] == {**before["properties"], **RUN.tags, **told}


def test_metrics_that_the_wrapper_did_not_tell_are_told_once(
    workspace_emulator: RunningEmulator, workspace: AzuremlWorkspace, unique: str
) -> None:
    """It was killed in the middle: what it told under ids of its own is not told again."""
    run_id = submitted(workspace_emulator, unique, "Failed")
    run = a_run(
        unique, metrics={"auroc": 0.9}, history=[MetricPoint("loss", v, s) for s, v in enumerate((2.0, 1.0))]
    )
    value = [{"metricId": str(uuid.uuid4()), "step": 0, "data": {"loss": 2.0}}]
    batch = [{"name": "loss", "columns": {"loss": "double"}, "properties": {}, "value": value}]
    path = f"/metric/v2.0{workspace._session.scope}/runs/{run_id}/batch"
    workspace._session.post("history", path, json={"values": batch, "reportErrors": True})
    for _ in range(2):
        workspace.track(run)
    for name, wanted in {"loss": [2.0, 1.0], "auroc": [0.9]}.items():
        kept = metrics.get(workspace_emulator.emulator, run_id, name)
        assert kept and [row["data"][name] for row in kept["rows"]] == wanted


def test_a_model_of_azure_mls_own_run_is_downloaded_from_it(
    workspace_emulator: RunningEmulator, workspace: AzuremlWorkspace, unique: str, tmp_path: Path
) -> None:
    run_id = submitted(workspace_emulator, unique, "Completed")
    number = workspace.register(unique, 1, run_id, DIGEST, {"edgetrain.code": OTHER})
    from azureml.core import Model

    model = Model(workspace._session.workspace, id=f"{unique}:{number}")
    assert (model.run_id, model.experiment_name) == (run_id, unique)
    assert model.properties == {"edgetrain.code": OTHER, "edgetrain.digest": DIGEST, "edgetrain.version": "1"}
    model.download(str(tmp_path / "got"))
    assert [p.read_bytes() for p in sorted((tmp_path / "got").rglob("*")) if p.is_file()] == [b"passed"]
    assert support.asked(workspace_emulator, "POST /artifact") == []


def test_of_a_site_run_only_a_pointer_is_uploaded(
    workspace_emulator: RunningEmulator, workspace: AzuremlWorkspace, unique: str, tmp_path: Path
) -> None:
    run_id = workspace.track(a_run(unique))
    number = workspace.register(unique, 1, run_id, DIGEST, {})
    from azureml.core import Model

    model = Model(workspace._session.workspace, id=f"{unique}:{number}")
    assert (model.run_id, model.experiment_name) == (run_id, unique)
    model.download(str(tmp_path / "got"))
    (pointer,) = [path for path in (tmp_path / "got").rglob("*") if path.is_file()]
    assert pointer.name == POINTER
    told = json.loads(pointer.read_text())
    assert (told["digest"], told["run"], told["version"]) == (DIGEST, run_id, "1")
    assert artifacts.listed(workspace_emulator.emulator, artifacts.RUN, f"dcid.{run_id}") == []


def test_a_run_that_was_deleted_there_links_nothing(workspace: AzuremlWorkspace, unique: str) -> None:
    number = workspace.register(unique, 1, "gone-0123456789ab-1", DIGEST, {})
    from azureml.core import Model

    assert Model(workspace._session.workspace, id=f"{unique}:{number}").run_id is None
