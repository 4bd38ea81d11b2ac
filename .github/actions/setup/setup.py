"""Puts the edgetrain of this checkout on the path of a job; its packages, pinned by hash, stay in the tool cache.

Standard library only. What is in the cache is named by its content and never changed, so jobs of different commits,
and two at once, do not meet; what a killed one began is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[2] / "tools" / "edgetrain"
LOCKS = {"": HERE / "requirements.lock", "azureml": HERE / "requirements-azureml.lock"}
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install")
PINNED = ("--require-hashes", "--only-binary", ":all:", "--no-deps")
ENTRY = """\
import sys

sys.path.insert(0, {folder!r})
from edgetrain.__main__ import main

sys.exit(main())
"""


class Refused(Exception):
    """What is wrong, and what to do, in one line."""


def main() -> None:
    """Make what is missing, and tell the job's later steps."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise Refused(f"edgetrain needs Python 3.11 to 3.13; this runner's python3 is {sys.version.split()[0]}")
    extras = os.environ.get("EXTRAS", "")
    if extras not in LOCKS:
        raise Refused("`extras` is empty or `azureml`")
    cache = Path(os.environ.get("RUNNER_TOOL_CACHE") or Path.home() / ".cache") / "edgetrain"
    cache.mkdir(parents=True, exist_ok=True)
    packages = environment(cache, LOCKS[extras])
    programs = code(cache, packages) / "bin"
    with Path(os.environ["GITHUB_PATH"]).open("a", encoding="utf-8") as path:
        path.write(f"{programs}\n")
    print(f"edgetrain of {programs.parent.name} with {packages.name}")


def environment(cache: Path, lock: Path) -> Path:
    """The virtual environment with exactly the lock's packages. The file `.ready` beside it is written last."""
    version = "{}.{}".format(*sys.version_info)
    key = hashlib.sha256(lock.read_bytes() + version.encode()).hexdigest()
    folder, ready = cache / f"packages-{key}", cache / f"packages-{key}.ready"
    if ready.exists():
        return folder
    with held(cache / f"packages-{key}.lock"):
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)
            try:
                venv.create(folder, with_pip=True, symlinks=True)
                run(folder / "bin" / "python", *PIP, *PINNED, "--requirement", str(lock))
            except (OSError, subprocess.CalledProcessError) as error:
                raise Refused(f"the packages could not be installed: {error}; is python3-venv there?") from error
            ready.touch()
    return folder


def code(cache: Path, packages: Path) -> Path:
    """A copy of this checkout's package with a program that starts it: the checkout goes with the job."""
    files = [file for file in sorted(PACKAGE.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    digest = hashlib.sha256(packages.name.encode())
    for file in files:
        data = file.read_bytes()
        digest.update(f"\0{file.relative_to(PACKAGE).as_posix()}\0{len(data)}\0".encode() + data)
    folder = cache / f"code-{digest.hexdigest()}"
    if folder.exists():
        return folder
    made = Path(tempfile.mkdtemp(dir=cache, prefix=".code-"))
    try:
        for file in files:
            copy = made / "edgetrain" / file.relative_to(PACKAGE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        (made / "entry.py").write_text(ENTRY.format(folder=str(folder)), encoding="utf-8")
        (made / "bin").mkdir()
        program = made / "bin" / "edgetrain"
        start = shlex.join([str(packages / "bin" / "python"), "-I", str(folder / "entry.py")])
        program.write_text(f'#!/bin/sh\nexec {start} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        made.chmod(0o755)
        made.rename(folder)
    except OSError:
        if not folder.exists():  # else another job was faster, with the same
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def run(*command: str | Path) -> None:
    """Run it, in an isolated Python; what it says goes to the log."""
    subprocess.run([command[0], "-I", *command[1:]], check=True)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """One process at a time; the system lets go when it dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        print(f"::error title=edgetrain::{error}")
        sys.exit(1)
