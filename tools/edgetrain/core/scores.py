"""The form in which records hold what an evaluation measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgetrain.core.digest import SHA256, digest_of

# What a record tells of the scores of one model.
ENTRY = ("artifact", "metrics", "slices", "target", "egress")
_SCORED = {"artifact": str, "target": str, "egress": dict}
SELF_REPORTED, EVALUATED = "self-reported", "evaluated"


def check_evaluation(value: Any) -> None:
    """The `evaluation` of a record. ValueError, in words for people, if other code could not read it."""
    if not isinstance(value, dict) or not SHA256.fullmatch(str(value.get("identity"))):
        raise ValueError("evaluation has no identity")
    of, inputs, references = (value.get(key) for key in ("identityOf", "inputs", "references"))
    if not isinstance(of, dict) or digest_of(of) != value["identity"]:
        raise ValueError("evaluation.identity is not the digest of evaluation.identityOf")
    if not isinstance(inputs, dict) or not isinstance(references, dict) or not isinstance(of.get("inputs"), dict):
        raise ValueError("evaluation has no inputs or references")
    for name, entry in inputs.items():
        if not isinstance(entry, dict) or entry.get("digest") != of["inputs"].get(name):
            raise ValueError(f"evaluation.inputs: {name!r} is not what was evaluated on")
    for entry in (value, *references.values()):
        if not isinstance(entry, dict):
            raise ValueError("evaluation.references: not an object")
        if ("metrics" in entry) != ("slices" in entry) or not isinstance(entry.get("artifact"), str | None):
            raise ValueError("evaluation: metrics, slices and artifact belong together")
        if "metrics" in entry and not all(isinstance(entry.get(key), kind) for key, kind in _SCORED.items()):
            raise ValueError("evaluation: artifact, target or egress is missing")
        for name, number in _numbers(entry):
            if not isinstance(number, int | float) or isinstance(number, bool):
                raise ValueError(f"evaluation: metric {name!r} is not a number")


def _numbers(entry: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    metrics, slices = entry.get("metrics", {}), entry.get("slices", {})
    if not isinstance(metrics, dict) or not isinstance(slices, dict):
        raise ValueError("evaluation: metrics or slices are not objects")
    yield from metrics.items()
    for name, found in slices.items():
        if not isinstance(found, dict):
            raise ValueError(f"evaluation: slice {name!r} is not an object")
        yield from ((f"{name}/{metric}", number) for metric, number in found.items())
