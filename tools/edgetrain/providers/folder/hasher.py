"""Looks at the files of folders; `looking` runs it as a program, for Python does one thing at a time in a process.

Its standard input holds requests, each its length and a list of groups as marshal writes them; each is answered so,
by what `look` tells of each group. Arguments are the handle of the root, and the time in nanoseconds after which
what was written can change without a new time stamp. Follows no link. Standard library only.
"""

import hashlib
import marshal
import os
import stat
import struct
import sys

LENGTH = struct.Struct("<I")
# What must be equal for a digest to hold: inode, size, and the times of the last write and the last change.
FACTS = struct.Struct("<4Q")
DIGEST = 32
# The facts of no file: its digest is not known.
UNKNOWN = b"\xff" * FACTS.size
# A process reads a file of this size at once. Larger ones are for threads, which hash side by side.
SMALL = 2**20
# What became of a file. TOLD: there is its digest; FRESH: too, but it was written just now, and is not remembered.
TOLD, FRESH, LARGE, CHANGED, FAILED = range(5)

# A folder below the root, what stands before its names in the tree, some of its names; and what is known of each,
# facts and digests, each side by side; or nothing at all.
Group = tuple[bytes, bytes, list[bytes], bytes, bytes]
# The state, facts and digest of each file, each side by side; the bytes of all these files, and of those that were
# read; and, if all digests are there, what the digest of a tree is made over.
Told = tuple[bytes, bytes, bytes, int, int, bytes]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOTHING = bytes(DIGEST)
_64 = 2**64 - 1


def look(
    folder: int, prefix: bytes, names: list[bytes], known: bytes, digests: bytes, fresh: int, small: int = SMALL
) -> Told:
    """What became of some files of the folder: what is known, and unchanged since, is not opened; what is larger
    than `small` is not read."""
    found = []
    for at, name in enumerate(names):
        before = known[at * FACTS.size : (at + 1) * FACTS.size]
        if before and before != UNKNOWN and _is_still(name, folder, before, fresh):
            found.append((TOLD, before, digests[at * DIGEST : (at + 1) * DIGEST], 0))
        else:
            found.append(read(name, folder, fresh, small))
    states, facts, told, counts = zip(*found, strict=True)
    tree = b""
    if max(states) <= FRESH:
        tree = b"".join([prefix + name + b"\0" + digest for name, digest in zip(names, told, strict=True)])
    side_by_side = b"".join(facts)
    size = sum(one[1] for one in FACTS.iter_unpack(side_by_side) if one[1] != _64)
    return bytes(states), side_by_side, b"".join(told), size, sum(counts), tree


def facts_of(status: os.stat_result) -> bytes:
    """What must be equal. Some times are before 1970, or after 2262."""
    return FACTS.pack(status.st_ino, status.st_size, status.st_mtime_ns & _64, status.st_ctime_ns & _64)


def _is_still(name: bytes, folder: int, before: bytes, fresh: int) -> bool:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    if status.st_mtime_ns > fresh or status.st_ctime_ns > fresh:
        return False
    return facts_of(status) == before and stat.S_ISREG(status.st_mode)


def read(name: bytes, folder: int, fresh: int, small: int) -> tuple[int, bytes, bytes, int]:
    """The state, facts and digest of a file, which must be the same before and after it is read; the bytes read."""
    handle = -1
    try:
        handle = os.open(name, _FILE, dir_fd=folder)
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            return FAILED, UNKNOWN, _NOTHING, 0
        size, written = before.st_size, before.st_mtime_ns
        if size > small:
            return LARGE, facts_of(before), _NOTHING, 0
        data = os.read(handle, size + 1)
        after = os.fstat(handle)
    except OSError:
        return FAILED, UNKNOWN, _NOTHING, 0
    finally:
        if handle >= 0:
            os.close(handle)
    if after.st_size != size or after.st_mtime_ns != written:
        return CHANGED, UNKNOWN, _NOTHING, 0
    if len(data) != size:
        return FAILED, UNKNOWN, _NOTHING, 0
    state = FRESH if written > fresh or before.st_ctime_ns > fresh else TOLD
    return state, facts_of(before), hashlib.sha256(data).digest(), size


class Below:
    """Folders below a root, reached step by step from the one before: they come side by side."""

    def __init__(self, root: int) -> None:
        self._parts: list[bytes] = []
        self._handles = [root]

    def open(self, place: bytes) -> int:
        """The folder's handle, which is closed with the next one."""
        parts = place.split(b"/") if place else []
        same = 0
        while same < min(len(parts), len(self._parts)) and parts[same] == self._parts[same]:
            same += 1
        while len(self._parts) > same:
            self._parts.pop()
            os.close(self._handles.pop())
        for part in parts[same:]:
            self._handles.append(os.open(part, _FOLDER, dir_fd=self._handles[-1]))
            self._parts.append(part)
        return self._handles[-1]


def main() -> None:
    """Answer until there are no more requests."""
    below, fresh = Below(int(sys.argv[1])), int(sys.argv[2])
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(LENGTH.size)) == LENGTH.size:
        answers: list[Told] = []
        data = source.read(LENGTH.unpack(head)[0])
        for place, prefix, names, known, digests in marshal.loads(data):  # noqa: S302 (our parent wrote it)
            try:
                answers.append(look(below.open(place), prefix, names, known, digests, fresh))
            except OSError:
                count = len(names)
                answers.append((bytes([FAILED]) * count, UNKNOWN * count, _NOTHING * count, 0, 0, b""))
        data = marshal.dumps(answers)
        sink.write(LENGTH.pack(len(data)) + data)
        sink.flush()


if __name__ == "__main__":
    main()
