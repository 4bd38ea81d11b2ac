"""An input as a folder of hard links to the cache's contents, ready to be mounted read-only."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

from .cache import READ_ONLY, Cache
from .errors import Failure, bad_name
from .index import Index


def view_path(cache: Cache, tree: str) -> Path:
    """Where the view of the tree (hex) is, if it is there."""
    return cache.views / tree


def touch(view: Path) -> bool:
    """Note that the view was used now; False if it is not there."""
    try:
        os.utime(view)
    except FileNotFoundError:
        return False
    return True


def build(cache: Cache, index: Index, tree: str, work: Path) -> Path:
    """Make the view aside, and move it to its place when it is whole and on the disk. Raises Failure, OSError."""
    aside, final = work / "view", view_path(cache, tree)
    aside.mkdir()
    root, made = os.fsencode(aside) + b"/", b""
    for name, digest in index.contents():
        folder = name.rpartition(b"/")[0]
        if folder != made:
            Path(os.fsdecode(root + folder)).mkdir(parents=True, exist_ok=True)
            made = folder
        _link(os.fsencode(cache.blob(digest)), root + name)
    cache.sync()
    os.utime(aside, (time.time(), time.time()))
    try:
        aside.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        touch(final)  # another staging was faster
    return final


def _link(blob: bytes, name: bytes) -> None:
    try:
        os.link(blob, name)
    except FileNotFoundError:
        fix = "apply again: what is lost is fetched again"
        raise Failure("Transient", "CacheDamaged", "a content vanished from the VM's cache", fix) from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise bad_name("is too long for the VM's file system") from None
        if error.errno != errno.EMLINK:  # as many links as the file system allows: this file gets a copy
            raise
        shutil.copyfile(blob, name)
        Path(os.fsdecode(name)).chmod(READ_ONLY)
