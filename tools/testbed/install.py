"""Installs Azurite, pinned by hashes, into the cache folder. Needs node and npm."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PINNED = Path(__file__).with_name("npm")


def azurite_folder() -> Path:
    """Where the pinned Azurite lies once it is installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgetrain-testbed"
    lock = hashlib.sha256((PINNED / "package-lock.json").read_bytes()).hexdigest()
    return cache / f"azurite-{lock[:12]}"


def main() -> int:
    """Ensure that it is installed; answer an exit status."""
    target = azurite_folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "azurite.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            return 0
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            print("node and npm are not on this machine; Azurite is not installed", file=sys.stderr)
            return 1
        # Made beside its place and renamed: an interrupted installation is never taken for a whole one.
        with tempfile.TemporaryDirectory(
            dir=target.parent, prefix="azurite-new-", ignore_cleanup_errors=True
        ) as folder:
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(PINNED / name, Path(folder, name))
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
            done = subprocess.run(command, cwd=folder, check=False)
            if done.returncode != 0:
                print("npm ci failed; Azurite is not installed", file=sys.stderr)
                return 1
            Path(folder).rename(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
