"""What a run left: read by a limited process, and copied out without following a link."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.ports import Harvest, MetricPoint, OutputFile
from edgetrain.providers.contract import MAX_FILES, ROOT
from edgetrain.providers.durable import CHUNK, open_regular
from edgetrain.providers.local.sandbox import HARVESTER, Sandbox, arguments, bare, python

MAX_REPORT = 64 * 2**20
LEAST_SECONDS = 120
SLOWEST = 20 * 2**20  # bytes a second
SCRATCH = 64 * 2**20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LISTS = ("files", "history", "faults", "notes")


def read_outputs(
    folder: Path, outputs: Mapping[str, str], sandbox: Sandbox | None, limit: int
) -> tuple[Harvest, list[str]]:
    """The harvest, and notes that must stay at the site. `limit` is the bytes that the outputs may have."""
    seconds = LEAST_SECONDS + limit // SLOWEST
    config = {"declared": list(outputs.values()), "files": MAX_FILES, "cpu": seconds, "outputs": str(folder)}
    command = [python(), "-I", "-S", str(HARVESTER)]
    if sandbox:
        config["outputs"] = f"{ROOT}/outputs"
        read = {str(folder): f"{ROOT}/outputs", str(HARVESTER): f"{ROOT}/harvest.py"}
        command = arguments(
            sandbox.program, sandbox.flags, read=read, write={}, chdir="/", tmp=SCRATCH, shm=SCRATCH
        )
        command += [python(), "-I", "-S", f"{ROOT}/harvest.py"]
    with tempfile.TemporaryFile() as answer:
        try:
            done = subprocess.run(
                [*command, json.dumps(config)],
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                env=bare(),
                cwd="/",
                timeout=2 * seconds,
                start_new_session=True,
                check=False,
            )
            code = done.returncode
        except subprocess.TimeoutExpired:
            code = -1
        answer.seek(0)
        data = answer.read(MAX_REPORT + 1)
    if code != 0 or len(data) > MAX_REPORT:
        return Harvest((), {}, faults=("the outputs could not be read within the limits",)), []
    try:
        return _checked(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Harvest((), {}, faults=("the reader's answer about the outputs is not sound",)), []


def _checked(found: Any) -> tuple[Harvest, list[str]]:
    """Take the reader's answer for no more than it is; ValueError and its like if it is not sound."""
    if set(found) != {*_LISTS, "metrics"} or not all(isinstance(found[name], list) for name in _LISTS):
        raise ValueError("keys")
    harvest = Harvest(
        files=[OutputFile(_path(f["path"]), _count(f["size"]), _digest(f["digest"])) for f in found["files"]],
        metrics={_text(name): _number(value) for name, value in found["metrics"].items()},
        history=[
            MetricPoint(_text(name), _number(value), _count(step, least=-(2**53)))
            for name, value, step in found["history"]
        ],
        faults=[_text(fault, 500) for fault in found["faults"]],
    )
    return harvest, [_text(note, 2000) for note in found["notes"]]


def _text(value: Any, most: int = 120) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise ValueError("text")
    return value


def _path(value: Any) -> str:
    parts = _text(value, 4096).split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError("path")
    return str(value)


def _digest(value: Any) -> str:
    if not _DIGEST.fullmatch(value):
        raise ValueError("digest")
    return str(value)


def _count(value: Any, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 2**53:
        raise ValueError("count")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("number")
    return float(value)


def copy_out(folder: Path, path: str, write: Callable[[bytes], None]) -> None:
    """Give the bytes of one output file to `write`. Raises Rejected for a path outside, a link, no file."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise Rejected("the path is not one of an output", reason="PathOutside", fix="name a path of the harvest")
    handle = os.open(folder, _FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=handle)
            os.close(handle)
            handle = inner
        with open_regular(parts[-1], dir_fd=handle) as file:
            if os.fstat(file.fileno()).st_nlink != 1 or not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Rejected("the output is a hard link", reason="SpecialFile", fix="write a file of its own")
            while chunk := file.read(CHUNK):
                write(chunk)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("there is no such output", fix="name a path of the harvest") from None
    finally:
        os.close(handle)
