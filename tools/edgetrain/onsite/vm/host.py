"""What the machine is: facts that the runner judges."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from ..supervisor.folder import boot

WORDS = {"x86_64": "amd64", "aarch64": "arm64"}


def facts(work: Path) -> dict[str, Any]:
    """Sizes in bytes, `time` in seconds since the epoch; `free` is what the account may still write."""
    machine = platform.machine().lower()
    disk = shutil.disk_usage(work)
    return {
        "work": str(work.resolve()),
        "tools": str(Path(__file__).resolve().parent.parent),
        "time": time.time(),
        "boot": boot(),
        "uid": os.geteuid(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "platform": f"{sys.platform}/{WORDS.get(machine, machine)}",
        "cpus": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disk": disk.total,
        "free": disk.free,
    }
