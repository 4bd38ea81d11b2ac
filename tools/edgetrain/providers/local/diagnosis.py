"""What `edgetrain doctor` looks at on the runner itself: sandbox, Python, room, and what runs shall read."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgetrain.core.errors import NotFound
from edgetrain.core.ports import Check, CheckStatus, DataSource
from edgetrain.core.quantity import human_bytes
from edgetrain.onsite.sandbox import Absent, Sandbox
from edgetrain.providers.diagnosis import tried
from edgetrain.providers.durable import disk
from edgetrain.providers.local import prepare
from edgetrain.providers.local.prepare import FIX

LITTLE = 1 * 2**30
ENOUGH = 5 * 2**30


def diagnose(
    sandbox: Sandbox | Absent,
    allow_unsandboxed: bool,
    state: Path,
    capacity: Mapping[str, Any],
    sources: Sequence[DataSource],
) -> list[Check]:
    """All checks; `sandbox` is what a try inside bubblewrap gave."""
    version = f"Python {prepare.this_python()} on {prepare.this_platform()}"
    return [
        *_sandbox(sandbox, allow_unsandboxed),
        Check("python", CheckStatus.PASS, version),
        *_capacity(capacity),
        tried("state-folder", "the site's state can be written", lambda: _write(state)),
        _room(state),
        *(
            tried("data-readable", f"data input {number} of {len(sources)} is readable", lambda s=source: _read(s))  # type: ignore[misc]
            for number, source in enumerate(sources, 1)
        ),
    ]


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _sandbox(found: Sandbox | Absent, allowed: bool) -> Iterator[Check]:
    if isinstance(found, Absent):
        status = CheckStatus.WARN if allowed else CheckStatus.FAIL
        yield Check("sandbox", status, f"no sandbox: {found.message}", "SandboxMissing", FIX)
        return
    yield Check("sandbox", CheckStatus.PASS, f"{found.program} keeps runs apart")
    for name, held in sorted(found.isolation.items()):
        check = "isolation-" + re.sub("(?=[A-Z])", "-", name).lower()
        if held:
            yield Check(check, CheckStatus.PASS, "it was tried from inside, and holds")
        else:
            what = "it was tried from inside, and does not hold"
            yield Check(check, CheckStatus.FAIL, what, "IsolationIncomplete", FIX)


def _capacity(declared: Mapping[str, Any]) -> Iterator[Check]:
    cpus, memory = os.cpu_count() or 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    fix = "declare no more capacity than the machine has"
    if declared.get("cpus", 0) > cpus:
        what = f"{declared['cpus']} CPUs are declared, and there are {cpus}"
        yield Check("cpus", CheckStatus.FAIL, what, "CapacityTooHigh", fix)
    else:
        yield Check("cpus", CheckStatus.PASS, f"{cpus} CPUs")
    if declared.get("memory", 0) > memory:
        what = f"{human_bytes(declared['memory'])} of memory are declared, and there are {human_bytes(memory)}"
        yield Check("memory", CheckStatus.FAIL, what, "CapacityTooHigh", fix)
    else:
        yield Check("memory", CheckStatus.PASS, f"{human_bytes(memory)} of memory")
    if declared.get("gpus", 0):
        what = "GPUs are declared, and targets of type local give none to their runs"
        yield Check("gpus", CheckStatus.FAIL, what, "GpuNotServed", "use a target of type ssh")


def _room(state: Path) -> Check:
    free = shutil.disk_usage(existing(state)).free
    what = f"{human_bytes(free)} are free for the site's state"
    if free >= ENOUGH:
        return Check("disk", CheckStatus.PASS, what)
    status = CheckStatus.WARN if free >= LITTLE else CheckStatus.FAIL
    return Check("disk", status, what, "DiskFull", "make room: edgetrain gc --delete, or a larger disk")


def _write(state: Path) -> None:
    with disk("writing the site's state"), tempfile.TemporaryFile(dir=existing(state)) as file:
        file.write(b"doctor")
        file.flush()


def _read(source: DataSource) -> None:
    # Its own name is the manifest's; what lies in it is never told.
    if not os.access(source.location, os.R_OK):
        raise NotFound(
            "the data is not there, or not readable by this user",
            reason="DataNotReadable",
            fix="see the datastore's own checks",
        )
