"""readings.py: what is remembered of files says the same as reading them, and is no memory once in doubt."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgetrain.core.checks.references import check_references
from edgetrain.repo import load, reader, readings
from edgetrain.repo.history import Additions
from edgetrain.repo.load import Loaded, read_repository
from edgetrain.repo.readings import Readings
from edgetrain.repo.work_tree import WorkTree
from tests.core.case import Case, base_files
from tests.walk import SEED, examples

ALWAYS = 2**62
PATHS = sorted(path for path in base_files() if not path.endswith(".md"))
RUNS = ["experiments/*/runs/*.json", "models/*/versions/*"]
TIMES = count(10**18, 10**9)


@pytest.fixture(autouse=True)
def written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "FEW", 0)


def memory(root: Path, key: bytes = b"key", settled: int = ALWAYS) -> Readings:
    return Readings(root.parent / "memory.bin", key, settled)


def read(root: Path, known: Readings | None) -> tuple[Loaded, object]:
    """One reading, and what hangs on the places and digests of its manifests."""
    tree = WorkTree(root)
    loaded = read_repository(tree, readings=known)
    told = None
    if loaded.desired is not None:
        told = loaded.desired.digest, check_references(loaded.desired, loaded.recorded, loaded.broken)
    if known:
        known.save(tree.exists)
    return loaded, told


Edit = tuple[str, str, str, int]
EDITS = st.tuples(
    st.sampled_from(["restore", "flip", "break", "remove", "move", "link", "mode", "warn"]),
    st.sampled_from(PATHS),
    st.sampled_from(PATHS),
    st.integers(0, 2000),
)


def edit(root: Path, how: str, path: str, other: str, at: int) -> None:
    """One change as people make them. Times differ always: two changes within one tick of the clock are what
    `settled` is for."""
    file, target = root / path, root / other
    file.parent.mkdir(parents=True, exist_ok=True)
    if how == "move" and file.is_file() and file != target:
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
        file = target
    elif how == "mode" and file.is_file():
        file.chmod(0o755 if at % 2 else 0o644)
    elif how in ("remove", "link"):
        file.unlink(missing_ok=True)
        if how == "link":
            file.symlink_to(target)
    else:
        data = bytearray(base_files()[path])
        if how == "flip":
            data[at % len(data)] ^= 1
        elif how == "break":
            data = bytearray(base_files()[other])
        elif how == "warn":
            data += b"\n# no newline"
        file.unlink(missing_ok=True)
        file.write_bytes(data)
    if file.is_file() and not file.is_symlink():
        moment = next(TIMES)
        os.utime(file, ns=(moment, moment))


@settings(
    max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(EDITS, min_size=1, max_size=6))
def test_whatever_is_edited_the_answer_is_the_same(tmp_path: Path, edits: list[Edit]) -> None:
    root = tmp_path / "checkout"
    shutil.rmtree(root, ignore_errors=True)
    Case(root).make()
    read(root, memory(root))
    for one in edits:
        edit(root, *one)
        assert read(root, memory(root)) == read(root, None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    Case(root).make()
    read(root, memory(root))
    return root


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The manifests and records that are read."""
    found: list[str] = []

    def counted(really: Callable[..., Any], place: int) -> Callable[..., Any]:
        def look(*arguments: Any) -> Any:
            found.append(arguments[place])
            return really(*arguments)

        return look

    monkeypatch.setattr(reader, "read", counted(reader.read, 1))
    monkeypatch.setattr(load, "read_record", counted(load.read_record, 0))
    return found


@pytest.mark.parametrize("path", ["models/mean/model.yaml", next(p for p in PATHS if "/runs/" in p)])
def test_only_what_changed_is_read(root: Path, looks: list[str], path: str) -> None:
    edit(root, "restore", path, path, 0)
    assert read(root, memory(root)) == read(root, None)
    assert looks[0] == path
    assert looks.count(path) == 2
    assert len(looks) == 1 + len([p for p in PATHS if p.endswith((".yaml", ".json"))])


def test_nothing_is_read_and_written_twice(root: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(WorkTree, "read", refused)
    monkeypatch.setattr(WorkTree, "measure", refused)
    monkeypatch.setattr(readings, "put_in_place", refused)
    assert read(root, memory(root))[0].problems == ()
    assert looks == []


def test_what_has_a_problem_is_read_again(root: Path, looks: list[str]) -> None:
    path = "compute/runner.yaml"
    edit(root, "break", path, "edgetrain.yaml", 0)
    first = read(root, memory(root))
    assert first[0].problems
    assert read(root, memory(root)) == first
    assert looks == [path, path]


def test_a_lock_with_a_problem_is_read_again(root: Path) -> None:
    path = next(path for path in PATHS if path.endswith(".lock"))
    (root / path).write_bytes(b"numpy\n")
    told = read(root, memory(root))
    assert any(problem.path == path for problem in told[0].problems)
    assert read(root, memory(root)) == told


def test_places_are_found_again(root: Path) -> None:
    """Of a manifest that was remembered, problems in what it refers to are told with their lines."""
    (root / "compute" / "runner.yaml").unlink()
    told = read(root, memory(root))
    assert told == read(root, None)
    assert any(problem.line > 1 for problem in told[1][1])  # type: ignore[index]


DAMAGES: list[Callable[[Path, bytes], object]] = [
    lambda file, data: file.write_bytes(data[: len(data) // 2]),
    lambda file, data: file.write_bytes(b""),
    lambda file, data: file.write_bytes(data + b"x"),
    lambda file, data: file.write_bytes(b"[" * 100_000),
    lambda file, data: file.unlink(),
    lambda file, data: (file.unlink(), file.mkdir()),
    lambda file, data: (file.unlink(), file.symlink_to("/dev/zero")),
    *[lambda file, data, at=at: file.write_bytes(flipped(data, at)) for at in (0, 31, 32, 40, 5000, -1)],  # type: ignore[misc]
]


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 4
    return bytes(changed)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_memory_is_none(root: Path, looks: list[str], damage: Callable[[Path, bytes], object]) -> None:
    file = root.parent / "memory.bin"
    damage(file, file.read_bytes())
    assert read(root, memory(root)) == read(root, None)
    assert len(looks) == 2 * len(set(looks)) > 0


def test_another_programs_memory_is_none(root: Path, looks: list[str]) -> None:
    read(root, memory(root, b"another"))
    assert len(looks) == len(set(looks)) > 0


def test_a_memory_too_large_is_none(root: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "MAX_MEMORY", 1000)
    assert read(root, memory(root)) == read(root, None)
    assert len(looks) == 2 * len(set(looks)) > 0


def test_what_just_changed_is_not_remembered(root: Path, looks: list[str]) -> None:
    (root.parent / "memory.bin").unlink()
    read(root, memory(root, settled=1))
    read(root, memory(root, settled=1))
    assert len(looks) == 2 * len(set(looks)) > 0


def test_what_is_gone_is_forgotten(root: Path) -> None:
    path = next(path for path in PATHS if "/runs/" in path)
    assert path.encode() in (root.parent / "memory.bin").read_bytes()
    (root / path).unlink()
    edit(root, "warn", "compute/runner.yaml", "", 0)
    other = next(p for p in PATHS if "/runs/" in p and p != path)
    edit(root, "restore", other, "", 0)
    read(root, memory(root))
    assert path.encode() not in (root.parent / "memory.bin").read_bytes()


def test_a_folder_that_cant_be_written_costs_time_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    (root.parent / "memory.bin").unlink()
    monkeypatch.setattr(readings.tempfile, "mkstemp", full)
    assert read(root, memory(root)) == read(root, None)
    assert not (root.parent / "memory.bin").exists()


# --- history -----------------------------------------------------------------------------------------


@pytest.mark.needs("git>=2.34")
def test_history_is_told_alike_from_what_is_known(make: Any) -> None:
    """Whatever becomes of main: commits, merges, fast-forwards onto another line, going back, being rewritten."""
    checkout, dice, numbers = make(), random.Random(SEED), count()

    def one(message: str = "run") -> str:
        number = next(numbers) if dice.random() < 0.7 else 0  # the first is changed again and again
        name = f"experiments/x/runs/{number:012x}-1.json"
        return str(checkout.commit(message, **{name: str(dice.random())}))

    def merge() -> None:
        checkout.sh("checkout", "--quiet", "-B", "side", "HEAD")
        one()
        checkout.sh("checkout", "--quiet", "main")
        one()
        checkout.sh("merge", "--quiet", "--no-ff", "--message", "m", "-X", "ours", "side")

    def other_line() -> None:
        checkout.sh("checkout", "--quiet", "-B", "side", "main~1")
        one()
        checkout.sh("merge", "--quiet", "--no-ff", "--message", "m", "-X", "ours", "main")
        checkout.sh("branch", "--force", "main", "side")
        checkout.sh("checkout", "--quiet", "main")

    def back() -> None:
        checkout.sh("reset", "--quiet", "--hard", "main~1")

    def rewritten() -> None:
        checkout.sh("reset", "--quiet", "--hard", "main~1")
        one("other")

    def gone() -> None:
        rewritten()
        checkout.sh("reflog", "expire", "--expire=now", "--all")
        checkout.sh("gc", "--quiet", "--prune=now")

    def told(known: Readings | None) -> list[Any]:
        with Additions(checkout.git, checkout.git.head(), RUNS, known) as additions:
            found = list(additions.by_path.values())
        if known:
            known.save(lambda _: True)
        return found

    file = checkout.root.parent / "memory.bin"
    one()
    one()
    told(Readings(file, b"key"))
    steps = [one, merge, other_line, back, rewritten, gone, one]
    dice.shuffle(steps)
    for step in (*steps, one, one, one):
        step()
        assert told(Readings(file, b"key")) == told(None), step.__name__


@pytest.mark.needs("git>=2.34")
def test_of_history_only_what_is_new_is_asked(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = make()
    for number in range(3):
        checkout.commit("run", **{f"experiments/x/runs/{number:012x}-1.json": "1"})
    file = checkout.root.parent / "memory.bin"
    asked: list[tuple[str, ...]] = []
    really = checkout.git.begin

    def begin(*arguments: str) -> Any:
        asked.append(arguments)
        return really(*arguments)

    monkeypatch.setattr(checkout.git, "begin", begin)
    for _ in range(2):
        known = Readings(file, b"key")
        with Additions(checkout.git, "main", RUNS, known) as additions:
            assert len(additions.by_path) == 3
        known.save(lambda _: True)
    assert len(asked) == 1
    before = checkout.git.head()
    checkout.commit("run", **{"experiments/x/runs/aaaaaaaaaaaa-1.json": "1"})
    known = Readings(file, b"key")
    with Additions(checkout.git, "main", RUNS, known) as additions:
        assert [found.ordinal for found in additions.by_path.values()] == [0, 1, 2, 3]
    assert len(asked) == 2
    assert asked[1][-1] == f"^{before}"
