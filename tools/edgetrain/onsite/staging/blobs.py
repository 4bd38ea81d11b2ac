"""An input in a container of the blob store, as a source of a staging."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .entry import Entry
from .errors import Failure, bad_request
from .fetch import Crew
from .listing import Listing
from .store import Container
from .task import Task


class Blobs:
    """The blobs below a path, as a folder; or with `single`, or if nothing is below it, the one of that name."""

    def __init__(self, source: Mapping[str, Any], single: bool) -> None:
        self.location = str(source["location"]).rstrip("/")
        self.container = Container(self.location, source.get("access") or {})
        self.path, self.single = clean_path(str(source.get("path") or "")), single
        self.prefix = self.path + "/" if self.path else ""

    def entries(self) -> Iterator[Entry]:
        """The listing. Raises Failure."""
        found = Listing(self.container, self.prefix)
        if not self.single:
            yield from found
        if found.some or not self.path:
            return
        self.prefix = self.path[: self.path.rfind("/") + 1]
        # Listings are sorted: the blob itself comes before all whose names it begins.
        first = next(iter(Listing(self.container, self.path, count=1)), None)
        if first is None or first.name != self.path.encode():
            fix = "check the input's path and that the data has arrived"
            raise Failure("NotFound", "NotFound", "the datastore has nothing at the input's path", fix)
        yield first

    def start(self) -> int:
        """Bytes of the prefix."""
        return len(self.prefix.encode())

    def scope(self) -> bytes | None:
        """The prefix, of a folder."""
        folder = self.prefix == (self.path + "/" if self.path else "")
        return None if self.single or not folder else self.prefix.encode()

    def fetch(self, task: Task) -> None:
        """Fetch what the task wants. Raises Failure; what was whole by then is the task's."""
        Crew(self.container, task).run()


def clean_path(path: str) -> str:
    """The path without empty parts. Raises Failure if it leads out."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise bad_request("the path leads out of the datastore")
    return "/".join(parts)
