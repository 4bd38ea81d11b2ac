"""The limited process and the memory: what a hostile script can't do to them."""

from __future__ import annotations

import ast
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.egress import scan as scanning
from edgetrain.egress.scan import MEMORY, Piece, scan
from edgetrain.egress.scanner import main
from edgetrain.reconcile.guard import guard
from edgetrain.reconcile.validate import validate
from edgetrain.repo.git import Git
from edgetrain.repo.load import read_repository
from edgetrain.repo.work_tree import WorkTree
from tests.core.case import Case

SOCKET = b"import socket\n"


def piece(data: bytes, kind: str = "python", read: Callable[[], bytes] | None = None) -> Piece:
    """A piece of this content."""
    return Piece(kind, digest_bytes(data), "py", read or (lambda: data))


def codes(*pieces: Piece, memory: Path | None = None) -> list[list[str]]:
    """The codes found in each piece."""
    found = scan(pieces, memory)
    return [[each.code for each in found[one.key]] for one in pieces]


def never() -> bytes:
    """A content that must not be read."""
    raise AssertionError("it was read again")


def test_all_pieces_are_answered_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: calls.append(a) or real(*a, **k))
    many = [piece(SOCKET + b"%d" % at) for at in range(50)]
    assert codes(*many, piece(b"curl x", "shell"), piece(b"\x93NUMPY", "plain")) == [["E611"]] * 50 + [
        ["E618"],
        ["E601"],
    ]
    assert len(calls) == 1


def test_what_is_known_is_not_read_again(tmp_path: Path) -> None:
    assert codes(piece(SOCKET), memory=tmp_path) == [["E611"]]
    assert codes(piece(SOCKET, read=never), memory=tmp_path) == [["E611"]]
    with pytest.raises(AssertionError):
        codes(piece(b"pass", read=never), memory=tmp_path)


def test_other_rules_forget_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes(piece(SOCKET), memory=tmp_path)
    monkeypatch.setattr(scanning, "_rule", lambda: "another")
    with pytest.raises(AssertionError):
        codes(piece(SOCKET, read=never), memory=tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"found": 1}', "[" * 100_000, '{"rule": "RULE", "found": {"KEY": [[1, 1, "E999", "x"]]}}',
     '{"rule": "RULE", "found": {"KEY": [{"a": 1}]}}'],
)  # fmt: skip
def test_a_spoilt_memory_is_as_good_as_empty(tmp_path: Path, text: str) -> None:
    told = text.replace("RULE", scanning._rule()).replace("KEY", piece(SOCKET).key)
    (tmp_path / MEMORY).write_text(told)
    assert codes(piece(SOCKET), memory=tmp_path) == [["E611"]]
    assert json.loads((tmp_path / MEMORY).read_text())["found"]


def test_a_memory_that_can_not_be_written_costs_only_time(tmp_path: Path) -> None:
    assert codes(piece(SOCKET), memory=tmp_path / "nowhere") == [["E611"]]


def test_the_memory_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "MAX_KEPT", 3)
    for at in range(5):
        codes(piece(b"a = %d" % at), memory=tmp_path)
    assert len(json.loads((tmp_path / MEMORY).read_text())["found"]) <= 3


def worker(tmp_path: Path, text: str) -> None:
    """A scanner in the real one's place, whose `python` scan does what the text says."""
    package = tmp_path / "scanner"
    package.mkdir()
    for file in Path(main.__file__).parent.glob("*.py"):
        (package / file.name).write_bytes(file.read_bytes())
    (package / "python.py").write_text(
        f"import os, sys\ndef scan(data):\n    if data == b'bad': {text}\n    return []\n"
    )


@pytest.mark.parametrize(
    "text",
    ["os.abort()", "os._exit(0)", "sys.exit(1)", "os.kill(os.getpid(), 9)", "[0] * 2**31",
     "sys.stdout.write('x' * 2**26)", "print('[]]'); os._exit(0)", "raise ValueError('surprise')"],
)  # fmt: skip
def test_what_ends_the_process_is_a_problem_of_that_script_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    worker(tmp_path, text)
    monkeypatch.setattr(scanning, "_FOLDER", tmp_path)
    bad, curl = piece(b"bad"), piece(b"curl x", "shell")
    assert codes(piece(b"a"), bad, curl, piece(b"b")) == [[], ["E606"], ["E618"], []]


def test_too_many_that_end_it_are_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker(tmp_path, "pass\n    os._exit(0)")
    monkeypatch.setattr(scanning, "_FOLDER", tmp_path)
    found = codes(*(piece(b"%d" % at) for at in range(20)))
    assert found == [["E606"]] * 20


LIMITS = """\
import os, resource, sys
from .finding import Finding
KINDS = [resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_CPU]
def scan(data):
    limits = [resource.getrlimit(kind)[0] for kind in KINDS]
    rest = [sys.flags.isolated, sys.flags.no_site, sorted(os.environ), os.getcwd()]
    return [Finding(1, 1, "E606", repr(limits + rest))]
"""


def test_the_process_has_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker(tmp_path, "pass")
    (tmp_path / "scanner" / "python.py").write_text(LIMITS)
    monkeypatch.setattr(scanning, "_FOLDER", tmp_path)
    monkeypatch.setenv("CANARY", "secret")
    [[found]] = scan([piece(b"any")]).values()
    memory, output, core, seconds, isolated, no_site, environment, folder = ast.literal_eval(found.what)
    assert (memory, output, core) == (main.MEMORY, main.OUTPUT, 0)
    assert seconds <= main.SECONDS + 2
    assert (isolated, no_site, folder) == (1, 1, "/")
    assert "CANARY" not in environment
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != main.MEMORY


def test_endless_work_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker(tmp_path, "\n      while True: pass")
    source = tmp_path / "scanner" / "main.py"
    source.write_text(source.read_text().replace("SECONDS = 20", "SECONDS = 1"))
    monkeypatch.setattr(scanning, "_FOLDER", tmp_path)
    assert codes(piece(b"bad"), piece(b"good")) == [["E606"], []]


def test_nothing_is_imported_or_run(tmp_path: Path) -> None:
    """Neither the script itself, nor a module of the checkout that has a standard module's name."""
    mark = tmp_path / "ran"
    text = f"open({str(mark)!r}, 'w').write('x')\n".encode()
    for name in ("ast.py", "json.py", "sitecustomize.py"):
        (tmp_path / name).write_bytes(text)
    code = "from tests.egress.test_scan import codes, piece; print(codes(piece(b'import ast, socket')))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONSTARTUP": str(tmp_path / "ast.py")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[['E611']]"
    assert codes(piece(text)) == [[]]
    assert not mark.exists()


def test_memory_lies_in_the_git_folder_where_no_commit_reaches(tmp_path: Path) -> None:
    case = Case(tmp_path / "r").make().play("@ write experiments/mean/run.py\nimport socket\n@ main\n")
    assert "E611" in [p.code for p in validate(case.root)]
    assert (case.root / ".git" / MEMORY).is_file()
    # The same content on any branch, the memory spoilt by a commit's file of that name: nothing changes.
    case.play(f"@ write {MEMORY}\n{{}}\n@ write .edgetrain/{MEMORY}\n{{}}\n")
    assert "E611" in [p.code for p in validate(case.root)]


def test_guard_of_a_work_tree_and_its_waivers_day(tmp_path: Path) -> None:
    case = Case(tmp_path / "r").make().play("@ main\n@ write experiments/mean/run.py\nimport socket\n")
    case.play(
        "@ edit experiments/mean/experiment.yaml\n  seed: 1\n=>\n  seed: 1\n  egress:\n    waivers:\n"
        '      - {code: E611, reason: r, owner: "@example/ds", expires: "2026-06-30"}\n'
    )
    git = Git.find(case.root)
    tree = WorkTree(git)
    desired = read_repository(tree).desired
    assert desired is not None
    assert guard(desired, tree, git, "2026-06-30")["mean"].refusals == ()
    assert {p.code for p in guard(desired, tree, git, "2026-07-01")["mean"].refusals} == {"E611", "E642"}
    told = {day: [p.code for p in validate(case.root, day=day)] for day in ("2026-06-30", "2026-07-01")}
    assert told == {"2026-06-30": [], "2026-07-01": ["E642"]}


def test_a_file_that_is_too_large_to_look_through_is_told(tmp_path: Path) -> None:
    case = (
        Case(tmp_path)
        .make()
        .play("@ edit edgetrain.yaml\n  machine: {\n=>\n  limits: {codeSize: 100Mi}\n  machine: {\n")
    )
    case.write("experiments/mean/big.py", b"#" * (scanning.MAX_READ + 1))
    assert [p.code for p in validate(tmp_path) if p.code != "H406"] == ["E606"]
