"""Problems, plans, results and codes as JSON for machines; ASCII only, so that every stream can carry it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgetrain.core.problem import Code, Problem, Severity

if TYPE_CHECKING:
    from edgetrain.core.plan import Plan
    from edgetrain.render.outcome import Applied


def as_json(value: Any) -> str:
    """Indented JSON with a newline at its end."""
    return json.dumps(value, indent=2) + "\n"


def problems_json(problems: Sequence[Problem]) -> str:
    """`{"problems": [...], "counts": {...}}`."""
    warnings = sum(found.severity is Severity.WARNING for found in problems)
    return as_json(
        {
            "problems": [
                {name: getattr(found, name) for name in Problem.__dataclass_fields__} for found in sorted(problems)
            ],
            "counts": {"problems": len(problems) - warnings, "warnings": warnings},
        }
    )


def plan_json(plan: Plan) -> str:
    """The plan as `apply --plan` takes it."""
    return as_json(plan.to_json())


def applied_json(applied: Applied, next_steps: Sequence[str] = ()) -> str:
    """An apply's end, with the plan of its first round."""
    return as_json(
        {
            "good": applied.good,
            "stopped": applied.stopped,
            "rounds": applied.rounds,
            "commit": applied.commit,
            "results": [
                {
                    "change": row.change,
                    "operation": row.operation,
                    "status": str(row.status),
                    "reason": row.reason,
                    "message": row.message,
                    "fix": row.fix,
                    "outcome": row.outcome.value if row.outcome else None,
                }
                for row in applied.results
            ],
            "notes": list(applied.notes),
            "next": list(next_steps),
            "plan": applied.plan.to_json(),
        }
    )


def codes_json(codes: Sequence[Code]) -> str:
    """Problem codes, explained."""
    return as_json([{name: getattr(code, name) for name in Code.__dataclass_fields__} for code in codes])
