"""Calls of the container engine."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

SECONDS = 120.0
SHOWN = 400
_PATH = re.compile(r"/[^\s`:\"']{2,}")


def call(argv: Sequence[str], data: bytes = b"", seconds: float = SECONDS) -> tuple[int, str, str]:
    """Exit code, output and the end of the errors; code -1 if it can't be started or takes too long."""
    try:
        done = subprocess.run(
            list(argv),
            input=data,
            capture_output=True,
            cwd="/",
            timeout=seconds,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, "", f"no answer within {seconds:.0f} s"
    except OSError as error:
        return -1, "", error.strerror or type(error).__name__
    return done.returncode, done.stdout.decode("utf-8", "replace"), said(done.stderr)


def said(errors: bytes) -> str:
    """The end of what a tool complained of, on one line and without paths."""
    return _PATH.sub("[...]", " ".join(errors.decode("utf-8", "replace").split()))[-SHOWN:]
