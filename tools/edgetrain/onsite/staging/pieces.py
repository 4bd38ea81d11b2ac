"""A large file that arrives in pieces: over several connections at once, and over several tries.

The data lies in `partial/<key>.data`, and which pieces are there in `partial/<key>.pieces`; the key stands for
location, name, size and ETag, so pieces of two versions never mix. What a killed process wrote is in the kernel's
hands; after a crash of the whole machine it may not be, so pieces count only within one boot.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

from .cache import READ_ONLY

PIECE = 16 * 2**20
CHUNK = 2**20
BOOT = Path("/proc/sys/kernel/random/boot_id")
OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Pieces:
    """One file under way. Threads write different pieces."""

    def __init__(self, folder: Path, key: str, size: int) -> None:
        self.size, self.count = size, -(-size // PIECE)
        self.path, self.marks_path = folder / f"{key}.data", folder / f"{key}.pieces"
        self.head = f"{boot()} {PIECE} {size}\n".encode()
        self.file = os.open(self.path, OPEN, 0o600)
        self.marks = os.open(self.marks_path, OPEN, 0o600)
        self.there = self._resume()
        self.claimed = bytearray(self.there)
        self.hasher, self.hashed, self.hashing = hashlib.sha256(), 0, False
        self.lock = threading.Lock()

    def _resume(self) -> bytearray:
        length = len(self.head) + self.count
        found = os.pread(self.marks, length + 1, 0)
        if len(found) == length and found.startswith(self.head) and os.fstat(self.file).st_size == self.size:
            return bytearray(found[len(self.head) :])
        os.ftruncate(self.marks, 0)
        os.ftruncate(self.file, 0)
        os.ftruncate(self.file, self.size)
        os.pwrite(self.marks, self.head + b"\0" * self.count, 0)
        return bytearray(self.count)

    def claim(self) -> int | None:
        """The first piece that is still to come and that nobody else took, for the caller to fetch."""
        with self.lock:
            number = self.claimed.find(0)
            if number < 0:
                return None
            self.claimed[number] = 1
            return number

    def gap(self) -> int:
        """Where the first piece begins that is still to come; the size if none is."""
        number = self.there.find(0)
        return self.size if number < 0 else self.span(number)[0]

    def span(self, number: int) -> tuple[int, int]:
        """Where the piece begins, and where the next would."""
        return number * PIECE, min(self.size, (number + 1) * PIECE)

    def begin(self, number: int) -> bool:
        """Whether the piece is the next to be hashed: then `write` hashes it, and nothing is read back."""
        with self.lock:
            mine = not self.hashing and self.hashed == number
            self.hashing = self.hashing or mine
            return mine

    def write(self, data: memoryview, position: int, hashing: bool) -> None:
        """Write bytes of a piece; `hashing` as `begin` said. A piece's bytes come in order, once each."""
        if hashing:
            self.hasher.update(data)
        while data:
            count = os.pwrite(self.file, data, position)
            data, position = data[count:], position + count

    def done(self, number: int, hashing: bool) -> str | None:
        """The piece is written whole. Answers as `hash_on`."""
        os.pwrite(self.marks, b"\1", len(self.head) + number)
        with self.lock:
            self.there[number] = 1
            if hashing:
                self.hashed, self.hashing = self.hashed + 1, False
        return self.hash_on()

    def hash_on(self) -> str | None:
        """Hash the pieces that are there without a gap, read back while the kernel still has them in memory.

        One thread hashes; the others go on fetching. The one that hashes the last piece gets the digest (hex)."""
        with self.lock:
            if self.hashing:
                return None
            self.hashing = True
        buffer = memoryview(bytearray(CHUNK))
        while True:
            with self.lock:
                if self.hashed == self.count:
                    return self.hasher.hexdigest()  # and nobody hashes again
                if not self.there[self.hashed]:
                    self.hashing = False
                    return None
            position, stop = self.span(self.hashed)
            while position < stop:
                count = os.preadv(self.file, [buffer[: stop - position]], position)
                if not count:
                    raise OSError(5, "a file under way was cut")
                self.hasher.update(buffer[:count])
                position += count
            self.hashed += 1

    def finish(self) -> str:
        """Close the whole file; where it is. Its marks go."""
        os.fchmod(self.file, READ_ONLY)
        self.marks_path.unlink()
        self.close()
        return str(self.path)

    def close(self) -> None:
        """Close; what is there stays for another try. Safe to call twice."""
        for handle in (self.file, self.marks):
            if handle >= 0:
                os.close(handle)
        self.file = self.marks = -1


def boot() -> str:
    """This boot of the machine."""
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
