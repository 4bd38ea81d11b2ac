"""The reader of outputs meets what a script may leave behind; nothing that it reads is trusted."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.errors import NotFound, ProviderError, Rejected
from edgetrain.core.ports import Harvest, MetricPoint
from edgetrain.onsite.sandbox import Absent, Sandbox, find
from edgetrain.providers.local import outputs
from edgetrain.providers.local.provider import default_program

Read = Callable[..., Harvest]


@pytest.fixture(params=[pytest.param(True, marks=pytest.mark.needs("bubblewrap")), False], ids=["sandbox", "plain"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox | None:
    found = find(default_program()) if request.param else None
    assert not isinstance(found, Absent)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "the outputs"
    made.mkdir()
    return made


@pytest.fixture
def read(folder: Path, sandbox: Sandbox | None) -> Read:
    def harvest(**declared: str) -> Harvest:
        return outputs.read_outputs(folder, declared or {"model": "model"}, sandbox, 2**30)[0]

    return harvest


def mlflow(path: Path, *points: tuple[str, Any, int, int, str, bool]) -> None:
    """The table that MLflow makes: key, value, timestamp, step, run, is_nan."""
    with sqlite3.connect(path) as base:
        base.execute(
            "CREATE TABLE metrics (key VARCHAR(250) NOT NULL, value FLOAT NOT NULL, timestamp BIGINT NOT NULL,"
            " run_uuid VARCHAR(32) NOT NULL, step BIGINT NOT NULL, is_nan BOOLEAN NOT NULL)"
        )
        base.executemany(
            "INSERT INTO metrics (key, value, timestamp, step, run_uuid, is_nan) VALUES (?, ?, ?, ?, ?, ?)", points
        )
    base.close()


def test_a_declared_folder_holds_all_below_it(folder: Path, read: Read) -> None:
    for name in ("model/a", "model/b/c", "modelling"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    found = read(model="model/")
    assert [file.path for file in found.files] == ["model/a", "model/b/c"]
    assert found.faults == ["the outputs hold a file that is not declared under outputs"]


def test_names_stay_in_the_notes(folder: Path, sandbox: Sandbox | None) -> None:
    (folder / "doe_jane.dcm").write_text("x")
    found, notes = outputs.read_outputs(folder, {}, sandbox, 2**30)
    assert "doe" not in "".join(found.faults)
    assert "doe_jane.dcm" in notes[0]


def hard_link(folder: Path) -> None:
    (folder.parent / "other").write_text("x")
    os.link(folder.parent / "other", folder / "model")


def sparse(folder: Path) -> None:
    with (folder / "model").open("wb") as file:
        file.truncate(2**40)


def unix_socket(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("model")
    os.chdir(here)


def deep(folder: Path) -> None:
    (folder / "/".join(["model"] * 40)).mkdir(parents=True)


def many(folder: Path) -> None:
    (folder / "model").mkdir()
    for number in range(10_001):
        (folder / "model" / str(number)).touch()


def newline(folder: Path) -> None:
    (folder / "mo\ndel").touch()


def not_text(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/mo\xffdel")).touch()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: (folder / "model").symlink_to("/etc/hostname"), "symbolic link"),
        (lambda folder: (folder / "model").symlink_to("/etc"), "symbolic link"),
        (lambda folder: (folder / "metrics.json").symlink_to("/etc/hostname"), "symbolic link"),
        (lambda folder: os.mkfifo(folder / "model"), "a pipe"),
        (unix_socket, "a socket"),
        (hard_link, "hard link"),
        (sparse, "holes"),
        (deep, "deeper than 32"),
        (many, "more than 10000 files"),
        (newline, "characters"),
        (not_text, "characters"),
    ],
)
def test_what_is_no_plain_file_is_a_fault(folder: Path, read: Read, make: Callable[[Path], Any], said: str) -> None:
    make(folder)
    found = read()
    assert len(found.faults) == 1
    assert said in found.faults[0]
    assert found.files == [] or said.startswith("more")
    assert found.metrics == {}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("metrics.json", '{"a": 1, "a": 2}', "twice"),
        ("metrics.json", '{"a": Infinity}', "not a finite number"),
        ("metrics.json", '{"a": ' + "9" * 400 + "}", "not a finite number"),
        ("metrics.json", '{"a": ' + "9" * 5000 + "}", "can't be read"),
        ("metrics.json", '{"a": {"b": 1}}', "a is not a number"),
        ("metrics.json", '{"a": "1"}', "a is not a number"),
        ("metrics.json", '{"a\\n::error::": 1}', "name"),
        ("metrics.json", '{"a\\n": "x"}', "name"),
        ("metrics.json", '{"": 1}', "name"),
        ("metrics.json", json.dumps({f"m{n}": n for n in range(201)}), "more than 200"),
        ("metrics.json", "[" * 100_000, "can't be read"),
        ("metrics.json", '{"a": 1' + " " * 2**20 + "}", "larger than"),
        ("metrics.json", "\udcff", "can't be read"),
        ("metrics.jsonl", '{"name": "a", "value": 1}\n[]\n', "line 2"),
        ("metrics.jsonl", '{"name": "a", "value": 1, "step": 1.5}\n', "step"),
        ("metrics.jsonl", '{"name": ["a"], "value": 1}\n', "name"),
        ("metrics.jsonl", '{"name": "a", "value": 1, "x": "' + "x" * 10_000 + '"}\n', "too long"),
        ("metrics.jsonl", '{"name": "a", "value": 1}\n' * 100_001, "more than 100000"),
        ("mlflow.db", "no database", "can't be read"),
    ],
)
def test_metrics_that_are_not_sound_are_a_fault(folder: Path, read: Read, name: str, text: str, said: str) -> None:
    (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    found = read()
    assert len(found.faults) == 1
    assert found.faults[0].startswith(name) and said in found.faults[0]
    assert found.faults[0].isprintable()


def test_numbers_are_taken_exactly(folder: Path, read: Read) -> None:
    (folder / "metrics.json").write_text('{"val/f1 score": 1e-3, "n": -0.0, "count": 9007199254740993}')
    found = read()
    assert found.faults == []
    assert found.metrics == {"val/f1 score": 0.001, "n": 0.0, "count": float(9007199254740993)}


def test_the_mlflow_file_gives_metrics_and_history(folder: Path, read: Read) -> None:
    mlflow(
        folder / "mlflow.db",
        ("loss", 0.5, 30, 2, "run1", False),
        ("loss", 0.9, 40, 1, "run1", False),
        ("auroc", 0.7, 10, 0, "run1", False),
        ("auroc", 0.8, 90, 0, "run2", False),
    )
    (folder / "metrics.json").write_text('{"auroc": 0.81}')
    (folder / "metrics.jsonl").write_text('{"name": "lr", "value": 1, "step": 3}')
    found = read()
    assert found.faults == []
    assert found.metrics == {"loss": 0.5, "auroc": 0.81}
    assert list(found.history) == [
        MetricPoint("lr", 1.0, 3),
        MetricPoint("auroc", 0.7, 0),
        MetricPoint("loss", 0.9, 1),
        MetricPoint("loss", 0.5, 2),
        MetricPoint("auroc", 0.8, 0),
    ]


@pytest.mark.parametrize(
    ("point", "said"),
    [
        (("loss", 0.0, 1, 1, "run", True), "loss is not a finite number"),
        (("loss", float("inf"), 1, 1, "run", False), "loss is not a finite number"),
        (("loss", "x", 1, 1, "run", False), "loss is not a number"),
        ((b"loss", 1.0, 1, 1, "run", False), "name"),
        (("loss", 1.0, 1, "one", "run", False), "step"),
    ],
)
def test_an_mlflow_file_that_is_not_sound(folder: Path, read: Read, point: Any, said: str) -> None:
    mlflow(folder / "mlflow.db", point)
    found = read()
    assert len(found.faults) == 1
    assert said in found.faults[0]


def test_a_view_is_no_table(folder: Path, read: Read) -> None:
    with sqlite3.connect(folder / "mlflow.db") as base:
        base.execute("CREATE VIEW metrics AS SELECT 'a' AS key")
    base.close()
    found = read()
    assert (found.metrics, found.faults) == ({}, [])


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[]",
        "{}",
        '{"files": [], "metrics": {"a": NaN}, "history": [], "faults": [], "notes": []}',
        '{"files": [], "metrics": {"a": true}, "history": [], "faults": [], "notes": []}',
        '{"files": [], "metrics": {}, "history": [["a", 1]], "faults": [], "notes": []}',
        '{"files": [], "metrics": {}, "history": [], "faults": ["a\\n::error::"], "notes": []}',
        '{"files": [{"path": "../x", "size": 1, "digest": "sha256:0"}], "metrics": {}, "history": [],'
        ' "faults": [], "notes": []}',
    ],
)
def test_the_readers_answer_is_not_trusted_either(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    reader = tmp_path / "reader.py"
    reader.write_text(f"print({answer!r})")
    monkeypatch.setattr(outputs, "HARVESTER", reader)
    found, notes = outputs.read_outputs(folder, {}, None, 2**30)
    assert (found.files, found.metrics, notes) == ((), {}, [])
    assert found.faults == ("the reader's answer about the outputs is not sound",)


@pytest.mark.parametrize("source", ["raise SystemExit(1)", "import time; time.sleep(1000)"])
def test_a_reader_that_fails_is_a_fault(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    reader = tmp_path / "reader.py"
    reader.write_text(source)
    monkeypatch.setattr(outputs, "HARVESTER", reader)
    monkeypatch.setattr(outputs, "LEAST_SECONDS", 1)
    found, _ = outputs.read_outputs(folder, {}, None, 0)
    assert found.faults == ("the outputs could not be read within the limits",)


def test_copying_follows_no_link(folder: Path) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "x").write_text("x")
    (folder / "link").symlink_to("in")
    (folder / "in" / "link").symlink_to("x")
    os.mkfifo(folder / "pipe")
    os.link(folder / "in" / "x", folder / "hard")
    got: list[bytes] = []
    for path in ("link/x", "in/link", "pipe", "hard", "in", "in/../in/x", "in/x\0"):
        with pytest.raises((OSError, ProviderError)):
            outputs.copy_out(folder, path, got.append)
    assert got == []
    (folder / "hard").unlink()
    outputs.copy_out(folder, "in/x", got.append)
    assert got == [b"x"]
    with pytest.raises(NotFound):
        outputs.copy_out(folder, "in/x/y", got.append)
    with pytest.raises(Rejected):
        outputs.copy_out(folder, "/etc/hostname", got.append)
