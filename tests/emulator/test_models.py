"""Models and assets as the unmodified client uses them, and what only the service refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator import jsonpatch, models
from azureml_emulator.server import RunningEmulator
from azureml_emulator.tokens import Tokens
from tests.emulator import support

pytestmark = pytest.mark.long(0.3)

REGISTER = {"url": "https://x.test/m", "mimeType": "application/json"}


def base(emulator: RunningEmulator) -> str:
    return f"/modelmanagement/v1.0{emulator.emulator.workspace_path}"


def token(emulator: RunningEmulator, principal: str = "owner") -> str:
    return Tokens(emulator.emulator).issue(principal, "arm")


def ask(
    emulator: RunningEmulator, method: str, path: str, body: Any = None, principal: str = "owner"
) -> tuple[int, Any]:
    status, said, _ = support.ask(emulator, method, base(emulator) + path, body, token(emulator, principal))
    return status, said


def registered(emulator: RunningEmulator, name: str, **fields: Any) -> dict[str, Any]:
    status, said = ask(emulator, "POST", "/models", {"name": name, **REGISTER, **fields})
    assert status == 200, said
    found: dict[str, Any] = said
    return found


def test_model_from_a_run_and_from_a_file(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the public notebooks do: train, register from the run's outputs, find by tags, download, delete."""
    from azureml.core import Experiment, Model

    monkeypatch.chdir(tmp_path)
    ws = support.connect(emulator)
    run = Experiment(ws, "diabetes").start_logging(snapshot_directory=None)
    (tmp_path / "ridge.pkl").write_bytes(b"\x00ridge\xff" * 1000)
    (tmp_path / "notes.txt").write_text("beside it")
    run.upload_file("outputs/model/ridge.pkl", str(tmp_path / "ridge.pkl"))
    run.upload_file("outputs/model-notes.txt", str(tmp_path / "notes.txt"))
    run.complete()
    first = run.register_model(
        "diabetes",
        model_path="outputs/model",
        tags={"area": "diabetes", "type": "regression"},
        properties={"sha": "1"},
    )
    assert (first.id, first.version, first.run.id) == ("diabetes:1", 1, run.id)

    (tmp_path / "local.bin").write_bytes(b"local" * 70_000)
    second = Model.register(ws, "local.bin", "diabetes", tags={"area": "diabetes"}, description="by hand")
    assert second.version == 2

    def found(**query: Any) -> list[str]:
        return [model.id for model in Model.list(ws, **query)]

    assert found(tags=["area"]) == ["diabetes:2", "diabetes:1"]
    assert found(tags=[["area", "diabetes"], "type"]) == ["diabetes:1"]
    assert found(properties=[["sha", "1"]]) == ["diabetes:1"]
    assert found(run_id=run.id) == ["diabetes:1"]
    assert found(name="diabetes", latest=True) == ["diabetes:2"]
    assert found(tags=[["area", "other"]]) == []
    assert Model(ws, "diabetes").version == 2
    assert Model(ws, "diabetes", version=1).properties == {"sha": "1"}
    assert ws.models["diabetes"].version == 2

    one = first.download(str(tmp_path / "first"))
    got = {path.name: path.read_bytes() for path in Path(one).rglob("*") if path.is_file()} or {
        Path(one).name: Path(one).read_bytes()
    }
    assert got["ridge.pkl"] == b"\x00ridge\xff" * 1000
    two = Path(second.download(str(tmp_path / "second")))
    assert two.read_bytes() == b"local" * 70_000

    second.delete()
    assert found(name="diabetes") == ["diabetes:1"]
    third = Model.register(ws, "local.bin", "diabetes")
    assert third.version == 3, "a deleted number came back"


FLOW = """
from pathlib import Path
from azureml.core import Datastore, Environment, Model
ws = connect()
Path("weights.bin").write_bytes(bytes(100_000))
made = Model.register(ws, "weights.bin", "m", tags={"a": "b"})
down = Path(Model.list(ws, tags=["a"])[0].download("down", exist_ok=True)).read_bytes()
store = ws.get_default_datastore()
store.upload_files(["weights.bin"], target_path="data", overwrite=True, show_progress=False)
env = Environment("e")
env.python.user_managed_dependencies = True
answer = {"id": made.id, "length": len(down), "files": store.download("files", prefix="data", show_progress=False),
          "environment": env.register(ws).version}
"""


@pytest.mark.parametrize("topology", ["A", "B"])
def test_client_of_its_own_process(emulator: RunningEmulator, tmp_path: Path, topology: str) -> None:
    """What a script on somebody's machine does, by the service's own host names and in a cloud of its own."""
    home = tmp_path / "somebody"
    home.mkdir()
    said = support.outside(emulator, topology, FLOW, home)
    assert said == {"id": "m:1", "length": 100_000, "files": 1, "environment": "1"}


def test_tags_change_and_properties_stay(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azureml.core import Model
    from azureml.exceptions import WebserviceException

    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").write_bytes(b"1")
    ws = support.connect(emulator)
    made = Model.register(ws, "m", "m1", tags={"a": "1", "b": "2"}, properties={"sha": "x"})
    made.add_tags({"c": "3"})
    made.remove_tags(["a"])
    made.add_properties({"more": "y"})
    made.update(description="said")
    again = Model(ws, id="m1:1")
    assert again.tags == {"b": "2", "c": "3"}
    assert again.properties == {"sha": "x", "more": "y"}
    assert again.description == "said"
    again.update(tags={"only": "this"})
    assert Model(ws, id="m1:1").tags == {"only": "this"}
    # The client refuses to change a property itself; who goes around it is refused by the service.
    patch = [{"op": "add", "path": "/properties", "value": {"sha": "other", "more": "y"}}]
    status, said = ask(emulator, "PATCH", "/models/m1:1", patch)
    assert (status, said["statusCode"]) == (400, 400)
    assert Model(ws, id="m1:1").properties == {"sha": "x", "more": "y"}
    with pytest.raises(WebserviceException, match="ModelNotFound"):
        Model(ws, id="m1:7")
    made.delete()
    made.delete()


def test_pages_follow_each_other(make_emulator: Callable[..., RunningEmulator]) -> None:
    from azureml.core import Model

    emulator = make_emulator(page_size=2)
    for index in range(5):
        registered(emulator, "many", kvTags={"n": str(index)})
    ws = support.connect(emulator)
    assert [model.version for model in Model.list(ws, name="many")] == [5, 4, 3, 2, 1]
    status, said = ask(emulator, "GET", "/models?count=2&orderBy=CreatedAtAsc")
    assert [item["version"] for item in said["value"]] == [1, 2]
    # What goes away between two pages moves nothing.
    assert ask(emulator, "DELETE", "/models/many:2")[0] == 200
    rest = said["nextLink"].partition(base(emulator))[2]
    status, said = ask(emulator, "GET", rest)
    assert (status, [item["version"] for item in said["value"]]) == (200, [3, 4])
    assert ask(emulator, "GET", "/models?$skipToken=nonsense")[0] == 400
    assert ask(emulator, "GET", "/models?orderBy=Sideways")[0] == 400
    changed = [{"op": "replace", "path": "/description", "value": "new"}]
    assert ask(emulator, "PATCH", "/models/many:1", changed)[0] == 200
    status, said = ask(emulator, "GET", "/models?orderBy=UpdatedAtDesc&count=1")
    assert [item["version"] for item in said["value"]] == [1]


@pytest.mark.parametrize(
    "body",
    [
        {"name": "-x", **REGISTER},
        {"name": "x/y", **REGISTER},
        {"name": "x" * 256, **REGISTER},
        {"name": 7, **REGISTER},
        {**REGISTER},
        {"name": "x", "mimeType": "application/json"},
        {"name": "x", "url": "aml://asset/nosuch", "mimeType": "application/json"},
        {"name": "x", **REGISTER, "kvTags": {"a": 1}},
        {"name": "x", **REGISTER, "kvTags": {str(n): "" for n in range(51)}},
        {"name": "x", **REGISTER, "kvTags": {"k" * 101: ""}},
        {"name": "x", **REGISTER, "properties": {"k": "v" * 1001}},
        {"name": "x", **REGISTER, "datasets": "all"},
        ["x"],
    ],
)
def test_bad_registrations_are_refused(emulator: RunningEmulator, body: Any) -> None:
    status, said = ask(emulator, "POST", "/models", body)
    assert (status, said["statusCode"], said["details"]) == (400, 400, [])
    assert ask(emulator, "GET", "/models")[1]["value"] == []


def test_lenient_mode_takes_more(make_emulator: Callable[..., RunningEmulator]) -> None:
    emulator = make_emulator(strict=False)
    made = registered(emulator, "any name", properties={"p": "1"})
    patch = [{"op": "replace", "path": "/properties", "value": {"p": "2"}}]
    assert ask(emulator, "PATCH", f"/models/{made['id'].replace(' ', '%20')}", patch)[1]["properties"] == {"p": "2"}
    assert ask(emulator, "PATCH", "/models/any%20name:1", [{"op": "remove", "path": "/version"}])[0] == 400


@pytest.mark.parametrize("path", ["/url", "/id", "/name", "/version", "/createdTime", "/runId", "/invented"])
def test_what_is_settled_can_not_be_patched(emulator: RunningEmulator, path: str) -> None:
    before = registered(emulator, "m")
    status, _ = ask(emulator, "PATCH", "/models/m:1", [{"op": "add", "path": path, "value": "x"}])
    assert status == 400
    assert ask(emulator, "GET", "/models/m:1")[1] == before


def test_reader_reads_only(emulator: RunningEmulator) -> None:
    registered(emulator, "m")
    assert ask(emulator, "GET", "/models/m:1", principal="reader")[0] == 200
    for method, path, body in (
        ("POST", "/models", {"name": "m", **REGISTER}),
        ("PATCH", "/models/m:1", []),
        ("DELETE", "/models/m:1", None),
        ("POST", "/assets", {"name": "a"}),
    ):
        assert ask(emulator, method, path, body, principal="reader")[0] == 403


def test_run_registers_only_its_own(emulator: RunningEmulator) -> None:
    jwt, _ = Tokens(emulator.emulator).run("run-1", "exp-1")
    for run, expected in (("run-1", 200), ("run-2", 403)):
        body = {"name": "m", **REGISTER, "runId": run}
        status, _, _ = support.ask(emulator, "POST", base(emulator) + "/models", body, jwt)
        assert status == expected


def test_lists_lag_and_gets_do_not(make_emulator: Callable[..., RunningEmulator]) -> None:
    emulator = make_emulator(lag=3600.0)
    registered(emulator, "m")
    assert ask(emulator, "GET", "/models/m:1")[0] == 200
    assert ask(emulator, "GET", "/models")[1]["value"] == []
    emulator.change(lag=0.0)
    assert len(ask(emulator, "GET", "/models")[1]["value"]) == 1
    emulator.change(lag=3600.0)
    assert ask(emulator, "DELETE", "/models/m:1")[0] == 200
    assert ask(emulator, "GET", "/models/m:1")[0] == 404
    emulator.change(lag=0.0)
    assert ask(emulator, "GET", "/models")[1]["value"] == []


def test_models_outlive_the_emulator(make_emulator: Callable[..., RunningEmulator]) -> None:
    first = make_emulator()
    registered(first, "m", kvTags={"a": "b"})
    assert ask(first, "DELETE", "/models/m:1")[0] == 200
    assert ask(first, "DELETE", "/models/m:1")[0] == 204
    first.stop()
    second = make_emulator(folder=first.folder)
    assert registered(second, "m")["version"] == 2


def test_assets_live_and_go(emulator: RunningEmulator) -> None:
    status, made = ask(emulator, "POST", "/assets", {"name": "a", "artifacts": [{"prefix": "LocalUpload/x/y"}]})
    assert status == 200
    assert ask(emulator, "GET", f"/assets/{made['id']}")[1] == made
    assert ask(emulator, "GET", "/assets?name=a")[1]["value"] == [made]
    patch = [{"op": "add", "path": "/kvTags/k", "value": "v"}]
    assert ask(emulator, "PATCH", f"/assets/{made['id']}", patch)[1]["kvTags"] == {"k": "v"}
    assert ask(emulator, "DELETE", f"/assets/{made['id']}")[0] == 200
    assert ask(emulator, "DELETE", f"/assets/{made['id']}")[0] == 204
    status, said = ask(emulator, "GET", f"/assets/{made['id']}")
    assert (status, said["code"]) == (404, "AssetNotFound")


def test_package_is_taken_and_fails_with_the_reason(emulator: RunningEmulator) -> None:
    emulator.change(slow=3600.0)
    registered(emulator, "m")
    body = {"imageName": "i", "packageType": "DockerImage", "imageRequest": {"modelIds": ["m:1"]}}
    status, _, headers = support.ask(emulator, "POST", base(emulator) + "/packages", body, token(emulator))
    assert status == 202
    key = headers["operation-location"].rpartition("/")[2]
    assert ask(emulator, "GET", f"/operations/{key}")[1]["state"] == "NotStarted"
    emulator.change(slow=0.0)
    said = ask(emulator, "GET", f"/operations/{key}")[1]
    assert (said["operationType"], said["state"]) == ("PackageDockerImage", "Failed")
    assert "builds no images" in said["error"]["message"]
    log = said["operationLog"].removeprefix(emulator.url)
    assert b"builds no images" in support.ask(emulator, "GET", log)[1]
    assert support.ask(emulator, "GET", log, headers={"Range": "bytes=100000-"})[0] == 416
    unknown = {**body, "imageRequest": {"modelIds": ["m:2"]}}
    assert ask(emulator, "POST", "/packages", unknown)[0] == 404
    assert ask(emulator, "GET", "/operations/nosuch")[0] == 404


DOCUMENT = {"a": {"b": [1, 2]}, "m~n": 1, "x/y": 2}


@pytest.mark.parametrize(
    ("patch", "after"),
    [
        ([{"op": "add", "path": "/a/c", "value": 1}], {**DOCUMENT, "a": {"b": [1, 2], "c": 1}}),
        ([{"op": "add", "path": "/a/b/1", "value": 9}], {**DOCUMENT, "a": {"b": [1, 9, 2]}}),
        ([{"op": "add", "path": "/a/b/-", "value": 9}], {**DOCUMENT, "a": {"b": [1, 2, 9]}}),
        ([{"op": "replace", "path": "/a/b/0", "value": 9}], {**DOCUMENT, "a": {"b": [9, 2]}}),
        ([{"op": "remove", "path": "/m~0n"}], {"a": {"b": [1, 2]}, "x/y": 2}),
        ([{"op": "remove", "path": "/x~1y"}], {"a": {"b": [1, 2]}, "m~n": 1}),
        ([{"op": "move", "from": "/a/b", "path": "/b"}], {**DOCUMENT, "a": {}, "b": [1, 2]}),
        ([{"op": "copy", "from": "/a/b/0", "path": "/c"}], {**DOCUMENT, "c": 1}),
        ([{"op": "test", "path": "/a/b", "value": [1, 2]}], DOCUMENT),
        ([{"op": "replace", "path": "", "value": 1}], 1),
    ],
)
def test_patches_apply(patch: Any, after: Any) -> None:
    assert jsonpatch.patched(DOCUMENT, patch) == after
    assert DOCUMENT == {"a": {"b": [1, 2]}, "m~n": 1, "x/y": 2}


@pytest.mark.parametrize(
    "patch",
    [
        {},
        ["x"],
        [{"op": "add", "path": "/a/c"}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": "/n/c", "value": 1}],
        [{"op": "add", "path": "/a/b/3", "value": 1}],
        [{"op": "add", "path": "/a/b/01", "value": 1}],
        [{"op": "add", "path": "/a/b/-1", "value": 1}],
        [{"op": "add", "path": "/a/b/" + "9" * 5000, "value": 1}],
        [{"op": "add", "path": "/m~0n/x", "value": 1}],
        [{"op": "replace", "path": "/n", "value": 1}],
        [{"op": "remove", "path": "/n"}],
        [{"op": "remove", "path": "/a/b/-"}],
        [{"op": "move", "from": "/a", "path": "/a/b"}],
        [{"op": "test", "path": "/m~0n", "value": True}],
        [{"op": "test", "path": "/m~0n", "value": 2}],
        [{"op": "swap", "path": "/a"}],
        [{"op": "remove", "path": "/a"}] * 201,
    ],
)
def test_bad_patches_change_nothing(patch: Any) -> None:
    with pytest.raises(jsonpatch.BadPatch):
        jsonpatch.patched(DOCUMENT, patch)
    assert DOCUMENT == {"a": {"b": [1, 2]}, "m~n": 1, "x/y": 2}


def test_patch_of_a_deleted_model_is_refused(emulator: RunningEmulator) -> None:
    registered(emulator, "m")
    assert models.delete(emulator.emulator, models.MODEL, "m:1")
    status, said = ask(emulator, "PATCH", "/models/m:1", [])
    assert (status, said["code"]) == (404, "ModelNotFound")
