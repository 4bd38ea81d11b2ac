"""Tags and properties: what the service takes, and the filter grammar of its lists."""

from __future__ import annotations

from typing import Any

from azureml_emulator.message import Refused

# The service's published limits of runs; for models and environments it publishes none, and takes no fewer.
MAX_COUNT = 50
MAX_KEY = 100
MAX_VALUE = 1000


def checked(value: Any, what: str, *, strict: bool) -> dict[str, str | None]:
    """A map of texts; an absent one is empty. `what` is the field's name. Raises Refused (400)."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(400, "BadArgument", f"{what} is not an object")
    for key, item in value.items():
        if item is not None and not isinstance(item, str):
            raise Refused(400, "BadArgument", f"{what}: the value of {key[:MAX_KEY]!r} is not a string")
        if strict and (not key or len(key) > MAX_KEY):
            raise Refused(400, "BadArgument", f"{what}: a key has 1 to {MAX_KEY} characters")
        if strict and len(item or "") > MAX_VALUE:
            raise Refused(400, "BadArgument", f"{what}: the value of {key!r} is longer than {MAX_VALUE} characters")
    if strict and len(value) > MAX_COUNT:
        raise Refused(400, "BadArgument", f"{what}: more than {MAX_COUNT}")
    return dict(value)


def matches(have: dict[str, Any], wanted: str) -> bool:
    """Whether all of a comma separated `key` or `key=value` hold. There is no escaping, as in the service."""
    for part in filter(None, (item.strip() for item in wanted.split(","))):
        key, equals, value = part.partition("=")
        if key not in have or (equals and have[key] != value):
            return False
    return True
