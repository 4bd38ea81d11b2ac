"""The parts of a record that other code reads without asking again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgetrain.core.digest import SHA256, canonical, digest_bytes
from edgetrain.core.scores import check_evaluation

_NUMBER = (int, float)
# What other code reads inside: by kind, and for releases by event.
_OPEN_TEXT = (str, type(None))
_PARTS: dict[str, dict[str, Any]] = {
    "RunRecord": {
        **{f"identityOf.{key}": str for key in ("experiment", "command", "code")},
        **{f"identityOf.{key}": _OPEN_TEXT for key in ("requirements", "image", "python", "platform")},
        **{f"identityOf.{key}": dict for key in ("parameters", "inputs", "outputs")},
        "identityOf.seed": (int, type(None)),
        **{f"target.{key}": str for key in ("name", "type", "site", "egress")},
        "gates.digest": str,
        "gates.results": list,
    },
    "EvaluationRecord": {"gates.digest": str, "gates.results": list},
}
_IMAGE: dict[str, Any] = {f"image.{key}": str for key in ("registry", "repository", "digest")}
_EVENTS: dict[str, dict[str, Any]] = {
    "released": {**_IMAGE, "image.tags": list},
    "channel": {"channel": str, "from": (int, type(None)), "to": (int, type(None)), "follows": _OPEN_TEXT},
    "withdrawn": {"why": str},
    "registered": {"registered.type": str, "registered.version": str, "from": str},
}
_ABSENT = object()
_Parts = Mapping[str, Sequence[tuple[str, Sequence[type]]]]


def _pointers(parts: Mapping[str, Any]) -> _Parts:
    """By the object that holds them (empty: the record itself), each part's key and the types that it may have."""
    found: dict[str, list[tuple[str, Sequence[type]]]] = {}
    for name, types in parts.items():
        holder, _, key = name.rpartition(".")
        found.setdefault(holder, []).append((key, types if isinstance(types, tuple) else (types,)))
    return found


_OF_KIND: Mapping[str, _Parts] = {kind: _pointers(parts) for kind, parts in _PARTS.items()}
_OF_EVENT: Mapping[str, _Parts] = {event: _pointers(parts) for event, parts in _EVENTS.items()}


def check_parts(value: Mapping[str, Any]) -> None:
    """ValueError, in words for people, if one is missing or of another type."""
    if value["kind"] in ("RunRecord", "EvaluationRecord"):
        for key in ("metrics", "selfReported"):
            for name, number in _mapping(value, key).items():
                if not isinstance(number, _NUMBER) or isinstance(number, bool):
                    raise ValueError(f"metric {name!r} is not a number")
        if "evaluation" in value:
            check_evaluation(value["evaluation"])
    if value["kind"] == "RunRecord":
        _mapping(value, "workspace")
        for name, output in value["outputs"].items():
            if not _is_output(output):
                raise ValueError(f"output {name!r} has no list of files with their digests and sizes")
    inputs = value["inputs"] if value["kind"] == "RunRecord" else {}
    for name, entry in inputs.items():
        if not isinstance(entry, dict) or not SHA256.fullmatch(str(entry.get("digest"))):
            raise ValueError(f"input {name!r} has no digest")
    provenance = value.get("provenance")
    if isinstance(provenance, dict) and "review" in provenance and provenance["review"] is not None:
        from edgetrain.core.review import read_review  # here: what is known already is not checked

        try:
            read_review(provenance["review"])
        except ValueError as error:
            raise ValueError(f"provenance.review: {error}") from None
    if value["kind"] == "RunRecord" and value["identity"] != digest_bytes(canonical(value["identityOf"])):
        raise ValueError("identity is not the digest of identityOf")
    parts = _OF_KIND.get(value["kind"], {})
    if value["kind"] == "ReleaseRecord":
        if value["event"] not in _OF_EVENT:
            raise ValueError("event is not a known one")
        parts = _OF_EVENT[value["event"]]
    for holder, inside in parts.items():
        at: Any = value.get(holder) if holder else value
        known: Mapping[str, Any] = at if type(at) is dict else {}
        for key, types in inside:
            if type(known.get(key, _ABSENT)) not in types:  # as JSON gives it: true is no int
                raise ValueError(f"{holder}{holder and '.'}{key} is missing or of another type")


def _is_output(output: Any) -> bool:
    if not isinstance(output, dict) or not isinstance(output.get("files"), list):
        return False
    return isinstance(output.get("digest"), str) and all(
        isinstance(file, dict) and type(file.get("size")) is int and SHA256.fullmatch(str(file.get("digest")))
        for file in output["files"]
    )


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key, {})
    if not isinstance(found, dict):
        raise ValueError(f"{key} is not an object")
    return found
