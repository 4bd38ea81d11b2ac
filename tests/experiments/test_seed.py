"""The demo's data: real, whole, and the same bytes each time."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy
import yaml

from edgetrain.core.digest import digest_bytes, tree_digest

ROOT = Path(__file__).parents[2]
SEED = ROOT / "tools" / "demo" / "seed.py"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def seed(folder: Path) -> None:
    subprocess.run([sys.executable, str(SEED), str(folder)], check=True, timeout=120)


def test_the_same_bytes_each_time_and_nothing_rewritten(tmp_path: Path) -> None:
    seed(tmp_path / "a b")
    first = contents(tmp_path / "a b")
    assert set(first) == {
        "breast-cancer/tumours.csv",
        "breast-cancer-heldout/tumours.csv",
        "digits/images.npy",
        "digits/labels.npy",
        "hospital-tests/tests.csv",
    }
    times = {name: (tmp_path / "a b" / name).stat().st_mtime_ns for name in first}
    (tmp_path / "a b" / "digits" / "labels.npy").write_bytes(b"spoilt")
    seed(tmp_path / "a b")
    assert contents(tmp_path / "a b") == first
    kept = {name for name in first if (tmp_path / "a b" / name).stat().st_mtime_ns == times[name]}
    assert kept >= set(first) - {"digits/labels.npy"}


def test_the_sets_are_whole(tmp_path: Path) -> None:
    seed(tmp_path)
    parts = []
    for name in ("breast-cancer", "breast-cancer-heldout"):
        with (tmp_path / name / "tumours.csv").open(encoding="utf-8") as file:
            parts.append([tuple(row.values()) for row in csv.DictReader(file)])
    assert [len(part) for part in parts] == [455, 114]
    assert sum(row[-1] == "malignant" for part in parts for row in part) == 212
    assert set(parts[0]) & set(parts[1]) == set()
    model = yaml.safe_load((ROOT / "models/breast-cancer/model.yaml").read_text(encoding="utf-8"))
    held = (tmp_path / "breast-cancer-heldout" / "tumours.csv").read_bytes()
    digest = tree_digest([("tumours.csv", digest_bytes(held))])
    assert model["spec"]["evaluation"]["inputs"]["heldout"]["digest"] == digest
    with (tmp_path / "hospital-tests" / "tests.csv").open(encoding="utf-8") as file:
        tests = list(csv.DictReader(file))
    assert len(tests) == 15_524
    assert {"fake_first_name", "fake_last_name", "clinic_name", "subject_id"} < set(tests[0])
    images = numpy.load(tmp_path / "digits" / "images.npy", allow_pickle=False)
    labels = numpy.load(tmp_path / "digits" / "labels.npy", allow_pickle=False)
    assert images.shape == (1797, 8, 8)
    assert sorted(set(labels.tolist())) == list(range(10))


def test_it_says_how_it_is_used() -> None:
    wrong = subprocess.run([sys.executable, str(SEED)], capture_output=True, text=True, check=False, timeout=60)
    assert wrong.returncode != 0
    assert "usage" in wrong.stderr
