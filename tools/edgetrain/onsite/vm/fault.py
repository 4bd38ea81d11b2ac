"""A refusal or failure as it is told to the runner: `kind` is the name of an error class of `core.errors`."""

from __future__ import annotations

import errno
import os

FULL = {errno.ENOSPC, errno.EDQUOT}


class Fault(Exception):
    """Nothing in it is secret, and no name of data."""

    def __init__(self, kind: str, message: str, reason: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.kind, self.message, self.reason, self.fix = kind, message, reason, fix


def of_disk(error: OSError) -> Fault:
    """A disk's failure, without the file's name."""
    message = os.strerror(error.errno) if error.errno else type(error).__name__
    if error.errno in FULL:
        return Fault("Unavailable", message, "StorageFull", "free space on the machine's disk, then apply again")
    if isinstance(error, PermissionError):
        return Fault("Denied", message, "NoPermission", "give the account the right to its work folder")
    return Fault("Unavailable", message, "StorageFault", "check the machine's disk, then apply again")
