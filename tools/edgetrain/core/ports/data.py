"""The port of a datastore, and where a compute target finds data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgetrain.core.ports.check import Check


@dataclass(frozen=True)
class DataEntry:
    """One file of an input: name relative to the input's folder (a single file: its base name), bytes, and
    a `tag` that changes when the content may have changed (an ETag, a modification time)."""

    name: str
    size: int
    tag: str


class DataStream(Protocol):
    """Reads an input through the runner, for targets that can't reach the store; nothing lands on a disk."""

    def entries(self) -> Iterator[DataEntry]:
        """All files, streamed, in bounded memory. Raises NotFound."""

    def read(self, entry: DataEntry, offset: int = 0) -> Iterator[bytes]:
        """The bytes of one file from `offset`. Raises Rejected with reason DataChanged if it is not the
        entry's any more."""


@dataclass(frozen=True)
class DataSource:
    """Where a compute target finds an input.

    `kind` `folder`: `location` is an absolute path on the runner. `azure-blob`: `location` is the URL of the
    container, `path` the prefix or name inside it, and `access` holds what a reader needs (`sas`,
    `apiVersion`, `caBundle` as PEM text): short-lived, never logged or stored; without `sas` only `stream`
    can read it. `renew` gives the source anew with fresh access, `stream` reads it through the runner.
    """

    kind: str
    location: str
    path: str = ""
    access: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    renew: Callable[[], DataSource] | None = field(default=None, repr=False, compare=False)
    stream: DataStream | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class DataDigest:
    """The content digest of an input with what may be told of it: counts and bytes, never names."""

    digest: str
    files: int
    bytes: int


class Datastore(Protocol):
    """A place at the site that holds private data. Paths are relative to the datastore's root."""

    def digest(self, path: str, progress: Callable[[int], None] | None = None) -> DataDigest:
        """Digest the file or folder at `path` (`core.digest.tree_digest` over names and contents; a single
        file counts as a tree of its base name). Cached by (name, size, mtime or ETag). `progress` gets bytes
        read. Where the target can (`Compute.measure`), it digests instead, so that no data moves.

        Raises NotFound; Rejected for a path outside the root, a symlink or a special file."""

    def source(self, path: str) -> DataSource:
        """What a compute target needs to read `path`."""

    def diagnose(self, paths: Sequence[str]) -> Sequence[Check]:
        """Whether the store answers, in which version, and whether each of `paths` is there and readable."""
