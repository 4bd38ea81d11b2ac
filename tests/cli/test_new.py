"""`new`: what it writes is valid, trains, and never takes the place of anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgetrain.core.errors import UsageError
from edgetrain.core.kinds import kind_at
from edgetrain.repo.reader import read
from edgetrain.repo.schema import check
from edgetrain.scaffold import new as scaffold
from tests.cli.command import edgetrain, environment

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake"
RESOURCE = "/subscriptions/0/resourceGroups/x/providers/y"
TARGETS = {
    "local": (),
    "ssh": ("--host", "10.0.0.7", "--host-key", KEY, "--secret", "site-key"),
    "azureml-vm": ("--resource-id", RESOURCE, "--host", "10.0.0.7", "--host-key", KEY),
    "azureml-kubernetes": ("--resource-id", RESOURCE),
}


def files_of(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} - {
        path.relative_to(root).as_posix() for path in (root / ".git").rglob("*")
    }


def test_a_first_experiment_is_valid_and_brings_what_it_needs(repository: Path) -> None:
    before = files_of(repository)
    ended = edgetrain("new", "experiment", "my-first", cwd=repository)
    assert ended.code == 0, ended.err
    written = {line.removeprefix("wrote ") for line in ended.out.splitlines()}
    assert files_of(repository) - before == written
    assert {
        "compute/local.yaml",
        "experiments/my-first/experiment.yaml",
        "experiments/my-first/train.py",
        "models/my-first/model.yaml",
    } <= written
    assert "edgetrain run my-first" in ended.err
    validated = edgetrain("validate", cwd=repository)
    assert (validated.code, validated.err) == (0, ""), validated.out
    assert "No problems." in validated.out


def test_an_experiment_on_a_datastore_is_valid(repository: Path) -> None:
    edgetrain("new", "compute", "gpu", cwd=repository)
    edgetrain("new", "model", "triage", cwd=repository)
    more = ("--model", "triage", "--compute", "gpu", "--datastore", "store", "--path", "cxr/2026/")
    ended = edgetrain("new", "experiment", "cxr", *more, "--owner", "@hosp/ds", "--format", "json", cwd=repository)
    assert ended.code == 0, ended.err
    assert all(path.startswith("experiments/cxr/") for path in ended.json["written"])
    assert "edgetrain run cxr --data data=FOLDER" in ended.json["next"]
    validated = edgetrain("validate", "--format", "json", cwd=repository)
    assert (validated.code, validated.json["problems"]) == (0, [])


@pytest.mark.parametrize("type_", TARGETS)
def test_every_type_of_target_passes_its_schema(repository: Path, type_: str) -> None:
    ended = edgetrain("new", "compute", "target", "--type", type_, *TARGETS[type_], cwd=repository)
    assert ended.code == 0, ended.err
    text = (repository / "compute/target.yaml").read_bytes()
    document, problems = read(text, "compute/target.yaml")
    assert document is not None
    assert problems == []
    assert check(document, "ComputeTarget") == []
    assert document.data["spec"]["type"] == type_


@pytest.mark.parametrize("type_", [type_ for type_, options in TARGETS.items() if options])
def test_a_target_that_lacks_a_setting_is_refused(repository: Path, type_: str) -> None:
    ended = edgetrain("new", "compute", "target", "--type", type_, cwd=repository)
    assert (ended.code, ended.out) == (2, "")
    assert "reason: SettingMissing" in ended.err
    assert not (repository / "compute").exists()


@pytest.mark.parametrize("name", ["on", "no", "null", "y", "true", "a" * 63])
def test_names_that_yaml_would_take_for_something_else(name: str) -> None:
    files = scaffold.experiment(name, model=name, compute=name) | scaffold.model(name)
    files |= scaffold.compute(name, scaffold.TargetSettings(site=name))
    for path, text in files.items():
        kind = kind_at(path)
        if kind is None:
            continue
        document, problems = read(text.encode(), path)
        assert document is not None
        assert problems == []
        assert check(document, kind.name) == []
        assert document.data["metadata"]["name"] == name


def test_the_first_line_names_a_schema_that_is_there() -> None:
    package = Path(scaffold.__file__).parents[1]
    files = scaffold.experiment("x", model="x", compute="x") | scaffold.model("x")
    files |= scaffold.compute("x", scaffold.TargetSettings())
    manifests = {path: text for path, text in files.items() if path.endswith(".yaml")}
    assert len(manifests) == 3
    for path, text in manifests.items():
        first = text.splitlines()[0]
        schema = first.removeprefix("# yaml-language-server: $schema=")
        assert schema != first
        # From the manifest's folder up to the repository's root, then down into the package.
        assert schema.count("../") == path.count("/")
        assert (package / schema.replace("../", "").removeprefix("tools/edgetrain/")).is_file()


def test_nothing_is_overwritten(repository: Path) -> None:
    script = repository / "experiments/mine/train.py"
    script.parent.mkdir(parents=True)
    script.write_text("mine")
    before = files_of(repository)
    ended = edgetrain("new", "experiment", "mine", cwd=repository)
    assert (ended.code, ended.out) == (2, "")
    assert "already there: experiments/mine/train.py" in ended.err
    assert script.read_text() == "mine"
    assert files_of(repository) == before


def test_a_linked_folder_is_not_followed(repository: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (repository / "models").symlink_to(outside)
    ended = edgetrain("new", "model", "triage", cwd=repository)
    assert (ended.code, ended.out) == (2, "")
    assert "reason: LinkInTheWay" in ended.err
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "mended"),
    [("My_Model", "my-model"), ("../x", "x"), ("9lives", "lives"), ("a" * 80, "a" * 63), ("---", "cxr-densenet")],
)
def test_a_bad_name_comes_with_a_good_one(name: str, mended: str) -> None:
    with pytest.raises(UsageError) as caught:
        scaffold.check_name(name)
    assert caught.value.fix.split()[-1] == mended
    assert scaffold.check_name(mended) == mended


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("experiment", "x", "--datastore", "stor"), "UnknownDatastore"),
        (("experiment", "x", "--path", "a/"), "Usage"),
        (("compute", "x", "--site", "here2"), "UnknownSite"),
        (("model", "X!"), "BadName"),
    ],
)
def test_what_does_not_exist_is_named(repository: Path, arguments: tuple[str, ...], reason: str) -> None:
    before = files_of(repository)
    ended = edgetrain("new", *arguments, "--format", "json", cwd=repository)
    assert (ended.code, ended.json["error"]["reason"]) == (2, reason)
    assert files_of(repository) == before


def test_the_script_trains_and_obeys_its_parameters(tmp_path: Path) -> None:
    scaffold.write(tmp_path, scaffold.experiment("x", model="x", compute="x"))
    folder = tmp_path / "experiments/x"

    def train(*arguments: str) -> tuple[dict[str, float], dict[str, object]]:
        outputs = tmp_path / "-".join(["out", *arguments]).replace("/", "_")
        outputs.mkdir()
        subprocess.run(
            [sys.executable, "-I", "train.py", *arguments],
            cwd=folder,
            env=environment(EDGETRAIN_OUTPUTS=str(outputs)),
            check=True,
            capture_output=True,
        )
        return json.loads((outputs / "metrics.json").read_text()), json.loads((outputs / "model.json").read_text())

    metrics, model = train("--epochs", "300")
    assert metrics["accuracy"] >= 0.7  # the gate of the model that comes with it
    assert model["features"] == ["age", "marker", "pressure"]
    assert any(model["weights"])
    untrained, zero = train("--epochs", "0")
    assert not any(zero["weights"])
    assert untrained["log_loss"] == pytest.approx(0.6931, abs=1e-3)
    assert train("--epochs", "300", "--seed", "42") == (metrics, model)
    assert train("--seed", "7")[1] != model
