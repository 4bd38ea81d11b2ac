"""The registry of problem codes, one file a family; ids are stable for ever."""

from __future__ import annotations

from edgetrain.core.codes import egress, egress_content, evaluation, history, policy, references, schema, yaml
from edgetrain.core.problem import Code

FAMILIES = (yaml, schema, references, evaluation, history, policy, egress, egress_content)


def _gather() -> dict[str, Code]:
    found: dict[str, Code] = {}
    for family in FAMILIES:
        for value in vars(family).values():
            if isinstance(value, Code):
                if value.id in found:
                    raise ValueError(f"problem code {value.id} is defined twice")
                found[value.id] = value
    return dict(sorted(found.items()))


CODES: dict[str, Code] = _gather()
