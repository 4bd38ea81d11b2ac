"""Looks through Jupyter notebooks: code cells, shell lines in them, and outputs that were left in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from . import python, shell
from .finding import Finding, bounded, unreadable
from .tables import words

MAX_NOTEBOOK = 8 * 2**20
_BANG = re.compile(r"^(\s*)(?:[\w., ]+=\s*)?(!{1,2}|%(?:sx|system)\s)(.*)$")
_MAGIC = re.compile(r"^(\s*)(?:[\w., ]+=\s*)?%{1,2}(\w+)\s*(.*)$")
_HELP = re.compile(r"^\s*\?{0,2}[\w.]+\?{1,2}\s*$|^\s*\?{1,2}[\w.]+\s*$")
_SHELL_CELLS = words("bash sh script system sx")
_PYTHON_CELLS = words("time timeit capture prun python python3 py")
_LINE_PYTHON = words("time timeit prun")


def scan(data: bytes) -> list[Finding]:
    """The findings of one notebook; cell and line are in the text, for the file's own lines tell nobody."""
    if len(data) > MAX_NOTEBOOK:
        return unreadable(f"it is larger than {MAX_NOTEBOOK // 2**20} MiB")
    try:
        book = json.loads(data)
    except (ValueError, RecursionError):
        return unreadable("it is no JSON")
    cells = book.get("cells") if isinstance(book, dict) else None
    if not isinstance(cells, list):
        return unreadable("it has no list of cells (notebook format 4)")
    found = []
    printed = [number for number, cell in enumerate(cells, 1) if isinstance(cell, dict) and _printed(cell)]
    if printed:
        shown = ", ".join(map(str, printed[:10])) + (", …" if len(printed) > 10 else "")
        found.append(Finding(1, 1, "E605", f"outputs or attachments were left in cell {shown}"))
    for number, cell in enumerate(cells, 1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            for each in _cell(_source(cell)):
                found.append(Finding(1, 1, each.code, f"cell {number}, line {each.line}: {each.what}"))
    return bounded(found)


def _printed(cell: dict[str, Any]) -> bool:
    return bool(cell.get("outputs") or cell.get("attachments"))


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    if isinstance(source, list):
        return "".join(part for part in source if isinstance(part, str))
    return source if isinstance(source, str) else ""


def _cell(text: str) -> Iterator[Finding]:
    first = _MAGIC.match(text.lstrip().partition("\n")[0])
    if first and text.lstrip().startswith("%%"):
        if first[2] in _SHELL_CELLS:
            body = "\n".join(["", *text.split("\n")[1:]])
            yield from shell.lines(body)
            return
        if first[2] not in _PYTHON_CELLS:
            return  # text of another language, or a file that is written
    rest = []
    for number, line in enumerate(text.split("\n"), 1):
        bang, magic = _BANG.match(line), _MAGIC.match(line)
        if bang:
            yield from (Finding(number, 1, f.code, f.what) for f in shell.lines(bang[3]))
            rest.append(bang[1] + "pass")
        elif magic and not re.match(r"\s*%\s", line):
            if magic[2] in ("pip", "conda", "mamba", "uv"):
                yield from (Finding(number, 1, f.code, f.what) for f in shell.lines(f"{magic[2]} {magic[3]}"))
            rest.append(
                magic[1] + (magic[3] if magic[2] in _LINE_PYTHON and magic[3][:1] not in ("", "-") else "pass")
            )
        else:
            rest.append("" if _HELP.match(line) else line)
    yield from python.scan("\n".join(rest).encode("utf-8", "replace"))
