"""How a staging fails: with a reason and a fix, and never with the name of a file of the data or a credential."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

FULL = {errno.ENOSPC, errno.EDQUOT}


class Failure(Exception):
    """`kind` is one of Transient (the only one that is retried), Denied, NotFound, Rejected, Unavailable."""

    def __init__(self, kind: str, reason: str, message: str, fix: str) -> None:
        super().__init__(message)
        self.kind, self.reason, self.message, self.fix = kind, reason, message, fix

    def answer(self) -> dict[str, Any]:
        """The last line of a failed request."""
        told = {"kind": self.kind, "reason": self.reason, "message": self.message, "fix": self.fix}
        return {"error": {**told, "transient": self.kind == "Transient"}}


class Passing(Exception):
    """One try failed and another may succeed, after `pause` seconds if the server said so."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


class Stopped(Exception):
    """Another thread failed: this one ends too."""


class NoRoom(Failure):
    """The disk lacks `short` bytes for what is to come."""

    def __init__(self, short: int, message: str) -> None:
        fix = "free space on the VM's cache disk, or take a larger one; then apply again"
        super().__init__("Unavailable", "StorageFull", message, fix)
        self.short = short


def changed(what: str) -> Failure:
    """The data is not what was listed or expected."""
    fix = "let the data settle; then let data watch propose its new digest"
    return Failure("Rejected", "DataChanged", f"the data {what}", fix)


def bad_request(what: str) -> Failure:
    """The request itself is wrong: a fault of the runner's side."""
    return Failure("Rejected", "BadRequest", what, "use the same version of edgetrain on both sides")


def bad_name(what: str) -> Failure:
    """A name that can't be a file's."""
    return Failure("Rejected", "InvalidName", f"a name in the data {what}", "rename it in the store")


def full() -> Failure:
    """No room on the cache's disk."""
    fix = "free space on the VM's cache disk, then apply again"
    return Failure("Unavailable", "StorageFull", "the VM's cache disk is full", fix)


def fault(error: Exception) -> Failure:
    """The failure behind an exception of the disk or of the cache's database; its text may hold names: not told."""
    if isinstance(error, OSError):
        if error.errno in FULL:
            return full()
        cause = os.strerror(error.errno) if error.errno else type(error).__name__
        fix = "check the cache folder on the VM, its disk, and the user's right to it"
        return Failure("Unavailable", "StorageFault", f"the VM's cache disk: {cause}", fix)
    if isinstance(error, sqlite3.Error):
        if "full" in str(error):
            return full()
        fix = "apply again; if it stays so, delete the cache folder on the VM"
        return Failure("Unavailable", "StorageFault", "the cache's database on the VM can't be used", fix)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
    fix = "report it to the maintainers of edgetrain"
    return Failure("Rejected", "Internal", f"{type(error).__name__}{where} in the staging program", fix)
