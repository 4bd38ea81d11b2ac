"""Bodies of requests as the services take them: objects, with keys in any case."""

from __future__ import annotations

from typing import Any

from azureml_emulator.message import Refused, Request, insensitive


def given(request: Request) -> dict[str, Any]:
    """The body, which must be an object. Raises Refused."""
    body = request.json()
    if not isinstance(body, dict):
        raise Refused(400, "UserError", "the body is not an object")
    return body


def lowered(request: Request) -> dict[str, Any]:
    """The same with every key in lower case. Raises Refused."""
    found: dict[str, Any] = insensitive(given(request))
    return found


def pick(value: Any, wanted: str) -> Any:
    """The value under a key in any case, None if it is not there."""
    if not isinstance(value, dict):
        return None
    return next((item for key, item in value.items() if str(key).lower() == wanted.lower()), None)


def objects(value: Any, wanted: str) -> list[dict[str, Any]]:
    """The list of objects under a key in any case. Raises Refused."""
    return _listed(value, wanted, dict)


def texts(value: Any, wanted: str) -> list[str]:
    """The list of texts under a key in any case. Raises Refused."""
    return _listed(value, wanted, str)


def _listed(value: Any, wanted: str, kind: type) -> list[Any]:
    found = pick(value, wanted) or []
    if not isinstance(found, list) or not all(isinstance(one, kind) for one in found):
        raise Refused(400, "UserError", f"{wanted} is not a list of the right kind")
    return found
