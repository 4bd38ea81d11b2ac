"""Files made to exhaust who reads them: each is judged within bounds of memory and time that a kernel holds."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.record import RunRecord, parse_record, serialise
from tests.core import build
from tests.core.case import Case
from tests.walk import sample

MEMORY, SECONDS = 1200 * 2**20, 60
MOST_SHOWN = 20_000
MB = 2**20
MANIFEST, SWEEP = "experiments/mean/experiment.yaml", "experiments/search/experiment.yaml"
LOCK, CODE = "experiments/mean/requirements.lock", "experiments/mean/train.py"
MODEL, RECORD = "models/mean/model.yaml", "experiments/mean/runs/0123456789ab-1.json"
HASH = "--hash=sha256:" + "1" * 64


def edited(path: str, old: str, new: str) -> tuple[str, str]:
    return path, build.edited(path, old, new)[path]


def numbered(form: str, count: int, between: str = "") -> str:
    return between.join(form.format(number) for number in range(count))


HOSTILE: dict[str, tuple[str, str | bytes]] = {
    "brackets": (MANIFEST, "a: " + "[" * (MB - 9)),
    "nested mappings": (MANIFEST, "a: " + "{a: " * (MB // 4 - 9)),
    "dashes": (MANIFEST, "a:\n" + "- " * (MB // 2 - 9)),
    "items": (MANIFEST, "a:\n" + "- a\n" * (MB // 4 - 9)),
    "keys": (MANIFEST, numbered("k{}: 1\n", 90_000)),
    "one key": (MANIFEST, "a: 1\n" * 200_000),
    "open quote": (MANIFEST, 'a: "' + "\n" * (MB - 9)),
    "colons": (MANIFEST, "a" + ": a" * (MB // 3 - 9)),
    "aliases": (MANIFEST, "a: &a [1]\n" + numbered("k{}: *a\n", 60_000)),
    "tags": (MANIFEST, numbered("k{}: !t 1\n", 60_000)),
    "documents": (MANIFEST, "---\n" * 200_000),
    "folded": (MANIFEST, "a: >-\n" + "  x\n" * 200_000),
    "control characters": (MANIFEST, "\x07" * (MB - 9)),
    "no text": (MANIFEST, b"\xff" * (MB - 9)),
    "digits": (MANIFEST, "a: " + "9" * (MB - 9)),
    "base 60": (MANIFEST, "a: " + "1:" * (MB // 2 - 9)),
    "expressions": edited(MANIFEST, "python train.py", "python " + "${{inputs.x}} " * 60_000),
    "open expressions": edited(MANIFEST, "python train.py", "python " + "${{" * 300_000),
    "outputs": edited(MANIFEST, "  metrics:", numbered("    m{}: {{path: m}}\n", 15_000) + "  metrics:"),
    "metrics": edited(MANIFEST, "[score]", "[" + numbered("s{}", 90_000, ", ") + "]"),
    "equal metrics": edited(MANIFEST, "[score]", "[" + ", ".join(["s"] * 90_000) + "]"),
    "long name": edited(MANIFEST, "name: mean,", f"name: {'m' * 900_000},"),
    "choices": edited(SWEEP, "[0.1, 0.2]", "[" + numbered("{}", 90_000, ", ") + "]"),
    "channels": edited(MODEL, "{production: 2}", "{" + numbered("c{}: 2", 40_000, ", ") + "}"),
    "networks": edited("edgetrain.yaml", "[10.0.0.0/8]", "[" + ", ".join(["10.0.0.0/8"] * 60_000) + "]"),
    "lock's lines": (LOCK, "a==1 \\\n" * 400_000),
    "lock's spaces": (LOCK, "a==1 " + " " * (4 * MB - 99)),
    "lock's hashes": (LOCK, "a==1" + f" {HASH}" * 40_000),
    "lock's packages": (LOCK, numbered("p{}==1 " + HASH + "\n", 40_000)),
    "large lock": (LOCK, b"x" * (5 * MB)),
    "record's brackets": (RECORD, "[" * (4 * MB - 9)),
    "record's digits": (RECORD, "9" * (4 * MB - 9)),
    "record's numbers": (RECORD, "[" + "1e5," * (MB - 9) + "1]"),
    "record's lists": (RECORD, "[" + "[]," * (MB + 300_000) + "1]"),
    "record's keys": (RECORD, "{" + numbered('"\U0001f600{:07}":1', 240_000, ",") + "}"),
    "large record": (RECORD, b" " * (40 * MB)),
    "code's brackets": (CODE, "(" * 200_000),
    "code's sum": (CODE, "x = " + "1 + " * 200_000 + "1\n"),
    "code's signs": (CODE, "x = " + "-" * 100_000 + "1\n"),
    "code's attributes": (CODE, "x" + ".a" * 200_000 + "\n"),
    "code's branches": (CODE, "if a:\n b\n" + "elif a:\n b\n" * 30_000),
    "code's imports": (CODE, "import socket\n" * 70_000),
    "code's keys": (CODE, "-----BEGIN " * 200_000),
    "code's letters": (CODE, "x='" + "QUJD" * 400_000 + "'\n"),
    "notebook": ("experiments/mean/a.ipynb", '{"cells":' + "[" * MB),
    "shell": ("experiments/mean/a.sh", "'\"\\$(`" * 170_000),
    "rows": ("experiments/mean/data.csv", "1,2,3\n" * 170_000),
}
# Records in their exact form, each of which holds more of something than any run ever told.
Record = dict[str, Any]
MANY = 20_000


def large(key: str, value: object) -> Callable[[Record], None]:
    def change(record: Record) -> None:
        at = record
        *keys, last = key.split(".")
        for name in keys:
            at = at[name]
        at[last] = value

    return change


FILES = [{"path": f"m/{n:06}", "size": 1, "digest": "sha256:" + f"{n:064x}"} for n in range(MANY)]
GATE = {"metric": "score", "rule": "min", "status": "passed", "value": 1, "bound": 0, "reference": None}
ACCOUNT = {"id": 1, "login": "x" * 1000}
REVIEW = {
    "host": "github.com", "repository": "a/b", "pullRequest": 1, "head": "1" * 40, "proposer": ACCOUNT,
    "mergedBy": None, "mergedAt": "2026-01-01T00:00:00Z", "checks": {f"c{n}": "success" for n in range(MANY)},
    "approvals": [{**ACCOUNT, "id": n, "time": "2026-01-01T00:00:00Z", "commit": "1" * 40, "counts": True,
                   "why": ""} for n in range(2000)],
}  # fmt: skip
LARGE: dict[str, Callable[[Record], None]] = {
    "metrics": large("metrics", {f"m{n}": n for n in range(MANY)}),
    "gates": large("gates.results", [GATE] * MANY),
    "stars": large(
        "gates.results", [{**GATE, "rule": f"notWorseThan c{n}", "reference": "mean@1"} for n in range(MANY)]
    ),
    "files": large("outputs.model.files", FILES),
    "outputs": large(
        "outputs", {f"o{n}": {"type": "t", "path": "p", "digest": "", "size": 1, "files": []} for n in range(MANY)}
    ),
    "inputs": large("inputs", {f"i{n}": {"digest": "sha256:" + "0" * 64} for n in range(MANY)}),
    "approvers": large("provenance", {"mergeCommit": "1" * 40, "proposer": "x", "approvers": ["a <a@b>"] * MANY}),
    "review": large("provenance", {"mergeCommit": "1" * 40, "proposer": "x", "approvers": [], "review": REVIEW}),
    "waivers": large("egress.waivers", [{"code": "E701", "path": "x", "expires": "2026-01-01"}] * MANY),
    "message": large("message", "\u202e\n" * 500_000),
    "times": large("started", "9" * 1_000_000),
    "depth": large("usage", json.loads("[" * 200 + "]" * 200)),
    "parameters": large("parameters", {f"p{n}": "x" * 100 for n in range(MANY)}),
    "trial": large("trial", {f"p{n}": n for n in range(MANY)}),
}
SAY = """
import sys
from edgetrain.cli.app import app
root = sys.argv[1]
for verb in ("validate", "plan", "runs", "models mean", "log mean", "audit mean@1", "audit --since 2020-01-01",
             "compare mean@1 mean@2", "verify", "drift"):
    code = app.main(["-C", root, *verb.split()], standalone_mode=False)
    print(verb, code, file=sys.stderr, flush=True)
    assert code in (0, 1, 2, 3), (verb, code)
"""
# Names and what is said of each, by a process that reads nothing else.
PROGRAM = """
import json, sys
from pathlib import Path
from edgetrain.reconcile.validate import validate
for root in sys.argv[1:]:
    print(json.dumps([[p.code, p.what, p.fix] for p in validate(Path(root))]), flush=True)
"""


def records(root: Path) -> list[RunRecord]:
    files = sorted(root.glob("experiments/*/runs/*.json"))
    found = (parse_record(str(file.relative_to(root)), file.read_bytes()) for file in files)
    return [record for record in found if isinstance(record, RunRecord)]


def cited(root: Path, run: RunRecord, number: int) -> bool:
    return run.digest in (root / f"models/mean/versions/{number}.yaml").read_text()


def bounded() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def test_what_is_made_to_exhaust_is_judged_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    names = [list(HOSTILE)[index] for index in sample(len(HOSTILE), 8)]
    for number, name in enumerate(names):
        path, content = HOSTILE[name]
        case = Case(tmp_path / str(number)).make()
        case.write(path, content.encode() if isinstance(content, str) else content)
    roots = [str(tmp_path / str(number)) for number in range(len(names))]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *roots],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=bounded,
        env=os.environ,
    )
    answers = done.stdout.splitlines()
    assert done.returncode == 0, (names[len(answers)], done.stderr[-2000:])
    assert len(answers) == len(names)
    for name, answer in zip(names, answers, strict=True):
        # A report is for people: bounded, and nothing in it moves a terminal.
        assert len(answer) < MOST_SHOWN, name
        assert all(re.fullmatch(r"[^\x00-\x1f\x7f]*", what) for _, what, _ in json.loads(answer)), name


def test_records_that_hold_too_much_are_told_of_within_bounds(tmp_path: Path) -> None:
    """By every verb that reads them, on main, where the machine's name stands under them."""
    names = [list(LARGE)[index] for index in sample(len(LARGE), 1)]
    for name in names:
        case = Case(tmp_path / name.replace(" ", "-")).make()
        [path] = [run.path for run in records(case.root) if run.attempt == 1 and cited(case.root, run, 1)]
        data = json.loads((case.root / path).read_bytes())
        LARGE[name](data)
        case.write(path, serialise(data))
        case.play("@ main\n@ git dana@example.org checkout --quiet main\n")
        done = subprocess.run(
            [sys.executable, "-c", SAY, str(case.root)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            preexec_fn=bounded,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path)},
        )
        assert done.returncode == 0, (name, done.stderr[-2000:])
        assert "drift" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_history_of_many_touches_is_judged_within_bounds(tmp_path: Path) -> None:
    """Thousands of commits that change one record back and forth, and none of them by the machine."""
    case = Case(tmp_path / "repository").make().play("@ main\n@ git dana@example.org checkout --quiet main\n")
    [path] = [run.path for run in records(case.root) if cited(case.root, run, 1)]
    stream = bytearray()
    for number in range(3000):
        data = b"[%d]\n" % (number % 7)
        stream += b"commit refs/heads/main\ncommitter Dana <dana@example.org> %d +0000\n" % (1767225600 + number)
        stream += b"data 4\nmore\n" + (b"from refs/heads/main^0\n" if number == 0 else b"")
        stream += b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data)
    subprocess.run(["git", "fast-import", "--quiet"], cwd=case.root, input=bytes(stream), check=True)
    subprocess.run(["git", "reset", "--quiet", "--hard"], cwd=case.root, check=True)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(case.root)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=bounded,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout) < MOST_SHOWN
    assert "H402" in {code for code, _, _ in json.loads(done.stdout)}
