"""Has scripts looked through by the limited process, and remembers what it said of their contents."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgetrain.core import snapshot
from edgetrain.core.codes import CODES
from edgetrain.core.snapshot import check_content, kind_by_content

# Inside the git folder: a commit can't bring a file there.
MEMORY = "edgetrain-scanned.json"
MAX_MEMORY = 64 * 2**20
MAX_KEPT = 50_000
MAX_READ = 8 * 2**20

_FOLDER = Path(__file__).parent
_START = "import sys; sys.path.insert(0, sys.argv[1]); from scanner.main import main; main()"
_BATCH = 64 * 2**20
_SECONDS = 120
_MOST_DEATHS = 5
_ANSWER = 32 * 2**20


@dataclass(frozen=True)
class Piece:
    """One content to look through. `kind` is a scan's name or `plain`; `last` the ending of the file's name."""

    kind: str
    digest: str
    last: str
    read: Callable[[], bytes] = field(compare=False)

    @property
    def key(self) -> str:
        """What is remembered under: the same content may be looked through in several ways."""
        return f"{self.kind} {self.last} {self.digest}"


@dataclass(frozen=True)
class Found:
    """One finding: its place in the content, its code, and what."""

    line: int
    column: int
    code: str
    what: str


def scan(pieces: Iterable[Piece], memory: Path | None = None) -> Mapping[str, Sequence[Found]]:
    """The findings of each piece, by its key. `memory` is the folder of the memory file, None for none.

    Errors of reading a piece are those of its `read`. A content that ends the limited process has a finding.
    """
    wanted = {piece.key: piece for piece in pieces}
    rule = _rule()
    known = _remembered(memory / MEMORY, rule) if memory else {}
    new = [piece for key, piece in wanted.items() if key not in known]
    if new:
        found = _looked_through(new)
        if memory:
            base = known if len(known) + len(found) <= MAX_KEPT else {k: v for k, v in known.items() if k in wanted}
            _remember(memory / MEMORY, rule, {**base, **found})
        known = {**known, **found}
    return {key: [Found(*each) for each in known[key]] for key in wanted}


def _looked_through(pieces: Sequence[Piece]) -> dict[str, list[list[Any]]]:
    found: dict[str, list[list[Any]]] = {}
    batch: list[tuple[str, str, bytes]] = []
    for piece in pieces:
        data = piece.read()
        found[piece.key] = [[1, 1, code.id, what] for code, what in check_content(data, piece.last)]
        kind = kind_by_content(data) if piece.kind == "plain" else piece.kind
        if kind != "plain":
            batch.append((piece.key, kind, data))
        if sum(len(held) for _, _, held in batch) > _BATCH:
            _examine(batch, found)
            batch = []
    _examine(batch, found)
    return found


def _examine(batch: Sequence[tuple[str, str, bytes]], found: dict[str, list[list[Any]]]) -> None:
    """Add the limited process's findings; what ends it is a finding, and the rest is looked through by another."""
    at = deaths = 0
    while at < len(batch) and deaths < _MOST_DEATHS:
        for answer in _answers(batch[at:]):
            found[batch[at][0]] += answer
            at += 1
        if at < len(batch):
            found[batch[at][0]].append([1, 1, "E606", "it took more time or memory than a script may have"])
            at += 1
            deaths += 1
    for key, _, _ in batch[at:]:
        found[key].append([1, 1, "E606", "it was not looked through, for too many others could not be"])


def _answers(batch: Sequence[tuple[str, str, bytes]]) -> list[list[list[Any]]]:
    """The answers up to the script that ended the process."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
        for _, kind, data in batch:
            source.write(json.dumps({"kind": kind, "size": len(data)}).encode() + b"\n" + data)
        source.seek(0)
        # Isolated, without site packages: nothing of the checkout or the environment is imported.
        command = [sys.executable, "-I", "-S", "-B", "-c", _START, str(_FOLDER)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                command,
                stdin=source,
                stdout=sink,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"LC_ALL": "C.UTF-8"},
                timeout=_SECONDS,
                check=False,
            )
        sink.seek(0)
        whole, _, _ = sink.read(_ANSWER).rpartition(b"\n")
    answers = []
    for line in whole.split(b"\n") if whole else []:
        answer = _sound(line)
        if answer is None:
            break
        answers.append(answer)
    return answers[: len(batch)]


def _sound(line: bytes) -> list[list[Any]] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if _is_answer(value) else None


def _is_answer(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, list)
        and [type(part) for part in each] == [int, int, str, str]
        and each[2] in CODES
        and len(each[3]) < 1000
        for each in value
    )


def _rule() -> str:
    """Changes whenever the scan does, or the Python that parses."""
    hasher = hashlib.sha256(sys.version.encode())
    for file in (*sorted((_FOLDER / "scanner").glob("*.py")), Path(__file__), Path(snapshot.__file__)):
        hasher.update(file.read_bytes())
    return hasher.hexdigest()


def _remembered(memory: Path, rule: str) -> dict[str, list[list[Any]]]:
    try:
        with memory.open("rb") as file:
            value = json.loads(file.read(MAX_MEMORY))
    except (OSError, ValueError, RecursionError):
        return {}
    found = value.get("found") if isinstance(value, dict) and value.get("rule") == rule else None
    return {key: each for key, each in found.items() if _is_answer(each)} if isinstance(found, dict) else {}


def _remember(memory: Path, rule: str, found: Mapping[str, Any]) -> None:
    # What can't be written is looked through again: slower, and no less right.
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(prefix=MEMORY, dir=memory.parent)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                json.dump({"rule": rule, "found": found}, file)
            Path(name).replace(memory)
        except OSError:
            Path(name).unlink()
