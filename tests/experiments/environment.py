"""The experiments' own environment, as a target builds it; kept for the next session in a cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import uv
from filelock import FileLock

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"


def built() -> Path:
    """The environment's folder, built if it is not there."""
    lock = (EXPERIMENTS / "digits" / "requirements.lock").read_bytes()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = ROOT / ".edgetrain" / "cache" / f"test-environment-{python}-{hashlib.sha256(lock).hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock", timeout=600):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            tool = uv.find_uv_bin()
            subprocess.run([tool, "venv", "-q", "--python", sys.executable, str(folder)], check=True, timeout=120)
            install = [tool, "pip", "install", "-q", "--python", str(folder / "bin" / "python")]
            options = ["--compile-bytecode", "--require-hashes", "--only-binary", ":all:", "--no-deps"]
            lock_file = str(EXPERIMENTS / "digits" / "requirements.lock")
            subprocess.run([*install, *options, "-r", lock_file], check=True, timeout=600)
            (folder / "complete").touch()
    return folder
