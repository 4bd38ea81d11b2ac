"""Brings these programs to the machine: a script of its own, which the runner sends ahead of them.

Started as `python3 -I -c 'exec(first bytes of stdin)' SIZE WORK DIGEST`; what follows is a tar file with this
sha256. Programs of other versions go a day after they were last used (see `Machine.host`), unless a run that is
held here names them; a runner that still has that version brings them again.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
import sys
import tarfile
import time
from pathlib import Path

MOST = 16 * 2**20
DAY = 86400
UNSAFE, DAMAGED, FORBIDDEN = 95, 94, 93


def deploy(work: Path, digest: str) -> None:
    """Make `<work>/tools/<digest>`, whole or not at all."""
    os.umask(0o077)
    work.mkdir(parents=True, exist_ok=True)
    found = work.lstat()
    if work.is_symlink() or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        sys.exit(UNSAFE)
    tools = work / "tools"
    tools.mkdir(exist_ok=True)
    data = sys.stdin.buffer.read(MOST)
    if hashlib.sha256(data).hexdigest() != digest:
        sys.exit(DAMAGED)
    # Read in containers by a user without rights; the work folder above lets nobody else of this machine in.
    os.umask(0o022)
    fresh = tools / (".new-" + secrets.token_hex(8))
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(fresh)  # noqa: S202 - its digest is the one that the runner asked for
        os.sync()
        try:
            fresh.rename(tools / digest)
        except OSError:
            if not (tools / digest).is_dir():
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    sweep(work, digest)


def sweep(work: Path, digest: str) -> None:
    """Remove the programs that nothing here uses any more; what can't be looked at stays."""
    try:
        named = b"".join(spec.read_bytes() for spec in (work / "runs").glob("*/spec.json"))
        for old in list((work / "tools").iterdir()):
            if old.name != digest and old.name.encode() not in named and time.time() - old.stat().st_mtime > DAY:
                shutil.rmtree(old, ignore_errors=True)
    except OSError:  # another runner clears up, too
        return


try:
    deploy(Path(sys.argv[2]).expanduser(), sys.argv[3])
except PermissionError:
    sys.exit(FORBIDDEN)
