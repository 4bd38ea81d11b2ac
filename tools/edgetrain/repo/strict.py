"""The one strict YAML reader: bytes of a hostile file to plain data with places, or problems.

It builds from parse events with a stack of its own: composing in the library recurses, and loses places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from edgetrain.core.codes import yaml as codes
from edgetrain.core.document import Document, Pointer
from edgetrain.core.problem import Code, Mark, Problem, problem, shown
from edgetrain.repo.plain import MAX_BYTES
from edgetrain.repo.scalar import resolve

MAX_DEPTH = 64
MAX_NODES = 100_000
MAX_ALIASED = 10_000
MAX_PROBLEMS = 100

# libyaml where PyYAML was built with it: several times faster, and the same events.
_PARSER: Any = getattr(yaml, "CLoader", yaml.Loader)

# All but tab, line feed and carriage return; also what ends a line or turns its direction unseen.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
_LINE_END = re.compile(r"\r\n|\r|\n")

# What libyaml and the pure parser say, in words for people who do not write parsers.
_WORDS = (
    (
        "mapping values are not allowed",
        "a `:` where no key can stand; quote the text, or mend the indentation",
    ),
    ("sequence entries are not allowed", "a `- ` where no list can stand; mend the indentation"),
    ("tab character", "a tab; indent with spaces"),
    ("expected ':'", "a line without `:` where a key is needed"),
    ("expected key", "indentation that fits no key above"),
    ("expected '-' indicator", "indentation that fits no list item above"),
    ("<block end>", "indentation that fits nothing above"),
    ("or '}'", "a `,` or `}` is missing"),
    ("or ']'", "a `,` or `]` is missing"),
    ("unexpected end of stream", "a quotation that is not closed"),
    ("unexpected document indicator", "a quotation that is not closed"),
    (
        "unknown escape character",
        r"a backslash escape that YAML does not know; write \\ or use single quotes",
    ),
    ("cannot start any token", "a character that can't start a value; put the value in quotes"),
    ("node content", "a value is missing, or begins with a character that needs quotes"),
    ("<document start>", "more text after the end of the value"),
)


def read_strictly(data: bytes, path: str) -> tuple[Document | None, list[Problem]]:
    """Read one manifest; all problems found, in the order of their places.

    The document is None if the file can't be read as one mapping. If there are problems and a document, the
    refused values stand in it as most likely meant: good for finding more problems, for nothing else.
    A byte order mark is ignored. Aliased values are shared in the result, which must not be changed.
    """
    if len(data) > MAX_BYTES:
        what = f"the file has {len(data):,} bytes; at most {MAX_BYTES:,} are read"
        return None, [problem(codes.TOO_LARGE, path, None, what)]
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        return None, [_not_utf8(data, path, error)]
    if found := list(_control_characters(text, path)):
        return None, found
    builder = _Builder(path, text)
    builder.run()
    problems = sorted(builder.problems)
    if not isinstance(builder.root, dict):
        return None, problems
    return Document(path, builder.root, builder.marks, builder.key_marks), problems


def _not_utf8(data: bytes, path: str, error: UnicodeDecodeError) -> Problem:
    before = data[: error.start].decode("utf-8")
    hint = "; it looks like UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
    what = f"byte 0x{data[error.start]:02x} is not UTF-8{hint}"
    return problem(codes.NOT_UTF8, path, _place(before, len(before)), what)


def _control_characters(text: str, path: str) -> Iterator[Problem]:
    for count, found in enumerate(_CONTROL.finditer(text)):
        mark = _place(text, found.start())
        if count == MAX_PROBLEMS:
            yield problem(codes.TOO_MANY_PROBLEMS, path, mark, "more control characters follow")
            return
        yield problem(codes.CONTROL_CHARACTER, path, mark, f"control character U+{ord(found[0]):04X}")


def _place(text: str, index: int) -> Mark:
    """The mark of the character at this index."""
    line, start = 1, 0
    for end in _LINE_END.finditer(text, 0, index):
        line, start = line + 1, end.end()
    return Mark(line, index - start + 1)


class _StopError(Exception):
    """Reading can't or shall not go on."""


class _Frame:
    """A mapping or list that is still open.

    `key` is the mapping's key that waits for its value; `size` counts the values inside with aliases
    expanded, `height` the levels below.
    """

    __slots__ = ("anchor", "container", "height", "key", "key_mark", "keyed", "pointer", "size")

    def __init__(self, container: dict[str, Any] | list[Any], pointer: Pointer, anchor: str | None) -> None:
        self.container = container
        self.pointer = pointer
        self.anchor = anchor
        self.key = ""
        self.keyed = False
        self.key_mark = Mark()
        self.size = 1
        self.height = 1


class _Builder:
    """Turns the events of one text into data, marks and problems."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.lines = _LINE_END.split(text.rstrip())
        self.root: Any = None
        self.marks: dict[Pointer, Mark] = {}
        self.key_marks: dict[Pointer, Mark] = {}
        self.problems: list[Problem] = []
        self.frames: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, int, int]] = {}
        self.documents = 0
        self.nodes = 0
        self.aliased = 0
        # Without a backslash no escape can bring in what the check of the text has not seen.
        self.escapes = "\\" in text

    def run(self) -> None:
        """Read all events, or as many as can be read."""
        handlers = {
            yaml.ScalarEvent: self.scalar,
            yaml.MappingStartEvent: self.open,
            yaml.SequenceStartEvent: self.open,
            yaml.MappingEndEvent: self.close,
            yaml.SequenceEndEvent: self.close,
            yaml.AliasEvent: self.alias,
            yaml.DocumentStartEvent: self.document,
        }
        try:
            for event in yaml.parse(self.text, Loader=_PARSER):
                if handler := handlers.get(type(event)):
                    handler(event)
            if not self.documents:
                self.report(codes.NO_MAPPING, Mark(), "the file is empty")
        except _StopError:
            self.root = None
        except yaml.YAMLError as error:
            self.root = None
            self.problems.append(self.syntax(error))

    def report(self, code: Code, mark: Mark, what: str, fix: str | None = None) -> None:
        if len(self.problems) >= MAX_PROBLEMS:
            self.problems.append(problem(codes.TOO_MANY_PROBLEMS, self.path, mark, "more problems follow"))
            raise _StopError
        self.problems.append(problem(code, self.path, mark, what, fix))

    def stop(self, code: Code, mark: Mark, what: str, fix: str | None = None) -> None:
        self.report(code, mark, what, fix)
        raise _StopError

    def syntax(self, error: yaml.YAMLError) -> Problem:
        said = str(getattr(error, "problem", None) or "unreadable")
        words = next((words for fragment, words in _WORDS if fragment in said), shown(said))
        at, since = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
        mark = Mark()
        if at is not None:
            mark = self.inside(at)
            if self.lines[mark.line - 1][mark.column - 1 :].startswith("\t"):
                words = "a tab; indent with spaces"
        if since and since.line + 1 < mark.line:
            words += f" (in what begins on line {since.line + 1})"
        return problem(codes.SYNTAX, self.path, mark, words)

    def inside(self, at: Any) -> Mark:
        """The mark, or the end of the last line with anything in it if the mark lies behind that."""
        last = len(self.lines)
        return _mark(at) if at.line < last else Mark(last, len(self.lines[-1]) + 1)

    def document(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            self.stop(codes.SEVERAL_DOCUMENTS, _mark(event.start_mark), "a second document starts here")

    def open(self, event: Any) -> None:
        mark = _mark(event.start_mark)
        self.tagless(event, mark)
        if len(self.frames) >= MAX_DEPTH:
            self.stop(codes.TOO_DEEP, mark, f"more than {MAX_DEPTH} levels")
        container: dict[str, Any] | list[Any] = {} if type(event) is yaml.MappingStartEvent else []
        self.anchors.pop(event.anchor, None)
        pointer = self.place(container, mark, event)
        self.frames.append(_Frame(container, pointer, event.anchor))

    def close(self, event: Any) -> None:
        frame = self.frames.pop()
        if frame.anchor is not None:
            self.anchors[frame.anchor] = frame.container, frame.size, frame.height
        self.grow(frame.size, frame.height)
        if not self.frames and isinstance(frame.container, list):
            self.report(codes.NO_MAPPING, self.marks[()], "the top level is a list, not a mapping")

    def scalar(self, event: Any) -> None:
        text: str = event.value
        # A value that is not there may be placed behind the end of the file.
        mark = _mark(event.start_mark) if text else self.inside(event.start_mark)
        self.tagless(event, mark)
        value: Any = text
        if event.implicit[0] and event.tag is None:
            value, refusal = resolve(text)
            if refusal is not None:
                self.report(refusal.code, mark, refusal.what, refusal.fix)
                value = text if self.at_key() else value
        elif self.escapes and (found := _CONTROL.search(text)):
            what = f"an escape stands for control character U+{ord(found[0]):04X}"
            self.report(codes.CONTROL_CHARACTER, mark, what)
        self.place(value, mark, event)
        if event.anchor is not None:
            self.anchors[event.anchor] = value, 1, 0
        if not self.frames:
            what = "the file is empty" if value is None else "the top level is a single value, not a mapping"
            self.report(codes.NO_MAPPING, mark, what)
        else:
            self.grow(1, 0)

    def alias(self, event: Any) -> None:
        mark = _mark(event.start_mark)
        known = self.anchors.get(event.anchor)
        if known is None:
            opened = any(frame.anchor == event.anchor for frame in self.frames)
            name = shown(event.anchor)
            what = f"alias *{name} lies inside its own anchor" if opened else f"no anchor &{name} above"
            self.report(codes.BAD_ALIAS, mark, what)
            known = None, 1, 0
        value, size, height = known
        self.aliased += size
        if self.aliased > MAX_ALIASED:
            self.stop(codes.ALIAS_BOMB, mark, f"aliases add more than {MAX_ALIASED:,} values")
        if len(self.frames) + height > MAX_DEPTH:
            self.stop(codes.TOO_DEEP, mark, f"more than {MAX_DEPTH} levels, with aliases expanded")
        self.place(value, mark, event)
        self.grow(size, height)

    def tagless(self, event: Any, mark: Mark) -> None:
        if event.tag is not None:
            self.report(codes.TAG, mark, f"tag {shown(event.tag.replace('tag:yaml.org,2002:', '!!'))}")

    def grow(self, size: int, height: int) -> None:
        """Tell the open mapping or list what was put in."""
        if self.frames:
            frame = self.frames[-1]
            frame.size += size
            frame.height = max(frame.height, height + 1)

    def place(self, value: Any, mark: Mark, event: Any) -> Pointer:
        """Put a value, or a key, where it belongs; its pointer."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.stop(codes.TOO_MANY_VALUES, mark, f"more than {MAX_NODES:,} values")
        if not self.frames:
            self.root = value
            self.marks[()] = mark
            return ()
        frame = self.frames[-1]
        container = frame.container
        if type(container) is list:
            pointer: Pointer = (*frame.pointer, len(container))
            container.append(value)
        elif frame.keyed:
            pointer = (*frame.pointer, frame.key)
            container[frame.key] = value  # type: ignore[call-overload]
            self.key_marks[pointer] = frame.key_mark
            frame.keyed = False
        else:
            frame.key, frame.key_mark, frame.keyed = self.key(value, mark, event, frame), mark, True
            return (*frame.pointer, frame.key)
        self.marks[pointer] = mark
        return pointer

    def at_key(self) -> bool:
        """Whether the next value is a key."""
        return bool(self.frames) and isinstance(self.frames[-1].container, dict) and not self.frames[-1].keyed

    def key(self, value: Any, mark: Mark, event: Any, frame: _Frame) -> str:
        """The key's text; problems if it is no good."""
        if type(event) is not yaml.ScalarEvent:
            fix = "Put text that begins with [, {, & or * in quotes."
            self.stop(codes.KEY_NOT_TEXT, mark, "the key is a list, a mapping or an alias", fix)
        text: str = event.value
        if type(value) not in (str, int):
            kind = "empty" if text == "" else f"{shown(text)}, which is not text"
            self.report(codes.KEY_NOT_TEXT, mark, f"the key is {kind}")
        if text == "<<" and event.implicit[0]:
            self.report(codes.MERGE_KEY, mark, "merge key <<")
        elif text in frame.container:
            first = self.key_marks.get((*frame.pointer, text), mark)
            what = f'key "{shown(text)}" is given twice, first on line {first.line}'
            self.report(codes.DUPLICATE_KEY, mark, what)
        return text


def _mark(at: Any) -> Mark:
    return Mark(at.line + 1, at.column + 1)
