"""What the files of a run hold: how a run ends, and writing JSON so that it is whole or as before."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from pathlib import Path
from typing import Any

MESSAGE = 1000
SHOWN = 600
PRIVATE = re.compile(r"\w+://[^\s`]+|/[^\s`:]{2,}")


class Ended(Exception):
    """The run is to end: `by` as in `RunState.ended_by`."""

    def __init__(self, by: str, message: str = "", code: int | None = None) -> None:
        super().__init__(message)
        self.by, self.message, self.code = by, message[:MESSAGE], code


def public(said: bytes) -> str:
    """The end of what a tool said, without addresses and paths: messages leave the site, the log does not."""
    return PRIVATE.sub("[...]", " ".join(said.decode("utf-8", "replace").split()))[-SHOWN:]


def now() -> str:
    """RFC 3339 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def boot() -> str:
    """The id of this start of the machine; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def write(path: Path, value: Any) -> None:
    """Write JSON so that the file is whole or as before, also after a power cut; others may write it too."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)
