"""The limited process: scripts on standard input, findings on standard output, one JSON line a script.

A script is a header line `{"kind": ..., "size": ...}` and its bytes. Limits hold before the first is read.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable

from . import lock, notebook, python, shell
from .finding import Finding, unreadable

MEMORY = 1 * 2**30
SECONDS = 20
OUTPUT = 32 * 2**20
SCANS: dict[str, Callable[[bytes], list[Finding]]] = {
    "python": python.scan,
    "shell": shell.scan,
    "notebook": notebook.scan,
    "lock": lock.scan,
}


def limit() -> None:
    """No large memory, no files to write but the answer, no other process, no core dump."""
    for kind, bound in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, OUTPUT),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_NPROC, 0),
    ):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (bound, bound if hard == resource.RLIM_INFINITY else min(bound, hard)))


def allow_more_time() -> None:
    """The next script has `SECONDS` of CPU; one that takes longer ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + SECONDS, hard))


def main() -> None:
    """Answer for every script, in order."""
    limit()
    source, sink = sys.stdin.buffer, sys.stdout
    while header := source.readline():
        facts = json.loads(header)
        data = source.read(facts["size"])
        allow_more_time()
        try:
            found = SCANS[facts["kind"]](data)
        except (RecursionError, MemoryError) as error:
            found = unreadable(f"it can't be looked through: {type(error).__name__}")
        sink.write(json.dumps([[f.line, f.column, f.code, f.what] for f in found]) + "\n")
        sink.flush()
