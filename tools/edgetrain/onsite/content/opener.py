"""Takes bytes apart into what can be compared: text, numbers, other bytes; and gives it to a sink."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any, Protocol

from . import arrays, numbers, onnx, packed, pickles, words
from .budget import MAX_DEPTH, Budget, Cut

BLOCK = 2 * 2**20
OVERLAP = 4096
GATE = 4096
QUARTER = GATE // 4
MAX_COLUMNS = 4096
# What stands in front of a compressed stream: names, remarks.
HEAD = 128 * 1024
# The codes of what is refused for itself; `docs/problems.md` says more.
EXTERNAL, CUSTOM, KEEPS, OPAQUE = "E703", "E704", "E706", "E707"
# Whether a number's highest byte looks as if it were one: of floats, of small whole numbers, of small bytes.
SANE8 = bytes(byte & 0x7F in range(0x3D, 0x43) for byte in range(256))
SANE4 = bytes(byte & 0x7F in range(0x38, 0x48) for byte in range(256))
SMALL = bytes(byte in (0, 255) for byte in range(256))
LOW = bytes(byte < 128 for byte in range(256))
How = tuple[str, ...]


def same(data: Any) -> bool:
    """Whether it is one byte again and again: in nothing but that there is no row, and there is much of it in empty
    weights and in bombs."""
    return bytes(data).count(data[0]) == len(data)


def pages(data: Any, size: int, sane: bytes, shift: int, least: float) -> Iterator[tuple[int, int, bool]]:
    """Begin, end, and whether `least` of the page's numbers have a highest byte that is `sane` (a table).

    Page by page from `shift` on; those that have not may be many at once. A page that is one byte again and again
    has no numbers.
    """
    for first in range(shift, len(data), BLOCK):
        piece = bytes(data[first : first + BLOCK])
        fits = piece[size - 1 :: size].translate(sane)
        if fits.count(1) < least * (len(fits) % (GATE // size) or GATE // size) or same(piece):
            yield first, first + len(piece), False
            continue
        for at in range(0, len(piece), GATE):
            begin, end = at // size, min(len(fits), (at + GATE) // size)
            enough = (end - begin) * least
            # Of noise a quarter tells already that it is too little of what must nearly all be so.
            short = least > 0.5 and fits.count(0, begin, min(end, begin + QUARTER)) > end - begin - enough
            passes = end - begin > 2 and not short and fits.count(1, begin, end) >= enough
            last = min(at + GATE, len(piece))
            yield first + at, first + last, passes and not same(piece[at:last])


class Sink(Protocol):
    """Who gets the parts. `how` says in which wrappings they were found."""

    def text(self, text: str, how: How, depth: int) -> None:
        """A block of text."""

    def numbers(self, values: array[float], columns: int, how: How, depth: int) -> None:
        """A block of numbers; `columns` is 1 where it is not known."""

    def raw(self, data: Any, how: How) -> None:
        """Bytes."""

    def whole(self, data: Any, how: How) -> None:
        """Everything that was found in one place, before it is taken apart."""

    def refuse(self, code: str, what: str, how: How) -> None:
        """Something that must not leave whatever it holds."""


class Opener:
    """Takes apart within a budget. `closely`: also look for what is hidden within other bytes."""

    def __init__(self, budget: Budget, sink: Sink, closely: bool) -> None:
        self.budget = budget
        self.sink = sink
        self.closely = closely
        self.met: set[tuple[int, int]] = set()

    def open(self, data: Any, name: str, how: How = (), depth: int = 0) -> None:
        """Take `data` apart; `name` is the file's, for its ending. Raises Cut."""
        if not len(data):
            return
        if depth > MAX_DEPTH:
            raise Cut("things are packed into each other deeper than is allowed")
        data = memoryview(data)
        if not depth:
            self.budget.source += len(data)
        self.budget.take(len(data))
        if depth and len(data) < 2**26:
            key = (len(data), hash(bytes(data)))
            if key in self.met:
                return
            self.met.add(key)
        self.sink.whole(data, how)
        try:
            self._open(data, name.lower(), how, depth)
        except (packed.Opaque, arrays.Unreadable, onnx.Unsound) as error:
            self.sink.refuse(OPAQUE, f"can't be looked into: {error or 'it is not sound'}", how)
            self.binary(data, how, depth)

    def _open(self, data: Any, name: str, how: How, depth: int) -> None:
        if packed.is_opaque(data):
            raise packed.Opaque("it is encrypted, or packed in a way that can't be opened here")
        if packed.is_zip(data):
            inner = (*how, "a zip archive")
            for member, content in packed.members(data, self.budget):
                self.words(member, inner, depth)
                self.open(content, member, inner, depth + 1)
        elif packed.is_tar(data):
            inner = (*how, "a tar archive")
            for member, content in packed.tar_members(data, self.budget):
                self.words(member, inner, depth)
                self.open(content, member, inner, depth + 1)
        elif (found := packed.stream(data, self.budget)).content:
            self.open(found.content, name.rpartition(".")[0], (*how, "a compressed stream"), depth + 1)
            self.around(data, found, how, depth)
        elif bytes(data[:6]) == arrays.MAGIC:
            self.table(data, how, depth)
        elif name.endswith(".onnx"):
            self.model(onnx.read(data, self.budget.check), how, depth)
        elif pickles.is_pickle(data):
            self.pickle(data, how, depth)
        elif bytes(data[:8]) == b"\x89PNG\r\n\x1a\n":
            self.binary(data, how, depth)
            self.open(packed.png_pixels(data, self.budget), "", (*how, "an image"), depth + 1)
        elif not self.plain(data, how, depth):
            model = self.as_model(data)
            if model is not None:
                self.model(model, how, depth)
            elif name.endswith((".npy", ".npz", ".zip", ".gz", ".png", ".xz", ".bz2")) and self.closely:
                raise packed.Opaque("it is not what its name says")
            else:
                self.binary(data, how, depth)

    def guess(self, data: bytes, how: How, depth: int) -> None:
        """What may be another reading of something, or nothing: taken apart only if it looks like something."""
        if depth > MAX_DEPTH:
            raise Cut("things are packed into each other deeper than is allowed")
        known = packed.STREAMS.match(data) or packed.is_tar(data) or pickles.is_pickle(data)
        if known or data[:6] == arrays.MAGIC or words.decoded(data) is not None or self.as_model(memoryview(data)):
            self.open(data, "", how, depth)
            return
        self.budget.take(len(data))
        key = (-len(data), hash(data))
        if key in self.met:
            return
        self.met.add(key)
        self.sink.whole(data, how)
        self.sink.raw(data, how)
        if len(data) >= 64:
            self.figures(memoryview(data), (*how, "numbers"), depth)

    def as_model(self, data: Any) -> onnx.Content | None:
        """The ONNX model that these bytes are, whatever their name is."""
        if data[0] != 8 or len(data) < 16:
            return None
        try:
            return onnx.read(data, self.budget.check)
        except onnx.Unsound:
            return None

    def words(self, text: str, how: How, depth: int) -> None:
        """A short text."""
        if text:
            self.sink.text(text, how, depth)

    def plain(self, data: Any, how: How, depth: int) -> bool:
        """Give `data` on as text, block by block; False if it is none."""
        if words.decoded(bytes(data[: 2 * OVERLAP])) is None:
            return False
        at = 0
        while at < len(data):
            self.budget.check()
            end = min(len(data), at + BLOCK)
            if end < len(data):
                line = bytes(data[end : end + OVERLAP]).find(b"\n")
                # UTF-16 must not be cut within a sign.
                end = end + line + 1 if line >= 0 and b"\0" not in bytes(data[at : at + 64]) else end
            piece = bytes(data[at:end])
            text = words.decoded(piece)
            if text is None:
                self.binary(data[at:end], how, depth)
            else:
                self.sink.text(text, how, depth)
            if end >= len(data):
                break
            at = end - OVERLAP if self.closely else end
        if not self.closely:
            return True
        self.sink.raw(data, how)
        return True

    def around(self, data: Any, found: packed.Unpacked, how: How, depth: int) -> None:
        """What is before, in and after the compressed streams that were taken out."""
        if self.closely:
            self.sink.raw(data, how)
            head = data[:HEAD]
            self.words(words.runs(bytes(head)), how, depth)
            for content in packed.embedded(head, self.budget):
                self.open(content, "", (*how, "a compressed stream"), depth + 1)
        if found.torn:
            self.binary(data[found.end :], how, depth)
        else:
            self.open(data[found.end :], "", (*how, "what follows a compressed stream"), depth + 1)

    def table(self, data: Any, how: How, depth: int) -> None:
        """A NumPy array."""
        found = arrays.read(data)
        if self.closely:  # the header may be long, and say more than it must
            body = len(found) if isinstance(found, bytes) else len(found.data)
            self.words(words.runs(bytes(data[: len(data) - body])), (*how, "an array"), depth)
        if isinstance(found, bytes):
            self.open(found, "", (*how, "an array"), depth + 1)
            return
        self.typed(found.data, found.kind, found.big, found.columns, (*how, "an array"), depth)

    def typed(self, data: Any, kind: str, big: bool, columns: int, how: How, depth: int) -> None:
        """Numbers of a known kind."""
        size = int(kind[-1])
        step = max(1, BLOCK // size // columns) * columns * size
        for at in range(0, len(data), step):
            self.budget.check()
            values = numbers.decode(bytes(data[max(0, at - 256 * size) : at + step]), kind, big)
            self.sink.numbers(values[min(256, at // size) :] if columns > 1 else values, columns, how, depth)
        self.sink.raw(data, how)
        if self.closely:
            self.strings(data, how, depth)

    def strings(self, data: Any, how: How, depth: int) -> None:
        """The text that stands within other bytes, and streams that begin within them."""
        for at in range(0, len(data), BLOCK):
            self.budget.check()
            piece = bytes(data[max(0, at - OVERLAP) : at + BLOCK])
            if same(piece):
                continue
            self.words(words.runs(piece), how, depth)
            if piece.count(0) > len(piece) // 4:
                for lane in range(2):
                    self.words(words.runs(piece[lane::2]), how, depth)
        for content in packed.embedded(data, self.budget):
            self.open(content, "", (*how, "a compressed stream"), depth + 1)

    def pickle(self, data: Any, how: How, depth: int) -> None:
        """A pickle, by its opcodes."""
        inner = (*how, "a pickle")
        found = pickles.read(data, self.budget.check)
        if pickles.KEEPERS.search(data) or pickles.KEEPERS.search(
            "\n".join(found.texts).encode("utf-8", "replace")
        ):
            self.sink.refuse(KEEPS, "is a kind of model that keeps rows of its training data", how)
        self.words("\n".join(found.texts), inner, depth)
        if found.floats:
            self.sink.numbers(numbers.floats(found.floats), 1, inner, depth)
        for blob in found.blobs:
            if len(blob) >= 16:
                self.open(blob, "", inner, depth + 1)
        if found.whole and found.end >= len(data) - 1:
            self.sink.raw(data, inner)
        else:
            self.binary(data, inner, depth)  # numbers may lie between the opcodes, as joblib writes them

    def model(self, found: onnx.Content, how: How, depth: int) -> None:
        """An ONNX model."""
        if found.external:
            self.sink.refuse(EXTERNAL, "keeps tensors in other files", how)
        if found.custom:
            self.sink.refuse(CUSTOM, "has operators that are not ONNX's own", how)
        if found.keeps_rows:
            self.sink.refuse(KEEPS, "is a kind of model that keeps rows of its training data", how)
        inner = (*how, "an ONNX model")
        short = [text for text in found.texts if len(text) < 4096]
        self.words(b"\n".join(short).decode("utf-8", "replace"), inner, depth)
        for text in found.texts:
            if len(text) >= 32 and self.closely:
                self.open(text, "", inner, depth + 1)
        for values in found.lists:
            self.sink.numbers(numbers.floats(values), 1, inner, depth)
        for data, kind, columns in found.numbers:
            self.typed(data, kind, False, min(columns, MAX_COLUMNS), inner, depth)

    def binary(self, data: Any, how: How, depth: int) -> None:
        """Bytes of which nothing is known."""
        self.sink.raw(data, how)
        if not self.closely:
            return
        if content := packed.raw_deflate(data, self.budget):
            self.open(content, "", (*how, "a compressed stream"), depth + 1)
        self.strings(data, how, depth)
        self.figures(data, how, depth)

    def figures(self, data: Any, how: How, depth: int) -> None:
        """Numbers that may stand within other bytes."""
        for kind, sane, least in (("f8", SANE8, 0.12), ("f4", SANE4, 0.25)):
            size = int(kind[1])
            for shift in range(size):
                self.gated(data, kind, sane, shift, least, how, depth)
        for kind in ("i8", "i4", "i2"):
            self.gated(data, kind, SMALL, 0, 0.9, how, depth)
        self.gated(data, "u1", LOW, 0, 0.9, how, depth)

    def gated(self, data: Any, kind: str, sane: bytes, shift: int, least: float, how: How, depth: int) -> None:
        """Read bytes as numbers of this kind, where the highest bytes look as if they were."""
        size, start = int(kind[1]), None
        for at, end, passes in pages(data, size, sane, shift, least):
            if passes and start is None:
                start = at
            if start is not None and (not passes or end == len(data) or end - start >= BLOCK):
                stop = end if passes else min(len(data), at + 64 * size)
                self.budget.check()
                first = max(shift, start - 64 * size)
                self.sink.numbers(numbers.decode(bytes(data[first:stop]), kind), 1, how, depth)
                start = None
