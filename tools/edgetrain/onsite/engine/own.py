"""A small image of the machine's own Python, so that containers can be tried before any base image is there."""

from __future__ import annotations

import contextlib  # noqa: F401 - with those below, what the launcher needs
import ctypes  # noqa: F401
import hashlib
import io
import json  # noqa: F401
import os
import resource  # noqa: F401
import signal  # noqa: F401
import socket  # noqa: F401
import sys
import tarfile
import threading  # noqa: F401
from collections.abc import Iterator
from pathlib import Path

from ..vm.fault import Fault
from .call import call
from .images import present

NAME = "edgetrain.invalid/own"
TOP = ("bin", "lib", "lib32", "lib64", "sbin")
FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
IMPORT_SECONDS = 120.0


def own(command: str) -> str:
    """The image's id; it is made unless it is there. Raises Fault if the engine does not take it."""
    files = {name: Path(name) for name in sorted({*_libraries(), *_modules(), os.path.realpath(sys.executable)})}
    files |= _names(set(files))
    facts = [(name, str(path.stat().st_size), str(path.stat().st_mtime_ns)) for name, path in files.items()]
    reference = f"{NAME}:{hashlib.sha256(repr(sorted(facts)).encode()).hexdigest()[:32]}"
    found = present(command, [reference])
    if found:
        return found
    code, _, errors = call([command, "import", "-", reference], _packed(files), IMPORT_SECONDS)
    found = present(command, [reference]) if code == 0 else ""
    if not found:
        fix = "see that the engine works for this account, and that its disk has room"
        raise Fault("Unavailable", f"the engine takes no image: {errors}", "ImageNotLoaded", fix)
    return found


def _libraries() -> Iterator[str]:
    """All shared objects that this process has loaded."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        name = line.split(maxsplit=5)[-1]
        if name.startswith("/") and ".so" in name and Path(name).is_file():
            yield name


def _modules() -> Iterator[str]:
    """The standard library as far as it is loaded, and all encodings."""
    library = str(Path(os.__file__).parent)
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None) or ""
        if name.startswith(library) and name.endswith(".py"):
            yield name
    for path in Path(library, "encodings").glob("*.py"):
        yield str(path)


def _names(files: set[str]) -> dict[str, Path]:
    """Further names of these files, by which programs find them."""
    found = {}
    for folder in {*FOLDERS, *(str(Path(name).parent) for name in files if ".so" in name)}:
        for entry in os.scandir(folder) if Path(folder).is_dir() else ():
            if entry.is_symlink() and os.path.realpath(entry.path) in files:
                found[entry.path] = Path(os.path.realpath(entry.path))
    return found


def _packed(files: dict[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        links = {name: str(Path("/", name).readlink()) for name in TOP if Path("/", name).is_symlink()}
        python = os.path.realpath(sys.executable)
        if python != "/usr/bin/python3":
            links["usr/bin/python3"] = python
        for name, target in links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
        # Below the top's links, where they lead.
        places = {str(Path(name).parent.resolve() / Path(name).name): path for name, path in files.items()}
        for place, path in places.items():
            data = path.read_bytes()
            entry = tarfile.TarInfo(place.lstrip("/"))
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
        for name in ("edgetrain", "tmp", "proc", "sys", "dev", "etc", "run"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
    return buffer.getvalue()
