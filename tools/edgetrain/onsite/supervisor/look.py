"""A look at what a run does: its processes, as /proc tells them, and what it has written."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

MAX_DEPTH = 32
MAX_WAITING = 500


class Process:
    """One process as /proc tells it: `memory` in bytes, `cpu` in seconds, `inner` its id in its own namespace."""

    def __init__(self, pid: int) -> None:
        folder = Path("/proc") / str(pid)
        self.pid = pid
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        self.parent = int(fields[1])
        self.cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        status = (folder / "status").read_text(errors="replace").splitlines()
        facts = dict(line.split(":\t", 1) for line in status if ":\t" in line)
        self.threads = int(facts.get("Threads", "1"))
        self.memory = sum(int(facts.get(name, "0 kB").split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))
        spaces = facts.get("NSpid", "").split()
        self.inner = int(spaces[-1]) if len(spaces) > 1 else None


def below(root: int) -> list[Process]:
    """All processes that descend from `root`."""
    found: dict[int, list[Process]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it may be gone meanwhile
                process = Process(int(entry.name))
                found.setdefault(process.parent, []).append(process)
    result: list[Process] = []
    waiting = [root]
    while waiting:
        children = found.pop(waiting.pop(), [])
        result += children
        waiting += [child.pid for child in children]
    return result


def measure(folder: Path, max_files: int) -> int:
    """Bytes below `folder`, following no link. OverflowError if there are too many entries, or too deep."""
    size = count = 0
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    waiting = [(os.open(folder, flags), 0)]
    try:
        while waiting:
            handle, depth = waiting.pop()
            try:
                for name in [entry.name for entry in os.scandir(handle)]:
                    count += 1
                    if count > max_files or len(waiting) > MAX_WAITING:
                        raise OverflowError(f"more than {max_files} files, or too many folders")
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # changed meanwhile
                        entry = os.stat(name, dir_fd=handle, follow_symlinks=False)
                        if not stat.S_ISDIR(entry.st_mode):
                            size += max(entry.st_size, entry.st_blocks * 512)
                        elif depth >= MAX_DEPTH:
                            raise OverflowError(f"folders nested deeper than {MAX_DEPTH}")
                        else:
                            waiting.append((os.open(name, flags, dir_fd=handle), depth + 1))
            except PermissionError:
                raise OverflowError("a folder that can't be read") from None
            finally:
                os.close(handle)
    finally:
        for handle, _ in waiting:
            os.close(handle)
    return size
