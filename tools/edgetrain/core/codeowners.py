"""CODEOWNERS as GitHub reads it: whose approval a change of a file needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# Where GitHub looks, in this order: the first that is there counts.
PLACES = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")
MAX_BYTES = 3 * 2**20
MAX_PATTERN = 500

_WORD = re.compile(r"(?:\\.|[^\s\\])+")
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*")


@dataclass(frozen=True)
class Rule:
    """One line: the paths that it is for, and who owns them (nobody, if there are none)."""

    pattern: re.Pattern[str]
    owners: tuple[str, ...]


def parse(text: str) -> tuple[Rule, ...]:
    """The rules, in the file's order; a line that GitHub would not take is left out."""
    rules = []
    for line in text.splitlines():
        words = _WORD.findall(_COMMENT.sub("", line))
        if words and not words[0].startswith("!") and "[" not in words[0] and len(words[0]) <= MAX_PATTERN:
            rules.append(Rule(re.compile(_expression(words[0]), re.DOTALL), tuple(words[1:])))
    return tuple(rules)


def owners_of(rules: Sequence[Rule], path: str) -> tuple[str, ...]:
    """Who owns the path: the last rule that fits decides."""
    return next((rule.owners for rule in reversed(rules) if rule.pattern.fullmatch(path)), ())


def by_owners(rules: Sequence[Rule], paths: Iterable[str]) -> Mapping[tuple[str, ...], Sequence[str]]:
    """The paths by who owns them, in the order of the paths."""
    found: dict[tuple[str, ...], list[str]] = {}
    for path in paths:
        found.setdefault(owners_of(rules, path), []).append(path)
    return found


def _expression(pattern: str) -> str:
    """The pattern as a regular expression for a whole path."""
    anchored = "/" in pattern.rstrip("/")
    parts = pattern.strip("/").split("/")
    told = "" if anchored else r"(?:.+/)?"
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        if part == "**":
            told += ".*" if last else r"(?:.+/)?"
        else:
            told += _segment(part) + ("" if last else "/")
    if pattern.endswith("/"):
        return told + "/.+"
    # A name may be a folder's: then all in it is meant, but `folder/*` are the files of that folder alone.
    return told if parts[-1] == "**" or (anchored and parts[-1] == "*") else told + "(?:/.+)?"


def _segment(part: str) -> str:
    told, at = "", 0
    while at < len(part):
        if part[at] == "\\" and at + 1 < len(part):
            at += 1
            told += re.escape(part[at])
        else:
            told += {"*": "[^/]*", "?": "[^/]"}.get(part[at], re.escape(part[at]))
        at += 1
    return told
