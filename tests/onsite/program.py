"""The staging program as the runner starts it: a process of its own, from copied files, JSON on its streams."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetrain.onsite import ONSITE
from edgetrain.onsite.staging import BOOTSTRAP
from tests.walk import WALK_ALL

# For what hangs: thousands of blobs on a busy machine take minutes.
DEADLINE = 600 if WALK_ALL else 120


def copied(folder: Path) -> Path:
    """The package alone, as it lies on a VM."""
    shutil.copytree(ONSITE / "staging", folder / "staging", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


class Program:
    """Stagings into one cache."""

    def __init__(self, tools: Path, cache: Path) -> None:
        self.tools, self.cache = tools, cache

    def command(self) -> list[str]:
        """How it is started."""
        return [sys.executable, "-I", "-c", BOOTSTRAP, str(self.tools)]

    def request(self, verb: str, source: Mapping[str, Any] | None = None, **more: Any) -> bytes:
        """The first line of its stdin."""
        defaults = {"limit": None, "view": True, "single": False, "expected": None, "pinned": [], "parallel": 8}
        return (
            json.dumps({"verb": verb, "cache": str(self.cache), "source": source, **defaults, **more}).encode()
            + b"\n"
        )

    def start(self, verb: str, source: Mapping[str, Any] | None = None, **more: Any) -> subprocess.Popen[bytes]:
        """Start, with the request sent; stdin is closed."""
        process = subprocess.Popen(
            self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdin
        process.stdin.write(self.request(verb, source, **more))
        process.stdin.flush()
        return process

    def run(self, verb: str, source: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """Its last line. Nothing else than the answer may be said."""
        return finish(self.start(verb, source, **more))

    def stage(self, source: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Stage; the answer, which is no error."""
        answer = self.run("stage", source, **more)
        assert "error" not in answer, answer
        return answer

    def fails(self, source: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Stage; the error."""
        answer = self.run("stage", source, **more)
        assert "error" in answer, answer
        error: dict[str, Any] = answer["error"]
        assert error["message"] and error["fix"] and error["transient"] == (error["kind"] == "Transient")
        return error

    def blobs(self) -> list[Path]:
        """The contents in the cache."""
        return sorted(path for path in (self.cache / "blobs").rglob("*") if path.is_file())

    def whole(self) -> None:
        """Every content is what its name says, read-only; nothing is left of what was under way."""
        for path in self.blobs():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
            assert path.stat().st_mode & 0o777 == 0o444


def finish(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Wait for the end; the last line."""
    out, errors = process.communicate(timeout=DEADLINE)
    assert not errors, errors.decode()
    lines = [json.loads(line) for line in out.splitlines()]
    assert all(set(line) == {"progress"} for line in lines[:-1])
    assert process.returncode == (1 if "error" in lines[-1] else 0)
    last: dict[str, Any] = lines[-1]
    return last


def tree(folder: Path) -> dict[str, bytes]:
    """Names and contents of the files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
