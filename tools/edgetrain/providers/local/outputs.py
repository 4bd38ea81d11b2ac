"""What a run left: read by a limited process, and copied out without following a link."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.ports import Harvest
from edgetrain.onsite.sandbox import HARVESTER, Sandbox, arguments, bare, python
from edgetrain.providers.answers import harvest_of, notes_of
from edgetrain.providers.contract import MAX_FILES, ROOT
from edgetrain.providers.durable import CHUNK, open_regular

MAX_REPORT = 64 * 2**20
LEAST_SECONDS = 120
SLOWEST = 20 * 2**20  # bytes a second
SCRATCH = 64 * 2**20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
    return harvest_of(data), notes_of(data)


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
