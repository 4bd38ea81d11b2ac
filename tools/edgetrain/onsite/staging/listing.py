"""The names in a container, streamed: List Blobs page by page, read while it arrives, in bounded memory."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from xml.parsers import expat

from .entry import Entry
from .errors import Failure
from .store import Container, retried

PAGE = 5000
PAGE_BYTES = 64 * 2**20
TEXT = 2**16
BUFFER = 2**18


class Page:
    """Reads one page of XML. `entries` and `marker` are what it held; `some` is True if there was any blob.

    The document type is refused, and with it every entity; texts and the whole are bounded."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.marker, self.some = "", False
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.path: list[str] = []
        self.text: list[str] | None = None
        self.long = 0
        self.encoded = False
        self.values: dict[str, str] = {}
        self.bytes = 0

    def feed(self, data: bytes, last: bool = False) -> None:
        """Take the next bytes. Raises Failure."""
        self.bytes += len(data)
        if self.bytes > PAGE_BYTES:
            raise unreadable("is too long")
        try:
            self.parser.Parse(data, last)
        except expat.ExpatError:
            raise unreadable("is not XML") from None

    def _doctype(self, *_: object) -> None:
        raise unreadable("has a document type")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.path.append(tag)
        if len(self.path) > 16:
            raise unreadable("is nested too deep")
        if tag in WANTED:
            self.text, self.long = [], 0
            self.parser.CharacterDataHandler = self._data
            self.encoded = tag == "Name" and attributes.get("Encoded") == "true"

    def _data(self, text: str) -> None:
        self.long += len(text)
        if self.long > TEXT:
            raise unreadable("has an endless value")
        if self.text is not None:
            self.text.append(text)

    def _end(self, tag: str) -> None:
        self.path.pop()
        if self.text is not None and tag in WANTED:
            text, parent = "".join(self.text), self.path[-1] if self.path else ""
            self.text = self.parser.CharacterDataHandler = None
            if tag == "NextMarker" and parent == WANTED[tag]:
                self.marker = text
            elif parent == WANTED[tag]:
                self.values[tag] = urllib.parse.unquote(text) if self.encoded else text
        elif tag == "Blob" and self.path[-1:] == ["Blobs"]:
            self._entry()

    def _entry(self) -> None:
        values, self.values = self.values, {}
        size, tag = values.get("Content-Length", ""), values.get("Etag", "").strip('"')
        if not values.get("Name") or not (size.isascii() and size.isdigit()) or not tag:
            raise unreadable("has a blob without name, size or ETag")
        if not (tag.isascii() and tag.isprintable() and len(tag) < 200 and '"' not in tag):
            raise unreadable("has a bad ETag")
        self.some = True
        # For a folder's sake tools leave an empty blob, with a mark or a name that ends with a slash: no file.
        marked = values.get("hdi_isfolder", "").lower() == "true" or values["Name"].endswith("/")
        if not (size == "0" and marked):
            self.entries.append(Entry(values["Name"].encode("utf-8"), int(size), tag))


WANTED = {
    "Name": "Blob",
    "Etag": "Properties",
    "Content-Length": "Properties",
    "hdi_isfolder": "Metadata",
    "NextMarker": "EnumerationResults",
}


class Listing:
    """All blobs whose names begin with `prefix`, in the server's order; `some` says whether any was there, if
    only one that marks a folder. Iterating raises Failure."""

    def __init__(self, container: Container, prefix: str, count: int = PAGE) -> None:
        self.container, self.prefix, self.count = container, prefix, count
        self.some = False

    def __iter__(self) -> Iterator[Entry]:
        session, marker, start = self.container.session(), "", self.prefix.encode("utf-8")
        buffer = memoryview(bytearray(BUFFER))

        def fetch() -> Page:
            page, answer = Page(), session.page(self.prefix, marker, self.count)
            while True:
                got = answer.readinto(buffer)
                page.feed(bytes(buffer[:got]), last=not got)
                if not got:
                    return page

        while True:
            page = retried(fetch, self.container.stop)
            self.some = self.some or page.some
            for entry in page.entries:
                if not entry.name.startswith(start):
                    raise unreadable("has a blob that was not asked for")
                yield entry
            if not page.marker:
                break
            if page.marker == marker:
                raise unreadable("does not end")
            marker = page.marker
        session.close()


def unreadable(what: str) -> Failure:
    """The listing can't be trusted."""
    fix = "check that the datastore's endpoint is a blob store, and apiVersion in edgetrain.yaml"
    return Failure("Rejected", "BadListing", f"the blob store's listing {what}", fix)
