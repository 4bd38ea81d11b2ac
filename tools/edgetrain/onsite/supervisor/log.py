"""The bounded log of a run."""

from __future__ import annotations

import collections
from pathlib import Path

MAX_TAIL = 2**20


class Log:
    """The run's log: its beginning, and at the end its last bytes; never more than `limit` bytes and a note."""

    def __init__(self, path: Path, limit: int) -> None:
        self.file = path.open("ab", buffering=0)
        self.tail_limit = min(limit // 4, MAX_TAIL)
        self.room = max(0, limit - self.tail_limit - path.stat().st_size)
        self.tail: collections.deque[bytes] = collections.deque()
        self.tail_size = self.dropped = 0

    def write(self, data: bytes) -> None:
        """Append."""
        head, rest = data[: self.room], data[self.room :]
        self.room -= len(head)
        self.file.write(head)
        if rest:
            self.tail.append(rest)
            self.tail_size += len(rest)
        while self.tail_size > self.tail_limit:
            first = self.tail.popleft()
            lost = min(len(first), self.tail_size - self.tail_limit)
            if lost < len(first):
                self.tail.appendleft(first[lost:])
            self.tail_size -= lost
            self.dropped += lost

    def close(self) -> None:
        """Write the tail."""
        if self.dropped:
            self.file.write(b"\n[... %d bytes of the log were dropped here: limit reached ...]\n" % self.dropped)
        for part in self.tail:
            self.file.write(part)
        self.file.close()
