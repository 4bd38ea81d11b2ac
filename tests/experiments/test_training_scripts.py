"""The training scripts, run by their manifests' own commands in their own environment on the seeded data."""

from __future__ import annotations

import ast
import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import yaml

from edgetrain.core.quantity import bytes_of
from edgetrain.core.template import render
from tests.onsite.content import codes, run

from .environment import built

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
# What the manifest leaves to the sweep, and the least that each metric must reach.
CASES: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "breast-cancer": ({}, {"auroc": 0.95, "accuracy": 0.9, "sensitivity": 0.85}),
    "digits": ({"reg": 1}, {"accuracy": 0.95, "macro_f1": 0.95}),
    "hospital-tests": ({}, {"auroc": 0.65, "average_precision": 0.1}),
}
NAME_COLUMNS = ("fake_first_name", "fake_last_name", "clinic_name")


@pytest.fixture(scope="session")
def environment() -> Path:
    """The experiments' own environment."""
    return built()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site data")
    seeding = [sys.executable, str(ROOT / "tools" / "demo" / "seed.py"), str(folder)]
    subprocess.run(seeding, check=True, timeout=120)
    return folder


def manifest(name: str) -> Any:
    return yaml.safe_load((EXPERIMENTS / name / "experiment.yaml").read_text(encoding="utf-8"))["spec"]


def train(
    name: str, environment: Path, data: Path, outputs: Path, changed: Mapping[str, Any], hash_seed: str = "random"
) -> dict[str, float]:
    """Run the manifest's command as a target does, and answer the metrics."""
    spec = manifest(name)
    inputs = {key: value for key, value in spec["inputs"].items() if isinstance(value, dict)}
    parameters = {key: value for key, value in spec["inputs"].items() if key not in inputs} | dict(changed)
    paths = {key: value["path"] for key, value in spec["outputs"].items()}
    command = render(spec["command"], parameters, inputs, paths).replace("{{outputs}}", f"'{outputs}'")
    for key, value in inputs.items():
        command = command.replace("{{inputs." + key + "}}", f"'{data / value['path']}'")
    outputs.mkdir()
    home = outputs.with_name(f"{outputs.name}-home")
    home.mkdir()
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=EXPERIMENTS / name,
        env={
            "PATH": f"{environment / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "HOME": str(home),
            "EDGETRAIN_OUTPUTS": str(outputs),
            "PYTHONHASHSEED": hash_seed,
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    metrics = json.loads((outputs / "metrics.json").read_text(encoding="utf-8"))
    assert isinstance(metrics, dict)
    return metrics


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize("name", CASES)
def test_a_script_keeps_the_contract_and_repeats_itself(
    name: str, environment: Path, data: Path, tmp_path: Path
) -> None:
    changed, floors = CASES[name]
    # Exporters keep things in sets, whose order varies with the seed of Python's hashes.
    metrics = train(name, environment, data, tmp_path / "first", changed, hash_seed="0")
    train(name, environment, data, tmp_path / "second", changed, hash_seed="1")
    assert contents(tmp_path / "first") == contents(tmp_path / "second")

    spec = manifest(name)
    for metric, floor in floors.items():
        assert floor < metrics[metric] <= 1, metrics
    assert set(metrics) <= set(spec["metrics"])
    assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())
    left = contents(tmp_path / "first")
    assert set(left) - {"metrics.jsonl"} == {"model.onnx", "metrics.json"}
    assert len(left["model.onnx"]) < bytes_of(spec["outputs"]["model"]["maxSize"])
    session = onnxruntime.InferenceSession(left["model.onnx"], providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["label", "probabilities"]


@pytest.mark.parametrize("name", CASES)
def test_what_a_script_leaves_passes_the_content_check(
    name: str, environment: Path, data: Path, tmp_path: Path
) -> None:
    metrics = train(name, environment, data, tmp_path / "left", CASES[name][0])
    inputs = [value["path"] for value in manifest(name)["inputs"].values() if isinstance(value, dict)]
    report = run(tmp_path / "left", data / inputs[0], metrics=metrics)
    assert codes(report) == set()
    assert report["coverage"] == 1


def test_digits_tells_its_history(environment: Path, data: Path, tmp_path: Path) -> None:
    train("digits", environment, data, tmp_path / "out", {"reg": 1, "rounds": 6})
    lines = (tmp_path / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    points = [json.loads(line) for line in lines]
    assert {point["name"] for point in points} <= set(manifest("digits")["metrics"])
    losses = [point["value"] for point in points if point["name"] == "loss"]
    assert [point["step"] for point in points if point["name"] == "loss"] == list(range(6))
    assert losses[-1] < losses[0]


def test_another_seed_makes_another_model(environment: Path, data: Path, tmp_path: Path) -> None:
    spec = manifest("breast-cancer")
    script = [str(environment / "bin" / "python"), "train.py", "--data", str(data / "breast-cancer")]
    models = []
    for seed in ("1", "2"):
        output = tmp_path / seed / spec["outputs"]["model"]["path"]
        command = [*script, "--output", str(output), "--seed", seed]
        subprocess.run(command, cwd=EXPERIMENTS / "breast-cancer", check=True, timeout=120, capture_output=True)
        models.append(output.read_bytes())
    assert models[0] != models[1]


def test_breast_cancer_has_a_worse_and_a_better_choice(environment: Path, data: Path, tmp_path: Path) -> None:
    first = train("breast-cancer", environment, data, tmp_path / "first", {})
    worse = train("breast-cancer", environment, data, tmp_path / "worse", {"c": 0.0001})
    better = train("breast-cancer", environment, data, tmp_path / "better", {"features": "all"})
    assert worse["auroc"] < first["auroc"] - 0.002
    assert worse["sensitivity"] < first["sensitivity"] - 0.5
    assert better["auroc"] > first["auroc"] + 0.005
    assert better["sensitivity"] > first["sensitivity"]


@pytest.mark.parametrize("model", ["logistic", "boosting"])
def test_no_name_leaves_the_hospital(model: str, environment: Path, data: Path, tmp_path: Path) -> None:
    source = data / "hospital-tests" / "tests.csv"
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # A clinic may be called as a class of patients is, "outpatient"; such words stand in the script, in git.
    public = (EXPERIMENTS / "hospital-tests" / "train.py").read_text(encoding="utf-8")
    names = {row[column].lower() for row in rows for column in NAME_COLUMNS if len(row[column]) > 4}
    names = {name for name in names if name not in public}
    assert len(names) > 700
    train("hospital-tests", environment, data, tmp_path / "real", {"model": model})
    left = contents(tmp_path / "real")
    for path, content in left.items():
        text = content.lower()
        assert [name for name in names if name.encode() in text] == [], path

    # Whatever the names are, the outputs are the same; and text that no list foresees changes nothing but a count.
    for number, row in enumerate(rows):
        row.update(dict.fromkeys(NAME_COLUMNS, f"canary{number % 7}"))
    other = tmp_path / "other" / "hospital-tests"
    other.mkdir(parents=True)
    write(other / "tests.csv", rows)
    train("hospital-tests", environment, other.parent, tmp_path / "renamed", {"model": model})
    assert contents(tmp_path / "renamed") == left
    for row in rows[:500]:
        row["patient_class"] = "canary ward"
    write(other / "tests.csv", rows)
    train("hospital-tests", environment, other.parent, tmp_path / "unforeseen", {"model": model})
    assert all(b"canary" not in content for content in contents(tmp_path / "unforeseen").values())


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("name", CASES)
def test_a_script_stands_alone(name: str) -> None:
    tree = ast.parse((EXPERIMENTS / name / "train.py").read_text(encoding="utf-8"))
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert "sklearn.metrics" in imported
    assert {module.partition(".")[0] for module in imported} & {"edgetrain", "mlflow", "pandas", "pickle"} == set()


def test_one_lock_serves_all() -> None:
    locks = {name: (EXPERIMENTS / name / "requirements.lock").read_bytes() for name in CASES}
    assert len(set(locks.values())) == 1
    text = locks["digits"].decode()
    pins = [line for line in text.splitlines() if line and line[0] not in "# "]
    assert pins
    assert all("==" in pin and pin.endswith("\\") for pin in pins)
    assert "://" not in text
