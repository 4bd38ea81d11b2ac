"""The one reader of manifests: bytes of a hostile file to plain data with places, or problems.

What is plain beyond doubt takes a quick way (`plain`): then there is no problem to tell, and the places are only
looked for when somebody asks. Everything else is the strict reader's (`strict`), which is slower by itself and
takes PyYAML's time to import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

from edgetrain.core.digest import digest_bytes
from edgetrain.core.document import Document, Pointer
from edgetrain.core.errors import RepositoryError
from edgetrain.core.problem import Mark, Problem
from edgetrain.repo.plain import MAX_BYTES, read_plain

__all__ = ["MAX_BYTES", "content_digest", "known_document", "plain_document", "read"]


def read(data: bytes, path: str) -> tuple[Document | None, list[Problem]]:
    """Read one manifest; all problems found, in the order of their places: see `strict.read_strictly`."""
    plain = read_plain(data)
    if plain is None:
        from edgetrain.repo.strict import read_strictly

        return read_strictly(data, path)
    return plain_document(data, path, plain), []


def plain_document(data: bytes, path: str, plain: dict[str, Any]) -> Document:
    """The document of plain bytes that `read_plain` has read."""
    return _document(_Places(lambda: data, path), path, plain)


def known_document(read: Callable[[], bytes], path: str, plain: dict[str, Any], digest: str | None) -> Document:
    """The document that was read before, and its digest if that is known. `read` gives its bytes again."""
    document = _document(_Places(read, path), path, plain)
    if digest is not None:
        vars(document)["digest"] = digest
    return document


def _document(places: _Places, path: str, plain: dict[str, Any]) -> Document:
    return Document(path, plain, _Late(places, "marks"), _Late(places, "key_marks"))


def content_digest(document: Document) -> str | None:
    """The digest of the bytes that the document was read from, if these are still at hand."""
    marks = document.marks
    return digest_bytes(marks.places.data()) if isinstance(marks, _Late) else None


class _Places:
    """The document as the strict reader has it, read when first asked for."""

    def __init__(self, data: Callable[[], bytes], path: str) -> None:
        self.data = data
        self.path = path

    @cached_property
    def document(self) -> Document:
        from edgetrain.repo.strict import read_strictly

        found = None
        with suppress(RepositoryError):  # what is gone since has no places
            found, _ = read_strictly(self.data(), self.path)
        return found or Document(self.path, {})


class _Late(Mapping[Pointer, Mark]):
    """The `marks` (or `key_marks`) of a document whose places are not known yet."""

    __slots__ = ("name", "places")

    def __init__(self, places: _Places, name: str) -> None:
        self.places = places
        self.name = name

    def known(self) -> Mapping[Pointer, Mark]:
        found: Mapping[Pointer, Mark] = getattr(self.places.document, self.name)
        return found

    def __getitem__(self, pointer: Pointer) -> Mark:
        return self.known()[pointer]

    def __contains__(self, pointer: object) -> bool:
        return pointer in self.known()

    def __iter__(self) -> Iterator[Pointer]:
        return iter(self.known())

    def __len__(self) -> int:
        return len(self.known())
