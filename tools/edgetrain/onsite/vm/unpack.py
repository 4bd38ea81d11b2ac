"""Takes a tar stream of code in: folders, regular files and symbolic links, nothing outside the folder given."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path
from typing import BinaryIO

from .fault import Fault

MAX_MEMBERS = 100_000
MAX_BYTES = 8 * 2**30


def unpack(stream: BinaryIO, folder: Path) -> None:
    """Fill the folder, which must be new. Links come last, so that nothing is written through one.

    Raises Fault for a name that leads outside, anything special, too many or too large members.
    """
    links: list[tuple[Path, str]] = []
    count = size = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                count, size = count + 1, size + member.size
                if count > MAX_MEMBERS or size > MAX_BYTES:
                    raise refused("it is too large")
                parts = member.name.split("/")
                if any(part in ("", ".", "..") for part in parts):
                    raise refused("a name leads outside")
                path = folder.joinpath(*parts)
                if member.isdir():
                    path.mkdir()
                    path.chmod(0o755)
                elif member.issym():
                    links.append((path, member.linkname))
                elif member.isreg():
                    content = archive.extractfile(member)
                    assert content is not None
                    mode = 0o755 if member.mode & 0o100 else 0o644
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                    with os.fdopen(os.open(path, flags, mode), "wb") as file:
                        os.fchmod(file.fileno(), mode)
                        shutil.copyfileobj(content, file, 2**20)
                else:
                    raise refused("it holds something special")
    except (tarfile.TarError, EOFError) as error:
        # Also what a link that was cut in the middle leaves.
        raise Fault(
            "Transient", f"the code came in incomplete ({type(error).__name__})", "HostUnreachable"
        ) from None
    for path, target in links:
        path.symlink_to(target)


def refused(why: str) -> Fault:
    """The code can't be taken."""
    return Fault("Rejected", f"the code was refused: {why}", "InvalidCode", "look at the experiment's folder")
