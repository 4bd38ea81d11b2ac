"""Environments of packages, built on the emulator's machine for the machine that runs them, and kept by digest.

This stands for the service's image builds. There is no conda: packages come from the machine's own package index
by `uv`, as wheels, or as sources that build without a compiler.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BUILD_SECONDS = 3600
# Where the client's own variables name pip's index, uv is told the same.
_PIP = {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL": "UV_INDEX", "PIP_FIND_LINKS": "UV_FIND_LINKS"}
# A script's first line may name the build's interpreter: whatever `python` is on the PATH of the run is right.
_SHEBANG = b"#!/bin/sh\n'''exec' python \"$0\" \"$@\"\n' '''\n"
_THEIRS = re.compile(rb"#![^\n]*python[^\n]*\n|#!/bin/sh\n'''exec' [^\n]*python[^\n]*\n' '''\n")


class NotBuilt(Exception):
    """The environment could not be built; the text is the end of what the build said."""


@dataclass(frozen=True)
class Packed:
    """A built environment: a compressed tar file with `lib` (for PYTHONPATH) and `bin`."""

    digest: str
    path: Path


def platform_of(machine: str, libc: str) -> str:
    """The platform whose wheels run there, by the machine's name and the version of its C library."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    parts = [int(part) for part in libc.split(".")[:2] if part.isdigit()]
    return f"{machine}-manylinux_2_28" if parts >= [2, 28] else f"{machine}-manylinux2014"


def ensure(
    cache: Path, requirements: Sequence[str], python: str, platform: str, environ: Mapping[str, str]
) -> Packed:
    """The environment of these requirements, built unless it is kept; one at a time builds it. Raises NotBuilt.

    `environ` is the builder's: it says by what way packages are fetched."""
    lines = sorted({line for line in requirements if line})
    key = json.dumps({"environment": 1, "packages": lines, "python": python, "platform": platform}, sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = cache / f"{digest}.tgz"
    with _locked(cache / f"{digest}.lock"):
        if not path.exists():
            with tempfile.TemporaryDirectory(prefix=f".{digest[:12]}-", dir=cache) as scratch:
                _build(Path(scratch), lines, python, platform, environ)
                _pack(Path(scratch) / "tree", Path(scratch) / "packed")
                (Path(scratch) / "packed").rename(path)
    return Packed(digest, path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(scratch: Path, lines: list[str], python: str, platform: str, environ: Mapping[str, str]) -> None:
    lib = scratch / "tree" / "lib"
    lib.mkdir(parents=True)
    if lines:
        wanted = scratch / "requirements.txt"
        wanted.write_text("\n".join(lines) + "\n", encoding="utf-8")
        _install(scratch, lib, wanted, python, platform, environ)
    (lib / ".lock").unlink(missing_ok=True)
    bins = scratch / "tree" / "bin"
    (lib / "bin").rename(bins) if (lib / "bin").is_dir() else bins.mkdir()
    for script in bins.iterdir():
        if script.is_file() and (match := _THEIRS.match(data := script.read_bytes())):
            script.write_bytes(_SHEBANG + data[match.end() :])


def _install(
    scratch: Path, lib: Path, wanted: Path, python: str, platform: str, environ: Mapping[str, str]
) -> None:
    import uv

    try:
        program = uv.find_uv_bin()
    except FileNotFoundError as error:
        raise NotBuilt("uv is not installed beside the emulator") from error
    command = [program, "pip", "install", "--quiet", "--target", str(lib), "--link-mode", "copy", "--no-config"]
    command += ["--python", sys.executable, "--python-version", python, "--python-platform", platform]
    told = {ours: environ[theirs] for theirs, ours in _PIP.items() if theirs in environ}
    settings = {**told, **environ, "UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "true"}
    try:
        done = subprocess.run(
            [*command, "-r", str(wanted)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=scratch,
            env=settings,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotBuilt("the build took too long") from None
    if done.returncode != 0:
        raise NotBuilt(done.stdout[-4000:].decode("utf-8", "replace").strip())


def _pack(tree: Path, path: Path) -> None:
    def regular(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return entry if entry.isfile() or entry.isdir() else None

    with tarfile.open(path, "w:gz", compresslevel=1, format=tarfile.PAX_FORMAT, dereference=True) as archive:
        for name in ("bin", "lib"):
            archive.add(tree / name, arcname=name, filter=regular)
