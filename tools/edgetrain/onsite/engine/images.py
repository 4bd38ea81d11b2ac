"""Images on this machine, each named by the digest of its content."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from typing import BinaryIO

from ..vm.fault import Fault
from .call import SECONDS, call, said

CHUNK = 2**20
LOAD_SECONDS = 600.0


def present(command: str, ids: Sequence[str]) -> str:
    """The first of these ids that the engine has; empty if none."""
    for one in ids:
        code, text, _ = call([command, "image", "inspect", "--format", "{{.Id}}", one])
        if code == 0:
            return _full(text)
    return ""


def _full(text: str) -> str:
    found = text.strip()
    return found if found.startswith("sha256:") else "sha256:" + found


def refused(why: str) -> Fault:
    """The engine did not take an image."""
    fix = "see that the machine's disk has room and that the engine is up, then apply again"
    return Fault("Unavailable", f"the engine did not take the image: {why}", "ImageNotLoaded", fix)


def load(command: str, ids: Sequence[str], reference: str, stream: BinaryIO) -> str:
    """Take the image from `stream`, a tar archive, and answer its id, one of `ids`.

    Raises Fault if the engine does not take it, or if what it took is another image, which is removed."""
    process = subprocess.Popen(
        [command, "load", "--quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        shutil.copyfileobj(stream, process.stdin, CHUNK)
    except BrokenPipeError:  # it refused before the end: it tells why
        while stream.read(CHUNK):
            continue
    try:
        _, errors = process.communicate(timeout=LOAD_SECONDS)
    except (subprocess.TimeoutExpired, BrokenPipeError):
        process.kill()
        process.wait(SECONDS)
        raise refused("it gave no reason") from None
    if process.returncode != 0:
        raise refused(said(errors) or "it gave no reason")
    found = present(command, [reference])
    if found not in ids:
        call([command, "image", "rm", "--force", reference])
        message = "the image that came in is not the one that was to come"
        raise Fault("Rejected", message, "ImageChanged", "see what is on the way, and what else loads images there")
    return found
