"""A datastore in memory: a second provider that shows the seam holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from edgetrain.core.digest import digest_bytes, tree_digest
from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.ports import Check, DataDigest, DataEntry, DataSource
from edgetrain.providers.diagnosis import tried


class MemoryDatastore:
    """Holds the files given: names relative to the root, slash-separated."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)

    def digest(self, path: str, progress: Callable[[int], None] | None = None) -> DataDigest:
        found = self._under(path)
        if progress:
            progress(sum(map(len, found.values())))
        digest = tree_digest((name, digest_bytes(data)) for name, data in found.items())
        return DataDigest(digest, len(found), sum(map(len, found.values())))

    def source(self, path: str) -> DataSource:
        place, stream = "/".join(_parts(path)), MemoryStream(self._under(path))
        return DataSource("memory", place, renew=partial(self.source, path), stream=stream)

    def diagnose(self, paths: Sequence[str]) -> Sequence[Check]:
        return [tried("data", f"{path} is readable", partial(self._try, path)) for path in paths]

    def _try(self, path: str) -> None:
        self._under(path)

    def _under(self, path: str) -> dict[str, bytes]:
        here = "/".join(_parts(path))
        if here in self.files:
            return {here.rpartition("/")[2]: self.files[here]}
        prefix = f"{here}/" if here else ""
        found = {name[len(prefix) :]: data for name, data in self.files.items() if name.startswith(prefix)}
        if here and not found:
            raise NotFound(f"no {path}", reason="DataMissing", fix="check the path")
        return found


class MemoryStream:
    """Reads the files given; their tag is their digest."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def entries(self) -> Iterator[DataEntry]:
        for name, data in self.files.items():
            yield DataEntry(name, len(data), digest_bytes(data))

    def read(self, entry: DataEntry, offset: int = 0) -> Iterator[bytes]:
        data = self.files.get(entry.name)
        if data is None or digest_bytes(data) != entry.tag:
            raise Rejected("changed", reason="DataChanged")
        yield data[offset:]


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise Rejected("outside", reason="PathOutside")
    return parts
