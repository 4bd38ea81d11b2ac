"""Environments for machines without an index: made on the runner once, of hashed wheels alone, kept as a tar file.

No code of a package runs here: only wheels are taken, which are unpacked. Inside a run the environment lies over
the image's own packages: `lib/` comes first on PYTHONPATH, `bin/` on PATH.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgetrain.core.digest import canonical
from edgetrain.core.errors import Rejected, Transient, Unavailable
from edgetrain.onsite.supervisor.folder import public
from edgetrain.providers.contract import ROOT
from edgetrain.providers.durable import CHUNK, disk, incoming, make_folder
from edgetrain.providers.index import build_environment

# Wheels for glibc 2.28 or later: Debian 10, Ubuntu 20.04, RHEL 8 and what came after.
PLATFORMS = {"linux/amd64": "x86_64-manylinux_2_28", "linux/arm64": "aarch64-manylinux_2_28"}
BUILD_SECONDS = 3600
# Experiments say `python`; an image need not have it.
_PYTHON = b'#!/bin/sh\nexec python3 "$@"\n'
# A script may be longer than a kernel allows an interpreter's path to be, or the image have none at /usr/bin/env.
_SHEBANG = b"#!/bin/sh\n'''exec' python3 \"$0\" \"$@\"\n' '''\n"
_THEIRS = re.compile(rb"#![^\n]*python[^\n]*\n|#!/bin/sh\n'''exec' [^\n]*python[^\n]*\n' '''\n")
# Folders on PYTHONPATH get no `.pth` files read; those of site-packages do.
_START = """\
import sys

sys.path[:] = [entry for entry in sys.path if entry != {start!r}]
this = sys.modules.pop(__name__)
try:
    import sitecustomize  # the image's own
except ImportError:
    sys.modules[__name__] = this
import site

site.addsitedir({lib!r})
"""
_UNREACHABLE = re.compile(rb"(?i)failed to fetch|error sending request|connect|timed out|dns|50[0-9] ")


@dataclass(frozen=True)
class Packed:
    """An environment on the runner's disk: `digest` and `size` are the tar file's."""

    id: str
    path: Path
    digest: str
    size: int

    def parts(self) -> Iterator[bytes]:
        """The tar file's bytes."""
        with self.path.open("rb") as file:
            while data := file.read(CHUNK):
                yield data


def environment_id(requirements: bytes, image: str, python: str, platform: str) -> str:
    """The environment of this lock on the image with this digest, its Python (minor) and platform: 64 digits."""
    lock = hashlib.sha256(requirements).hexdigest()
    key = {"kind": "environment v1", "lock": lock, "image": image, "python": python, "platform": platform}
    return hashlib.sha256(canonical(key)).hexdigest()


def ensure(state: Path, requirements: bytes, image: str, python: str, platform: str) -> Packed:
    """The environment, built unless it is there; one at a time builds the same one. `state` is the site's folder.

    Raises Rejected if the lock can't be installed so, Transient if the index is silent, Unavailable without uv.
    """
    import filelock

    name = environment_id(requirements, image, python, platform)
    folder = state / "environments"
    with disk("building an environment"):
        make_folder(folder)
        with filelock.FileLock(folder / f"{name}.lock", timeout=2 * BUILD_SECONDS):
            found = _known(folder, name)
            if found is None:
                with tempfile.TemporaryDirectory(prefix=f".{name[:12]}-", dir=folder) as scratch:
                    _build(Path(scratch), requirements, python, platform)
                    found = _keep(folder, name, Path(scratch) / "environment")
            return found


def drop(state: Path, name: str) -> None:
    """Remove the runner's copy, if there is one."""
    for suffix in (".json", ".tar"):
        (state / "environments" / f"{name}{suffix}").unlink(missing_ok=True)


def _known(folder: Path, name: str) -> Packed | None:
    """What was kept, if its bytes are still those."""
    path = folder / f"{name}.tar"
    try:
        told = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        with path.open("rb") as file:
            digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, ValueError):
        return None
    return Packed(name, path, digest, path.stat().st_size) if told.get("digest") == digest else None


def _keep(folder: Path, name: str, tree: Path) -> Packed:
    with incoming(folder) as file:
        with os.fdopen(os.dup(file.handle), "wb") as stream:
            _pack(tree, stream)
        with file.path.open("rb") as made:
            digest = "sha256:" + hashlib.file_digest(made, "sha256").hexdigest()
        file.replace(folder / f"{name}.tar")
    with incoming(folder) as file:
        file.write(json.dumps({"digest": digest}).encode())
        file.replace(folder / f"{name}.json")
    return Packed(name, folder / f"{name}.tar", digest, (folder / f"{name}.tar").stat().st_size)


def _build(scratch: Path, requirements: bytes, python: str, platform: str) -> None:
    """Make the folder `environment` in `scratch`."""
    tree, lock = scratch / "environment", scratch / "requirements.lock"
    lib = tree / "lib"
    lib.mkdir(parents=True)
    lock.write_bytes(requirements)
    if requirements.strip():
        _install(scratch, lib, lock, python, platform)
    (lib / ".lock").unlink(missing_ok=True)
    scripts = lib / "bin"
    if scripts.is_dir():
        scripts.rename(tree / "bin")
    (tree / "bin").mkdir(exist_ok=True)
    for script in (tree / "bin").iterdir():
        if script.is_file() and not script.is_symlink():
            _rewrite(script)
    (tree / "bin" / "python").write_bytes(_PYTHON)
    (tree / "bin" / "python").chmod(0o755)
    if any(lib.glob("*.pth")):
        (tree / "start").mkdir()
        inside = f"{ROOT}/environment"
        text = _START.format(start=f"{inside}/start", lib=f"{inside}/lib")
        (tree / "start" / "sitecustomize.py").write_text(text, encoding="utf-8")
    if f"{sys.version_info.major}.{sys.version_info.minor}" == python:
        _compile(lib)


def _install(scratch: Path, lib: Path, lock: Path, python: str, platform: str) -> None:
    import uv

    wanted = PLATFORMS.get(platform)
    if wanted is None:
        raise Rejected(
            f"packages can't be fetched for {platform}",
            reason="PlatformNotServed",
            fix=f"use a machine of {' or '.join(PLATFORMS)}, or an image that has the packages",
        )
    try:
        program = uv.find_uv_bin()
    except FileNotFoundError as error:
        raise Unavailable(
            "uv is not installed",
            reason="PackageMissing",
            fix="install edgetrain anew with what it requires (in a checkout of it: make setup)",
        ) from error
    command = [program, "pip", "install", "--quiet", "--target", str(lib), "--link-mode", "copy", "--no-config"]
    command += ["--python", sys.executable, "--python-version", python, "--python-platform", wanted]
    command += ["--require-hashes", "--only-binary", ":all:", "--no-deps", "-r", str(lock)]
    said = _run(command, scratch)
    if said is not None:
        message = f"the packages could not be fetched for {platform}, Python {python}: {public(said)}"
        if _UNREACHABLE.search(said):
            raise Transient(message, reason="IndexUnreachable", fix="check the runner's way to the package index")
        raise Rejected(message, reason="EnvironmentNotBuilt", fix="run edgetrain lock, and see that wheels exist")


def _compile(lib: Path) -> None:
    """Byte code, which a read-only run can't keep: the same bytes for the same sources, valid wherever they lie.
    With -S no package's code runs."""
    command = [sys.executable, "-I", "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    inside = ["-s", str(lib), "-p", f"{ROOT}/environment/lib"]
    _run([*command, *inside, str(lib)], lib.parent.parent, PYTHONHASHSEED="0")


def _run(command: list[str], folder: Path, **more: str) -> bytes | None:
    """The end of what the command says if it fails, else None."""
    with tempfile.TemporaryFile() as output:
        try:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**build_environment(os.environ), "UV_PYTHON_DOWNLOADS": "never", **more},
                timeout=BUILD_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return b"timed out"
        output.seek(max(0, output.seek(0, os.SEEK_END) - 2**16))
        return output.read() if code else None


def _rewrite(script: Path) -> None:
    """Let the image's Python run it."""
    data = script.read_bytes()
    if found := _THEIRS.match(data):
        script.write_bytes(_SHEBANG + data[found.end() :])


def _pack(tree: Path, stream: object) -> None:
    """The tar file of a folder: the same bytes for the same contents. Only regular files and folders are taken."""
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for path in sorted(tree.rglob("*")):
            entry = tarfile.TarInfo(path.relative_to(tree).as_posix())
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise Rejected(
                    "a package holds a link or something special",
                    reason="EnvironmentNotBuilt",
                    fix="leave it out of the lock",
                )
            if path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
                continue
            entry.size = path.stat().st_size
            entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as content:
                archive.addfile(entry, content)
