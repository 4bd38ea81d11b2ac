"""Identity v1 of a run: what makes two runs the same run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgetrain.core.digest import digest_of
from edgetrain.core.kinds.experiment import Experiment

# Which part of the identity a difference lies in, as the plan names it.
REASONS = {
    "code": "CodeChanged",
    "command": "CommandChanged",
    "inputs": "DataChanged",
    "outputs": "OutputsChanged",
    "parameters": "ParametersChanged",
    "requirements": "EnvironmentChanged",
    "image": "EnvironmentChanged",
    "python": "EnvironmentChanged",
    "platform": "EnvironmentChanged",
    "seed": "SeedChanged",
}


def fields(
    experiment: Experiment,
    trial: Mapping[str, Any],
    *,
    code: str,
    requirements: str | None,
    inputs: Mapping[str, str | None],
    python: str | None,
    platform: str | None,
) -> dict[str, Any]:
    """All that the identity is made of. None for an input's digest, `python` or `platform`: not known yet.

    A trial's parameters count like any others, so a run of a sweep equals the same run made alone.
    """
    return {
        "version": 1,
        "experiment": experiment.name,
        "command": experiment.command,
        "parameters": {**experiment.parameters, **trial},
        "seed": experiment.seed,
        "code": code,
        "requirements": requirements,
        "python": python,
        "platform": platform,
        "image": experiment.environment.image,
        "outputs": {name: {"path": o.path, "type": o.type} for name, o in experiment.outputs.items()},
        "inputs": dict(inputs),
    }


def known(of: Mapping[str, Any]) -> bool:
    """Whether every part is known, so that the identity can be told."""
    return of["python"] is not None and of["platform"] is not None and None not in of["inputs"].values()


def identity(of: Mapping[str, Any]) -> str:
    """`sha256:<hex>` over the canonical form of the fields, which must all be known."""
    if not known(of):
        raise ValueError("the identity is not known before data and environment were looked at")
    return digest_of(of)


def matches(wanted: Mapping[str, Any], recorded: Mapping[str, Any]) -> bool:
    """Whether a recorded run is the wanted one; Python and platform count only where they are wanted."""
    for key, value in wanted.items():
        if key in ("python", "platform") and value is None:
            continue
        if recorded.get(key) != value:
            return False
    return set(recorded) == set(wanted)


def may_match(wanted: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """As `matches`, where a data input whose digest is not known now may be any."""
    seen = other["inputs"]
    inputs = {name: seen.get(name) if digest is None else digest for name, digest in wanted["inputs"].items()}
    return matches({**wanted, "inputs": inputs}, other)
