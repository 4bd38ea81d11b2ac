"""A secret's value: it shows itself nowhere but where it is asked for."""

from __future__ import annotations

from collections.abc import Iterable

HIDDEN = "***"
# Shorter values would be found in innocent text.
LEAST = 4


class Secret:
    """One secret; `repr`, `str`, formatting and JSON never show it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value, for the call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return HIDDEN

    def __reduce__(self) -> str:
        raise TypeError("a secret is not stored")


def redact(text: str, secrets: Iterable[Secret]) -> str:
    """The text with every secret's value, and its lines, replaced."""
    for secret in secrets:
        for part in {secret.reveal(), *secret.reveal().splitlines()}:
            if len(part.strip()) >= LEAST:
                text = text.replace(part, HIDDEN)
    return text
