"""The part of GitHub's expressions that decides what runs, and when; all others are act's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<sign>\|\||&&|==|!=|[(),])|(?P<name>[A-Za-z_][\w.-]*))")
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
FUNCTIONS: dict[str, Callable[[Any], Any]] = {"fromJSON": json.loads}


class NotUnderstood(ValueError):
    """The expression uses more than is known here."""


def interpolate(text: str, contexts: Mapping[str, Any]) -> str:
    """The text with its expressions replaced. Raises NotUnderstood."""
    return EXPRESSION.sub(lambda found: _text(evaluate(found[1], contexts)), text)


def value(text: Any, contexts: Mapping[str, Any]) -> Any:
    """What a key's value is: that of its one expression, whatever the type, or the text. Raises NotUnderstood."""
    whole = EXPRESSION.fullmatch(text.strip()) if isinstance(text, str) else None
    if whole:
        return evaluate(whole[1], contexts)
    return interpolate(text, contexts) if isinstance(text, str) else text


def evaluate(expression: str, contexts: Mapping[str, Any]) -> Any:
    """The value of an expression without its braces. Raises NotUnderstood."""
    tokens, at = [], 0
    while expression[at:].strip():
        found = TOKEN.match(expression, at)
        if found is None:
            raise NotUnderstood(f"not understood: {expression[at:].strip()!r}")
        tokens.append(found[0].strip())
        at = found.end()
    parser = _Parser(tokens, contexts)
    result = parser.either()
    if parser.rest:
        raise NotUnderstood(f"not understood: {' '.join(parser.rest)!r}")
    return result


class _Parser:
    """What is left of the tokens; each method takes off what it is named for."""

    def __init__(self, tokens: list[str], contexts: Mapping[str, Any]) -> None:
        self.rest = tokens
        self._contexts = contexts

    def _take(self, *signs: str) -> str:
        return self.rest.pop(0) if self.rest and self.rest[0] in signs else ""

    def either(self) -> Any:
        found = self._both()
        while self._take("||"):
            other = self._both()
            found = found or other
        return found

    def _both(self) -> Any:
        found = self._compared()
        while self._take("&&"):
            other = self._compared()
            found = found and other
        return found

    def _compared(self) -> Any:
        found = self._one()
        while sign := self._take("==", "!="):
            same = _comparable(found) == _comparable(self._one())
            found = same if sign == "==" else not same
        return found

    def _one(self) -> Any:
        if self._take("("):
            found = self.either()
        elif not self.rest:
            raise NotUnderstood("it ends too early")
        else:
            token = self.rest.pop(0)
            if token.startswith("'"):
                return token[1:-1].replace("''", "'")
            if not self._take("("):
                return _looked_up(token, self._contexts)
            if token not in FUNCTIONS:
                raise NotUnderstood(f"no function {token}")
            found = FUNCTIONS[token](self.either())
        if not self._take(")"):
            raise NotUnderstood("a bracket is missing")
        return found


def _looked_up(name: str, contexts: Mapping[str, Any]) -> Any:
    if name in ("true", "false", "null"):
        return json.loads(name)
    first, *others = name.split(".")
    if first not in contexts:
        raise NotUnderstood(f"no context {first}")
    found: Any = contexts[first]
    for part in others:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _comparable(found: Any) -> Any:
    return "" if found is None else found.lower() if isinstance(found, str) else found


def _text(found: Any) -> str:
    if isinstance(found, bool):
        return str(found).lower()
    return "" if found is None else str(found)
