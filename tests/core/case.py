"""Bad repositories from compact descriptions: a valid one, and the steps that spoil it.

A case file holds steps, each a line that begins with `@` and the lines that follow it:

    @ write PATH          the lines are the file's new text
    @ edit PATH           lines up to `=>` are replaced by those after it (`=>` alone: removed)
    @ bytes PATH          each line is a number and a literal of bytes, as Python has it: repeated so often
    @ set PATH KEY        the line is JSON: a record's value under this key (`a.b`), written in canonical form
    @ unset PATH KEY
    @ remove PATH         a file, or a folder with all in it
    @ link PATH TARGET    a symbolic link
    @ move PATH PATH
    @ judge NUMBER OUTCOME  record that the run of this version of `mean` was judged again
    @ main                commit all on main, records by the machine; what follows happens on a branch
    @ commit EMAIL        commit all, by this committer
    @ git EMAIL ARGUMENT... any other command of git, by this committer
    @ shallow             go on in a clone of depth 1, which is on the same branch
    @ require             validate with require_history

Without `@ main` the case needs no git and is validated as a plain folder.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from edgetrain.core.checks.history import touches_record
from edgetrain.core.kinds import ModelVersion
from edgetrain.core.problem import Problem
from edgetrain.core.record import RunRecord, serialise
from edgetrain.reconcile.validate import validate
from tests.core import build

PERSON = "dana@example.org"
MACHINE = "machine@example.org"


@cache
def base_files() -> Mapping[str, bytes]:
    """The valid repository: two versions of one model with their records, and a sweep."""
    state = build.desired()
    runs = [build.run(state, metrics={"score": score}) for score in (0.4, 0.5)]
    second = build.edited("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.25")
    runs[1] = build.run(build.desired(second), metrics={"score": 0.5})
    files = {path: text.encode() for path, text in build.with_versions(build.FILES, *runs).items()}
    records = [*runs, *(build.released(run, number) for number, run in enumerate(runs, 1))]
    return files | {record.path: serialise(record.data) for record in records}


@dataclass
class Case:
    """One repository on disk, being spoilt step by step."""

    root: Path
    git: bool = False
    require: bool = False
    _lines: list[str] = field(default_factory=list)

    def make(self) -> Case:
        """Write the valid repository."""
        for path, data in base_files().items():
            self.write(path, data)
        return self

    def write(self, path: str, data: bytes) -> None:
        """Write one file."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def play(self, text: str) -> Case:
        """Do the steps of a case file."""
        for step in ("\n" + text).split("\n@ ")[1:]:
            head, _, body = step.partition("\n")
            name, *arguments = head.split()
            getattr(self, f"_{name}")(body, *arguments)
        return self

    def problems(self) -> list[Problem]:
        """What validate says."""
        return validate(self.root, require_history=self.require)

    def _write(self, body: str, path: str) -> None:
        self.write(path, (body.rstrip("\n") + "\n").encode())

    def _edit(self, body: str, path: str) -> None:
        old, new = body.rstrip("\n").split("\n=>")
        text = (self.root / path).read_text()
        assert text.count(old) == 1, (path, old)
        self.write(path, text.replace(old, new.removeprefix("\n")).encode())

    def _bytes(self, body: str, path: str) -> None:
        parts = (line.split(" ", 1) for line in body.strip().splitlines())
        self.write(path, b"".join(int(count) * ast.literal_eval(literal) for count, literal in parts))

    def _set(self, body: str, path: str, pointer: str) -> None:
        self._record(path, pointer, json.loads(body))

    def _unset(self, body: str, path: str, pointer: str) -> None:
        self._record(path, pointer, None)

    def _record(self, path: str, pointer: str, value: Any) -> None:
        data = json.loads((self.root / path).read_bytes())
        at, (*keys, last) = data, pointer.split(".")
        for key in keys:
            at = at[key]
        if value is None:
            del at[last]
        else:
            at[last] = value
        self.write(path, serialise(data))

    def _remove(self, body: str, path: str) -> None:
        found = self.root / path
        if found.is_dir():
            shutil.rmtree(found)
        else:
            found.unlink()

    def _link(self, body: str, path: str, target: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).symlink_to(target)

    def _move(self, body: str, old: str, new: str) -> None:
        (self.root / new).parent.mkdir(parents=True, exist_ok=True)
        (self.root / old).rename(self.root / new)

    def _judge(self, body: str, number: str, outcome: str) -> None:
        version = build.manifest(
            "models/mean/versions/1.yaml", (self.root / f"models/mean/versions/{number}.yaml").read_text()
        )
        assert isinstance(version, ModelVersion)
        run = build.parse_record(version.run_path, (self.root / version.run_path).read_bytes())
        assert isinstance(run, RunRecord)
        record = build.evaluation(run, outcome)
        self.write(record.path, serialise(record.data))

    def _main(self, body: str) -> None:
        self.git = True
        self._sh("init", "--quiet", "-b", "main")
        files = (str(file.relative_to(self.root)) for file in self.root.rglob("*.json"))
        self._sh("add", "--force", *(path for path in files if touches_record(path)))
        self._sh("commit", "--quiet", "--message", "records", email=MACHINE)
        self._commit("", PERSON)
        self._sh("checkout", "--quiet", "-b", "change")

    def _commit(self, body: str, email: str) -> None:
        self._sh("add", "--all", "--force")
        self._sh("commit", "--quiet", "--message", "change", email=email)

    def _git(self, body: str, email: str, *arguments: str) -> None:
        self.git = True
        self._sh(*arguments, email=email)

    def _shallow(self, body: str) -> None:
        clone = self.root.parent / "shallow"
        self._sh("clone", "--quiet", "--depth", "1", "--no-single-branch", self.root.as_uri(), str(clone))
        self.root = clone

    def _require(self, body: str) -> None:
        self.require = True

    def _sh(self, *arguments: str, email: str = PERSON) -> None:
        who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER")
               for key, value in (("NAME", "Dana"), ("EMAIL", email))}  # fmt: skip
        who |= {f"GIT_{role}_DATE": "2026-01-01T00:00:00Z" for role in ("AUTHOR", "COMMITTER")}
        place = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        subprocess.run(
            ["git", *arguments], cwd=self.root, env={**os.environ, **who, **place}, check=True, capture_output=True
        )


def report(problems: list[Problem]) -> str:
    """Problems as the golden files hold them; commit ids hang on every byte of the base, so they are left out."""
    text = "".join(
        f"{p.path}:{p.line}:{p.column} {'' if p.severity.value == 'problem' else '(warning) '}{p.code} {p.what}\n"
        f"    fix: {p.fix}\n"
        for p in problems
    )
    return re.sub(r"(commit|git revert(?: -m 1)?) [0-9a-f]{12}\b", r"\1 ID", text)
