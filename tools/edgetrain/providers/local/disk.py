"""A run's folder on disk: made to last, and removed whatever a script left in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def remove(path: Path) -> None:
    """Remove a folder that a script may have filled: with deep nesting, or folders without rights."""
    arguments = ["--", str(path)]
    if path.is_dir() and not path.is_symlink():
        subprocess.run(["chmod", "-R", "u+rwX", *arguments], capture_output=True, check=False)
    done = subprocess.run(["rm", "-rf", *arguments], capture_output=True, check=False)
    if done.returncode != 0:
        raise OSError(f"could not remove {path.name}")


def sync(path: Path) -> None:
    """Make the file's bytes survive a power cut: a start that is done again takes the folder as it is."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
