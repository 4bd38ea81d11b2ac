"""Hashes small files for `hashing.SmallFiles`, as a process of its own: Python does one thing at a time in each.

Standard input holds batches: a count, then for each file its inode, size, time of writing, and path below the
root, whose handle is the first argument. Each file is answered by a byte 0 and its SHA-256, or by a byte 1 and
zeros where this process can't tell: its parent looks then, and says why. Follows no link. Standard library only.
"""

import hashlib
import os
import stat
import struct
import sys

COUNT = struct.Struct("<I")
FACTS = struct.Struct("<QQqH")
ANSWER = 33
FAILED = b"\1" + bytes(32)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Folder:
    """The folder of the file before: files of one folder come together."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.path: bytes | None = None
        self.handle = -1

    def open(self, path: bytes) -> int:
        """Its handle, reached step by step from the root."""
        if path != self.path:
            self.close()
            at = os.dup(self.root)
            try:
                for part in path.split(b"/") if path else ():
                    inner = os.open(part, _FOLDER, dir_fd=at)
                    os.close(at)
                    at = inner
            except OSError:
                os.close(at)
                raise
            self.path, self.handle = path, at
        return self.handle

    def close(self) -> None:
        """Forget it."""
        if self.path is not None:
            os.close(self.handle)
            self.path = None


def main() -> None:
    """Answer until there are no more batches."""
    folder, source, sink = Folder(int(sys.argv[1])), sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(COUNT.size)) == COUNT.size:
        answers = []
        for _ in range(COUNT.unpack(head)[0]):
            inode, size, written, length = FACTS.unpack(source.read(FACTS.size))
            try:
                answers.append(answer(folder, source.read(length), (inode, size, written)))
            except OSError:
                answers.append(FAILED)
        sink.write(b"".join(answers))
        sink.flush()


def answer(folder: Folder, path: bytes, facts: tuple[int, int, int]) -> bytes:
    """The answer for one file, which must be what the parent saw, before and after it is read."""
    above, _, name = path.rpartition(b"/")
    handle = os.open(name, _FILE, dir_fd=folder.open(above))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return FAILED
        data = os.read(handle, facts[1] + 1)
        after = os.fstat(handle)
    finally:
        os.close(handle)
    if len(data) != facts[1] or (after.st_ino, after.st_size, after.st_mtime_ns) != facts:
        return FAILED
    return b"\0" + hashlib.sha256(data).digest()


if __name__ == "__main__":
    main()
