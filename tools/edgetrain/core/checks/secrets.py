"""Finds where manifests use declared secrets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgetrain.core.document import Pointer


def secrets_in(value: Any, pointer: Pointer) -> Iterator[tuple[Pointer, str]]:
    """Every `{secret: NAME}` below, with the pointer to NAME."""
    if isinstance(value, dict):
        if set(value) == {"secret"} and isinstance(value["secret"], str):
            yield (*pointer, "secret"), value["secret"]
            return
        for key, item in value.items():
            yield from secrets_in(item, (*pointer, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from secrets_in(item, (*pointer, index))
