"""Queries of runs and experiments: the filter grammar that the client writes, order, and pages.

There is no escaping in it: values stand in quotes or bare, keys of tags and properties bare, blanks and all.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from azureml_emulator.message import Refused

Document = Mapping[str, Any]
Test = Callable[[Document], bool]

MAX_LENGTH, MAX_DEPTH, MAX_TOP = 16384, 64, 500
_OPEN = re.compile(r"\s*\(")
_CLOSE = re.compile(r"\s*\)")
_NOT = re.compile(r"\s*not\b\s*(?=[(A-Za-z])", re.IGNORECASE)
_WORD = {
    word: re.compile(rf"\s+{word}\s+(?=[(A-Za-z])|(?<=\)){word}\b\s*", re.IGNORECASE) for word in ("and", "or")
}
_LEFT = re.compile(r"""\s*([A-Za-z0-9_]+(?:/[^()"']+?)?)\s+(eq|ne|gt|ge|lt|le)\s+""", re.IGNORECASE)
# A quote inside a value does not end it unless the expression could go on after it.
_END = r"(?=\s*\)|\s+(?:and|or)\s+[(A-Za-z]|\s*$)"
_QUOTED = re.compile(rf"""\s*(?:"(.*?)"|'(.*?)'){_END}""", re.IGNORECASE | re.DOTALL)
# Of bare values only times have blanks.
_BARE = re.compile(rf"""\s*([^\s()"']+(?:\s[\d:.+-]+)?){_END}""", re.IGNORECASE)
_MAPS = ("tags", "properties", "runtypev2/traits")
_FIELDS = {
    name.lower(): name
    for name in (
        *("runId", "rootRunId", "parentRunId", "runNumber", "status", "target", "runType", "createdUtc"),
        *("startTimeUtc", "endTimeUtc", "name", "displayName", "description", "scriptName", "hidden", "userId"),
        *("experimentId", "primaryMetricName", "dataContainerId", "archivedTime"),
    )
}
_ALIASES = {"starttime": "startTimeUtc", "endtime": "endTimeUtc", "createdtime": "createdUtc"}


@dataclass(frozen=True)
class _Comparison:
    """`value` None is the word null."""

    where: str
    key: str
    operator: str
    value: str | None

    def __call__(self, document: Document) -> bool:
        found = _lookup(document, self.where, self.key)
        if self.operator == "eq":
            return _same(found, self.value)
        if self.operator == "ne":
            return not _same(found, self.value)
        if found is None or self.value is None:
            return False
        left, right = _comparable(found, self.value)
        return bool(
            {"gt": left > right, "ge": left >= right, "lt": left < right, "le": left <= right}[self.operator]
        )

    def about_null(self, operator: str) -> bool:
        return self.operator == operator and self.value is None and self.where in _MAPS


@dataclass(frozen=True)
class _Has:
    where: str
    key: str

    def __call__(self, document: Document) -> bool:
        return self.key in _map(document, self.where)


def parse(text: Any) -> Test:
    """Whether a document passes the filter; an empty one lets all pass. Raises Refused."""
    if text is None or text == "":
        return lambda document: True
    if not isinstance(text, str) or len(text) > MAX_LENGTH:
        raise _bad(str(text))
    if not text.strip():
        return lambda document: True
    parser = _Parser(text)
    test = parser.any_of(0)
    if text[parser.at :].strip():
        raise _bad(text)
    return test


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def any_of(self, depth: int) -> Test:
        tests = [self._all_of(depth)]
        while self._take(_WORD["or"]):
            tests.append(self._all_of(depth))
        return _either(tests)

    def _all_of(self, depth: int) -> Test:
        tests = [self._one(depth)]
        while self._take(_WORD["and"]):
            tests.append(self._one(depth))
        return tests[0] if len(tests) == 1 else lambda document: all(test(document) for test in tests)

    def _one(self, depth: int) -> Test:
        if depth > MAX_DEPTH:
            raise _bad(self.text)
        if self._take(_NOT):
            denied = self._one(depth + 1)
            return lambda document: not denied(document)
        if self._take(_OPEN):
            inner = self.any_of(depth + 1)
            if not self._take(_CLOSE):
                raise _bad(self.text)
            return inner
        left = self._take(_LEFT)
        if not left:
            raise _bad(self.text)
        where, key = _path(left[1], self.text)
        quoted = self._take(_QUOTED)
        if quoted:
            return _Comparison(where, key, left[2].lower(), quoted[1] if quoted[1] is not None else quoted[2])
        bare = self._take(_BARE)
        if not bare:
            raise _bad(self.text)
        value = bare[1].strip()
        return _Comparison(where, key, left[2].lower(), None if value.lower() == "null" else value)

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match


def _either(tests: list[Test]) -> Test:
    # `X ne null or X eq null` is how the client asks whether there is such a key: read literally it is always true.
    if len(tests) == 2 and all(isinstance(test, _Comparison) for test in tests):
        one, two = tests
        assert isinstance(one, _Comparison)
        assert isinstance(two, _Comparison)
        same = (one.where, one.key) == (two.where, two.key)
        if same and any(a.about_null("ne") and b.about_null("eq") for a, b in ((one, two), (two, one))):
            return _Has(one.where, one.key)
    return tests[0] if len(tests) == 1 else lambda document: any(test(document) for test in tests)


def _path(text: str, whole: str) -> tuple[str, str]:
    head, _, rest = text.partition("/")
    low = head.lower()
    if rest and low in {"tags", "properties"}:
        return low, rest
    if rest and low == "runtypev2":
        inner, _, key = rest.partition("/")
        if key and inner.lower() == "traits":
            return "runtypev2/traits", key
        return "runtypev2", inner
    name = _ALIASES.get(low) or _FIELDS.get(low)
    if rest or not name:
        raise _bad(whole)
    return "", name


def _map(document: Document, where: str) -> Mapping[str, Any]:
    if where in {"tags", "properties"}:
        return document.get(where) or {}
    of = {key.lower(): value for key, value in (document.get("runTypeV2") or {}).items()}
    if where == "runtypev2":
        return of
    traits = of.get("traits") or {}
    return traits if isinstance(traits, dict) else dict.fromkeys(traits, "")


def _lookup(document: Document, where: str, key: str) -> Any:
    if not where:
        return document.get(key)
    return _map(document, where).get(key.lower() if where == "runtypev2" else key)


def _same(found: Any, value: str | None) -> bool:
    if found is None or value is None:
        return found is None and value is None
    if isinstance(found, bool):
        return str(found).lower() == value.lower()
    if isinstance(found, int | float):
        return bool(_comparable(found, value)[0] == _comparable(found, value)[1])
    if found == value:
        return True
    one, two = moment(str(found)), moment(value)
    return one is not None and one == two


def _comparable(found: Any, value: str) -> tuple[Any, Any]:
    if isinstance(found, int | float):
        try:
            return float(found), float(value)
        except ValueError:
            return str(found), value
    one, two = moment(str(found)), moment(value)
    return (str(found), value) if one is None or two is None else (one, two)


def moment(text: str) -> datetime | None:
    """The time that a text says, None if it says none; without a zone it is UTC."""
    if len(text) < 10 or text[4:5] != "-":
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _bad(text: str) -> Refused:
    return Refused(400, "UserError", f"The filter expression can't be read: {text[:300]}")


def ordered(documents: Sequence[dict[str, Any]], orderby: Any) -> list[dict[str, Any]]:
    """In the order asked for (`Field desc`, several by commas), else as they are. Raises Refused."""
    found = list(documents)
    clauses = orderby if isinstance(orderby, list) else str(orderby or "").split(",")
    for clause in reversed([str(clause).strip() for clause in clauses if str(clause).strip()]):
        field, _, direction = clause.partition(" ")
        if direction.strip().lower() not in {"", "asc", "desc"}:
            raise Refused(400, "UserError", f"the order {clause[:100]!r} can't be read")
        where, key = _path(field, clause)
        down = direction.strip().lower() == "desc"
        found.sort(key=lambda one: _rank(_lookup(one, where, key)), reverse=down)
    return found


def _rank(value: Any) -> tuple[int, float, str]:
    if value is None:
        return (0, 0.0, "")
    return (1, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))


def page(
    documents: Sequence[dict[str, Any]], top: Any, token: Any, key: str, most: int = MAX_TOP
) -> tuple[list[dict[str, Any]], str | None]:
    """One page, and the token of the next. New documents neither repeat nor skip one that was there before.

    Raises Refused.
    """
    try:
        size = max(1, min(int(top or most), most))
        last = json.loads(base64.urlsafe_b64decode(str(token))) if token else {"at": 0, "last": None}
        start = max(0, int(last["at"]))
    except (ValueError, TypeError, KeyError):
        raise Refused(400, "UserError", "the continuation token or the page's size can't be read") from None
    if token:
        start = next((i + 1 for i, one in enumerate(documents) if one[key] == last.get("last")), start)
    found = list(documents[start : start + size])
    end = start + len(found)
    if end >= len(documents) or not found:
        return found, None
    following = json.dumps({"at": end, "last": found[-1][key]})
    return found, base64.urlsafe_b64encode(following.encode()).decode()
